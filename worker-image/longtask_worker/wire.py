"""The body of a report and the answer to it; the bounds are those of LongTask's status. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_WORD = 63
MAX_MESSAGE = 1024
MAX_SECONDS = 3600.0

_LIMITS = {"unit": MAX_WORD, "stage": MAX_WORD, "message": MAX_MESSAGE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the operator answered to a report. The defaults are those of an answer that says nothing."""

    status: int
    cancel: bool = False
    #: A newer attempt exists.
    stop: bool = False
    #: RFC 3339, as the operator wrote it.
    deadline: str | None = None
    #: Save a checkpoint now, as before a suspend.
    checkpoint_requested: bool = False
    #: URI of the newest checkpoint of this attempt that stands in the status.
    accepted_checkpoint: str | None = None
    #: Seconds until the next report.
    interval: float | None = None
    #: Seconds that the operator wants to be left alone.
    retry_after: float | None = None

    @property
    def ok(self) -> bool:
        """Say whether the report was taken."""
        return self.status == 200


def build_report(sequence: int, facts: Mapping[str, Any]) -> bytes:
    """Return the JSON body of one report; facts that are None are left out, long words are cut."""
    body: dict[str, Any] = {"sequence": sequence}
    for key, value in facts.items():
        if value is not None:
            body[key] = clean(value, _LIMITS[key]) if key in _LIMITS else value
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def parse_answer(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Return the answer; whatever is malformed counts as not said. Names of *headers* are in lower case."""
    fields = _parse_object(body)
    retry_after = _seconds(headers.get("retry-after"))
    if status == 409:
        return Answer(status=status, stop=fields.get("stop") is True, retry_after=retry_after)
    if status != 200:
        return Answer(status=status, retry_after=retry_after)
    deadline = fields.get("deadline")
    return Answer(
        status=status,
        cancel=fields.get("cancel") is True,
        deadline=deadline if isinstance(deadline, str) else None,
        checkpoint_requested=fields.get("checkpointRequested") is True,
        accepted_checkpoint=_uri(fields.get("checkpoint")),
        interval=_seconds(fields.get("nextReportSeconds")),
    )


def clean(text: object, limit: int) -> str:
    """Return *text* as valid UTF-8 of at most *limit* characters."""
    return str(text)[:limit].encode("utf-8", "replace").decode()


def _parse_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _uri(value: object) -> str | None:
    uri = value.get("uri") if isinstance(value, dict) else None
    return uri if isinstance(uri, str) else None


def _seconds(value: object) -> float | None:
    """Return a usable number of seconds. A date in Retry-After is not understood: the operator sends none."""
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return min(seconds, MAX_SECONDS) if seconds > 0 else None
