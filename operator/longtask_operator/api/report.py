"""A worker's report and the answer to it: shapes and bounds, nothing about who may send one.

Bounds are those of `status.progress`, so that no accepted report can make a status that
the API server refuses. Unknown keys are ignored: a newer worker may say more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from longtask_operator.api.text import printable
from longtask_operator.api.times import format_time

MAX_BODY_BYTES = 16 * 1024
#: The leader asks itself here whether reports would come through; anybody may.
PROBE_PATH = "/v1/probe"
MAX_WORD = 63
MAX_MESSAGE = 1024
MAX_COUNT = 2**63 - 1
MAX_CHECKPOINT_URI = 384
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ReportError(ValueError):
    """The report is malformed at *field*; *message* says what is expected there."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedCheckpoint:
    """A complete checkpoint as its worker names it."""

    uri: str  #: of its manifest
    sha256: str  #: of the manifest's bytes, in hex
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One report. None is what the worker did not say."""

    sequence: int  #: rises with every report of an attempt
    done: int | None = None
    total: int | None = None
    unit: str | None = None
    stage: str | None = None
    message: str | None = None
    memory_bytes: int | None = None  #: in use now
    cpu_seconds: float | None = None  #: used since the attempt's start
    checkpoint: SavedCheckpoint | None = None  #: the newest complete one
    resumed_from: str | None = None  #: manifest that the work went on from; empty: none


def parse_report(raw: bytes) -> Report:
    """Return the report in a request's body.

    Raises:
        ReportError: if it is not a JSON object or a field breaks its bounds; nothing else.
    """
    body = _parse_object(raw)
    sequence = _count(body, "sequence")
    if sequence is None:
        raise ReportError("sequence", "is required: a whole number that rises with every report")
    return Report(
        sequence=sequence,
        done=_count(body, "done"),
        total=_count(body, "total"),
        unit=_text(body, "unit", MAX_WORD),
        stage=_text(body, "stage", MAX_WORD),
        message=_text(body, "message", MAX_MESSAGE),
        memory_bytes=_count(body, "memoryBytes"),
        cpu_seconds=_seconds(body, "cpuSeconds"),
        checkpoint=parse_checkpoint(body),
        resumed_from=parse_resumed_from(body),
    )


def parse_checkpoint(body: Mapping[str, Any]) -> SavedCheckpoint | None:
    """Return what *body* says under `checkpoint`, None where it says nothing. Raises ReportError."""
    said = body.get("checkpoint")
    if said is None:
        return None
    if not isinstance(said, dict):
        raise ReportError("checkpoint", "is not an object with uri, sha256 and sizeBytes")
    uri, sha256 = said.get("uri"), said.get("sha256")
    if not uri or not _is_uri(uri):
        raise ReportError("checkpoint.uri", f"is not a URI of at most {MAX_CHECKPOINT_URI} ASCII characters")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise ReportError("checkpoint.sha256", "is not a SHA-256 as 64 lower-case hex digits")
    try:
        size = _count(said, "sizeBytes")
    except ReportError as error:
        raise ReportError("checkpoint.sizeBytes", error.message) from None
    return SavedCheckpoint(uri=uri, sha256=sha256, size_bytes=size)


def parse_resumed_from(body: Mapping[str, Any]) -> str | None:
    """Return the manifest that *body* says under `resumedFrom`, empty for none, None where it says nothing.

    Raises ReportError.
    """
    said = body.get("resumedFrom")
    if said is None:
        return None
    if not _is_uri(said):
        expected = f"is not a URI of at most {MAX_CHECKPOINT_URI} ASCII characters, nor empty for a start from nothing"
        raise ReportError("resumedFrom", expected)
    return str(said)


def build_answer(
    *,
    cancel: bool,
    deadline: datetime | None,
    next_report_seconds: int,
    memory_limit_bytes: int | None,
    checkpoint_requested: bool = False,
    checkpoint_uri: str | None = None,
) -> dict[str, Any]:
    """Return the body of the answer to an accepted report; what is unknown is left out."""
    answer: dict[str, Any] = {
        "cancel": cancel,
        "checkpointRequested": checkpoint_requested,
        "nextReportSeconds": next_report_seconds,
    }
    if checkpoint_uri is not None:
        answer["checkpoint"] = {"uri": checkpoint_uri}
    if deadline is not None:
        answer["deadline"] = format_time(deadline)
    if memory_limit_bytes is not None:
        answer["memoryLimitBytes"] = memory_limit_bytes
    return answer


def _is_uri(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable() and len(value) <= MAX_CHECKPOINT_URI


def _parse_object(raw: bytes) -> Mapping[str, Any]:
    if len(raw) > MAX_BODY_BYTES:
        raise ReportError("body", f"has {len(raw)} bytes, at most {MAX_BODY_BYTES} are allowed")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ReportError("body", f"is not JSON in UTF-8: {error.msg}") from None
    if not isinstance(body, dict):
        raise ReportError("body", "is not a JSON object")
    return body


def _count(body: Mapping[str, Any], field: str) -> int | None:
    value = body.get(field)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise ReportError(field, "is not a whole number from 0 to 2^63 - 1")
    return value


def _seconds(body: Mapping[str, Any], field: str) -> float | None:
    value = body.get(field)
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value <= MAX_COUNT:
        raise ReportError(field, "is not a number of seconds from 0")
    return float(value)


def _text(body: Mapping[str, Any], field: str, limit: int) -> str | None:
    value = body.get(field)
    if value is None:
        return None
    if not isinstance(value, str):
        raise ReportError(field, "is not a string")
    if len(value) > limit:
        raise ReportError(field, f"has {len(value)} characters, at most {limit} are allowed")
    return printable(value)
