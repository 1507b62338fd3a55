"""Hands a result over: a small one inline, a large one by an object below an output of the task.

The object's name holds task and attempt: it is written once, and a late attempt's result never replaces
another's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from longtask_worker.errors import ResultError
from longtask_worker.outcome import MAX_RESULT_BYTES, Result, encode_result
from longtask_worker.storage import create_once, open_storage
from longtask_worker.task import Task

#: The output that takes a large result, where a task has several.
OUTPUT = "result"


def hand_over(result: object, task: Task) -> object:
    """Return *result* if it can stand inline, else write it to an output and return its Result.

    ResultError if it is not JSON or there is no output for it, StorageError if it could not be written,
    Cancelled if a newer attempt runs.
    """
    data = encode_large(result, task.outputs)
    if data is None:
        return result
    reference = _reference(result_uri(task.outputs, task.uid, task.attempt), data)
    task.raise_if_superseded()
    create_once(open_storage(reference.uri), reference.uri, data)
    return reference


def encode_large(result: object, outputs: Mapping[str, str]) -> bytes | None:
    """Return a result that needs an output as JSON, None if it needs none; ResultError if it cannot be handed over."""
    if result is None or isinstance(result, Result):
        return None
    data = encode_result(result)
    if len(data) <= MAX_RESULT_BYTES:
        return None
    if OUTPUT not in outputs and len(outputs) != 1:
        raise ResultError(
            f"the result is {len(data)} bytes of JSON, {MAX_RESULT_BYTES} fit inline: give the task an output named "
            f"{OUTPUT!r}, or write the data yourself and return Result(uri=..., sha256=..., size_bytes=...)"
        )
    return data


def result_uri(outputs: Mapping[str, str], uid: str, attempt: int) -> str:
    """Return where the result of an attempt goes: below an output that ends with a slash, else beside it."""
    output = outputs[OUTPUT] if OUTPUT in outputs else next(iter(outputs.values()))
    joint = "" if output.endswith("/") else "."
    return f"{output}{joint}result-{uid}-{attempt}.json"


def _reference(uri: str, data: bytes) -> Result:
    try:
        return Result(uri=uri, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
    except ValueError as error:
        raise ResultError(str(error)) from None
