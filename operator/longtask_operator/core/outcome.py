"""What a worker leaves behind: the termination message of the task container.

A JSON object with the key `longtask` is an outcome; any other text is a log tail, which
the kubelet put there (`FallbackToLogsOnError`), and never an outcome.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from longtask_operator.api.longtask import Result

MAX_MESSAGE_BYTES = 4096
MAX_RESULT_BYTES = 3072
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
    return Outcome(
        result=_result(data),
        permanent=data.get("permanent") is True,
        message=str(data.get("message") or "")[:1024],
        done=_count(data.get("done")),
        total=_count(data.get("total")),
    )


def parse_progress_line(text: str) -> tuple[int, int] | None:
    """Return done and total of a line `done/total message`, as the sidecar leaves it, or None if it is none."""
    match = _PROGRESS_LINE.match(text)
    return (int(match["done"]), int(match["total"])) if match else None


def log_tail(text: str) -> str | None:
    """Return the last 2 KiB of a termination message that is no outcome, or None if nothing is left."""
    raw = text.encode("utf-8", errors="replace")[-LOG_TAIL_BYTES:]
    return raw.decode("utf-8", errors="ignore").strip("\x00 \n") or None


def _result(data: dict[str, Any]) -> Result | None:
    if isinstance(data.get("uri"), str):
        return Result(
            uri=data["uri"][:2048], sha256=_text(data.get("sha256"), 64), size_bytes=_count(data.get("sizeBytes"))
        )
    result = data.get("result")
    if result is None or len(json.dumps(result, ensure_ascii=False, separators=(",", ":")).encode()) > MAX_RESULT_BYTES:
        return None
    return Result(value=result)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None


def _text(value: Any, limit: int) -> str | None:
    return value[:limit] if isinstance(value, str) else None
