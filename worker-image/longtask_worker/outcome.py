"""How a task ended, as the operator learns it: the bytes of the termination message.

The message is one JSON object of at most 4096 bytes, which is what the kubelet keeps. A
result up to 3,072 bytes of compact JSON stands in it; a larger one goes to an output of the
task and is named by URI. Text is cut, a result never.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from longtask_worker import exit_codes
from longtask_worker.errors import ResultError
from longtask_worker.progress import Snapshot
from longtask_worker.wire import clean

MAX_OUTCOME_BYTES = 4096
MAX_RESULT_BYTES = 3072
MAX_MESSAGE = 1024
MAX_LOG_TAIL = 2048
_SHA256 = re.compile(r"[0-9a-f]{64}")
# ASCII, and nothing that JSON escapes: so the longest still fits the termination message.
_URI = re.compile(r"[a-z][a-z0-9+.-]{0,31}://[!#-\[\]-~]{1,2000}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A result that is too large to stand inline: the function wrote it to *uri* and returns this."""

    #: Where the data is, for example below one of `task.outputs`.
    uri: str
    #: SHA-256 of the data, 64 lower-case hex digits.
    sha256: str | None = None
    #: Size of the data in bytes.
    size_bytes: int | None = None

    def __post_init__(self) -> None:
        """Refuse, with ValueError, what the operator would refuse."""
        if not _URI.fullmatch(self.uri):
            raise ValueError(f"the result's uri is not an absolute ASCII URI of at most 2,000 characters: {self.uri!r}")
        if self.sha256 is not None and not _SHA256.fullmatch(self.sha256):
            raise ValueError(f"the result's sha256 is not 64 lower-case hex digits: {self.sha256!r}")
        if self.size_bytes is not None and self.size_bytes < 0:
            raise ValueError(f"the result's size_bytes is negative: {self.size_bytes}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of a task."""

    exit_code: int = exit_codes.OK
    #: What the function returned; None is no result.
    result: object = None
    message: str | None = None
    permanent: bool = False
    #: Where it came from, in the log's own words: a traceback.
    log_tail: str | None = None


def encode_outcome(
    outcome: Outcome,
    progress: Snapshot,
    checkpoint: dict[str, object] | None = None,
    resumed_from: str | None = None,
) -> bytes:
    """Return the termination message: UTF-8 JSON of at most MAX_OUTCOME_BYTES.

    *checkpoint* is the last complete one, *resumed_from* the manifest that the work went on from, empty for none.
    Text is cut to fit. What does not fit beside a large result is left out: a finished task has no use for a
    checkpoint, and where it began was reported.
    """
    fields: dict[str, Any] = {"longtask": 1, **_result_fields(outcome.result)}
    if outcome.permanent:
        fields["permanent"] = True
    counts = {"done": progress.done, "total": progress.total}
    fields.update((key, count) for key, count in counts.items() if count is not None)
    more = {"checkpoint": checkpoint, "resumedFrom": resumed_from}
    for key, value in more.items():
        if value is not None and len(_compact({**fields, key: value})) <= MAX_OUTCOME_BYTES:
            fields[key] = value
    if outcome.message:
        spare = MAX_OUTCOME_BYTES - len(_compact({**fields, "message": ""}))
        if spare > 0:
            fields["message"] = _cut(clean(outcome.message, MAX_MESSAGE), spare)
    if outcome.log_tail:
        spare = MAX_OUTCOME_BYTES - len(_compact({**fields, "logTail": ""}))
        if spare > 0:
            fields["logTail"] = _cut_from_its_end(clean(outcome.log_tail[-MAX_LOG_TAIL:], MAX_LOG_TAIL), spare)
    return _compact(fields)


def encode_result(result: object) -> bytes:
    """Return *result* as compact JSON; ResultError if it is not JSON."""
    try:
        return _compact(result)
    except (TypeError, ValueError, RecursionError) as error:
        raise ResultError(f"the result is not JSON: {error}") from error


def plain(result: object) -> object:
    """Return *result* as JSON shows it to a person."""
    return _reference(result) if isinstance(result, Result) else result


def _result_fields(result: object) -> dict[str, Any]:
    if result is None:
        return {}
    return _reference(result) if isinstance(result, Result) else {"result": result}


def _reference(result: Result) -> dict[str, Any]:
    fields = {"uri": result.uri, "sha256": result.sha256, "sizeBytes": result.size_bytes}
    return {key: value for key, value in fields.items() if value is not None}


def _cut(text: str, spare: int) -> str:
    """Return the longest beginning of *text* whose JSON takes at most *spare* bytes between its quotes."""
    while len(_compact(text)) - 2 > spare:
        excess = len(_compact(text)) - 2 - spare
        text = text[: -max(excess // 6, 1)]  # no character takes more than 6 bytes
    return text


def _cut_from_its_end(text: str, spare: int) -> str:
    """Return the longest end of *text* whose JSON takes at most *spare* bytes between its quotes."""
    return _cut(text[::-1], spare)[::-1]


def _compact(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
