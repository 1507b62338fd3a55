"""What a worker leaves behind: the termination message of the task container.

A JSON object with the key `longtask` is an outcome; any other text is a log tail, which
the kubelet put there (`FallbackToLogsOnError`), and never an outcome.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from longtask_operator.api.report import ReportError, SavedCheckpoint, parse_checkpoint, parse_resumed_from
from longtask_operator.api.status import Result
from longtask_operator.api.text import printable

P = TypeVar("P")

MAX_MESSAGE_BYTES = 4096
MAX_RESULT_BYTES = 3072
MAX_RESULT_DEPTH = 100  #: well under what libraries on the way refuse
LOG_TAIL_BYTES = 2048
_PROGRESS_LINE = re.compile(r"^\s*(?P<done>[0-9]{1,18})\s*/\s*(?P<total>[0-9]{1,18})(\s|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """An outcome as the worker wrote it."""

    result: Result | None = None
    permanent: bool = False
    message: str = ""
    done: int | None = None
    total: int | None = None
    checkpoint: SavedCheckpoint | None = None  #: the last complete one
    resumed_from: str | None = None  #: manifest that the work went on from; empty: none
    log_tail: str | None = None  #: the last lines of the log, as the worker knows them


def parse_outcome(text: str) -> Outcome | None:
    """Return the outcome in a termination message, or None if it is a log tail or empty. Raises nothing."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or data.get("longtask") != 1:
        return None
    result, fault = _result(data)
    return Outcome(
        result=result,
        permanent=data.get("permanent") is True,
        message=_clean(str(data.get("message") or "") or fault)[:1024],
        done=_count(data.get("done")),
        total=_count(data.get("total")),
        checkpoint=_well_formed(parse_checkpoint, data),
        resumed_from=_well_formed(parse_resumed_from, data),
        log_tail=log_tail(str(data.get("logTail") or "")),
    )


def parse_progress_line(text: str) -> tuple[int, int] | None:
    """Return done and total of a line `done/total message`, as the sidecar leaves it, or None if it is none."""
    match = _PROGRESS_LINE.match(text)
    return (int(match["done"]), int(match["total"])) if match else None


def log_tail(text: str) -> str | None:
    """Return the last 2 KiB of a termination message that is no outcome, or None if nothing is left."""
    raw = _clean(text).encode()[-LOG_TAIL_BYTES:]
    return raw.decode("utf-8", errors="ignore").strip(" \n") or None


def _result(data: dict[str, Any]) -> tuple[Result | None, str]:
    """Return the result, and what is wrong with it if it cannot be kept."""
    if isinstance(data.get("uri"), str):
        uri, sha256 = _clean(data["uri"])[:2048], _text(data.get("sha256"), 64)
        return Result(uri=uri, sha256=sha256, size_bytes=_count(data.get("sizeBytes"))), ""
    value = data.get("result")
    if value is None:
        return None, ""
    try:
        raw = orjson.dumps(value)
    except TypeError as error:
        return None, f"the result is not kept: {error}"
    if len(raw) > MAX_RESULT_BYTES:
        return None, f"the result is not kept: it has {len(raw)} bytes, more than {MAX_RESULT_BYTES}; write it to a uri"
    if _is_deep(value, MAX_RESULT_DEPTH):
        return None, f"the result is not kept: it is nested deeper than {MAX_RESULT_DEPTH} levels"
    return Result(value=orjson.loads(raw)), ""


def _well_formed(parse: Callable[[dict[str, Any]], P | None], data: dict[str, Any]) -> P | None:
    """Return what *parse* finds; where it is malformed, that counts as not said, and the rest still holds."""
    try:
        return parse(data)
    except ReportError:
        return None


def _is_deep(value: Any, levels: int) -> bool:
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels == 0 or any(_is_deep(member, levels - 1) for member in members)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None


def _text(value: Any, limit: int) -> str | None:
    return _clean(value)[:limit] if isinstance(value, str) else None


def _clean(text: str) -> str:
    """Return *text* for people's terminals, without halves of surrogate pairs: JSON can name them, UTF-8 not hold."""
    return printable(text.encode("utf-8", errors="replace").decode())
