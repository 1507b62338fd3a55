"""The body of a report and the answer to it; the bounds are those of LongTask's status.

Plain classes and few imports here and in what sends reports: the sidecar uses them too,
with a hundredth of a CPU.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_WORD = 63
MAX_MESSAGE = 1024
DEFAULT_INTERVAL = 5.0
MAX_INTERVAL = 3600.0

_FIELDS = ("done", "total", "unit", "stage", "message", "memoryBytes", "cpuSeconds")


def build_report(sequence: int, facts: dict[str, Any]) -> bytes:
    """Return the JSON body of one report; facts that are None are left out, long words are cut."""
    body: dict[str, Any] = {"sequence": sequence}
    body.update((key, facts[key]) for key in _FIELDS if facts.get(key) is not None)
    for key in ("unit", "stage"):
        if key in body:
            body[key] = clean(body[key], MAX_WORD)
    if "message" in body:
        body["message"] = clean(body["message"], MAX_MESSAGE)
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def clean(text: object, limit: int) -> str:
    """Return *text* as valid UTF-8 of at most *limit* characters."""
    return str(text)[:limit].encode("utf-8", "replace").decode()


class Answer:
    """What the operator answered to a report. The defaults are those of an answer that says nothing."""

    __slots__ = ("cancel", "deadline", "interval", "retry_after", "status", "stop")

    def __init__(self, status: int) -> None:
        self.status = status
        self.cancel = False
        self.stop = False
        #: RFC 3339, as the operator wrote it; None if absent.
        self.deadline: str | None = None
        #: Seconds until the next report, if the operator said so.
        self.interval: float | None = None
        #: Seconds that the operator wants to be left alone.
        self.retry_after: float | None = None

    @property
    def ok(self) -> bool:
        """Say whether the report was taken."""
        return self.status == 200


def parse_answer(status: int, headers: dict[str, str], body: bytes) -> Answer:
    """Return the answer; whatever is malformed counts as not said."""
    answer = Answer(status)
    answer.retry_after = _seconds(headers.get("retry-after"))
    fields = _parse_object(body)
    if status == 200:
        answer.cancel = fields.get("cancel") is True
        answer.interval = _seconds(fields.get("nextReportSeconds"))
        deadline = fields.get("deadline")
        answer.deadline = deadline if isinstance(deadline, str) else None
    elif status == 409:
        answer.stop = fields.get("stop") is True
    return answer


def _parse_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _seconds(value: object) -> float | None:
    """Return a usable number of seconds. A date in Retry-After is not understood: the operator sends none."""
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return min(seconds, MAX_INTERVAL) if seconds > 0 else None
