"""The termination message: never over 4096 bytes, never a torn character, never a cut result."""

from __future__ import annotations

import json
from typing import Any

import pytest

from longtask_worker.errors import PermanentError, ResultError
from longtask_worker.outcome import (
    MAX_OUTCOME_BYTES,
    MAX_RESULT_BYTES,
    Outcome,
    Result,
    encode_outcome,
    encode_result,
    plain,
)
from longtask_worker.progress import MAX_COUNT, Snapshot
from longtask_worker.wire import clean

NOTHING = Snapshot()


def decoded(outcome: Outcome, progress: Snapshot = NOTHING) -> dict[str, Any]:
    raw = encode_outcome(outcome, progress)
    assert len(raw) <= MAX_OUTCOME_BYTES
    fields: dict[str, Any] = json.loads(raw.decode("utf-8"))
    return fields


def done(result: object) -> Outcome:
    return Outcome(result=result)


def of_size(size: int, character: str) -> dict[str, str]:
    """A result whose compact JSON has *size* bytes: padded with the character, filled up with x."""
    spare, width = size - len('{"v":""}'), len(json.dumps(character, ensure_ascii=False).encode()) - 2
    return {"v": character * (spare // width) + "x" * (spare % width)}


def test_result_and_last_progress() -> None:
    expected = {"longtask": 1, "result": {"rows": 3}, "done": 3, "total": 3}
    assert decoded(done({"rows": 3}), Snapshot(done=3, total=3, unit="rows")) == expected


def test_what_the_work_went_on_from_is_said_where_there_is_room() -> None:
    for uri in ("s3://b/m", ""):
        assert json.loads(encode_outcome(done(3), NOTHING, None, uri)) == {
            "longtask": 1,
            "result": 3,
            "resumedFrom": uri,
        }
    largest, saved = of_size(MAX_RESULT_BYTES, "x"), {"uri": "s3://b/" + "x" * 377, "sha256": "a" * 64}
    raw = encode_outcome(done(largest), NOTHING, saved, "s3://b/" + "x" * 377)
    assert json.loads(raw) == {
        "longtask": 1,
        "result": largest,
        "checkpoint": saved,
        "resumedFrom": "s3://b/" + "x" * 377,
    }
    assert len(raw) <= MAX_OUTCOME_BYTES
    saved["more"] = "x" * 700
    assert json.loads(encode_outcome(done(largest), NOTHING, saved, "")) == {
        "longtask": 1,
        "result": largest,
        "resumedFrom": "",
    }


def test_no_result_is_no_key() -> None:
    assert decoded(done(None)) == {"longtask": 1}


@pytest.mark.parametrize("result", [0, False, "", [], {}, [1, {"a": None}]])
def test_any_json_is_a_result(result: object) -> None:
    assert decoded(done(result))["result"] == result


@pytest.mark.parametrize("character", ["x", "é", "日", "😀", '"', "\x01"])
def test_the_largest_result_fits(character: str) -> None:
    largest = of_size(MAX_RESULT_BYTES, character)
    full = Snapshot(done=MAX_COUNT, total=MAX_COUNT)
    outcome = Outcome(result=largest, message=character * 9999, permanent=True)
    assert decoded(outcome, full)["result"] == largest


@pytest.mark.parametrize("character", ["x", "é", "日", "😀", '"', "\x01", "\\"])
def test_a_message_is_cut_between_characters(character: str) -> None:
    message = decoded(Outcome(exit_code=1, message=character * 9999))["message"]
    assert message
    assert set(message) == {character}
    assert len(message) <= 1024


def test_a_message_takes_what_a_result_leaves() -> None:
    raw = encode_outcome(Outcome(result=of_size(MAX_RESULT_BYTES, "x"), message="m" * 1024), NOTHING)
    assert MAX_OUTCOME_BYTES - 6 <= len(raw) <= MAX_OUTCOME_BYTES


def test_a_message_with_half_a_surrogate_is_still_utf8() -> None:
    assert decoded(Outcome(exit_code=1, message="bad \ud83d name"))["message"] == "bad ? name"


@pytest.mark.parametrize("character", ["x", "日", "😀", '"', "\x01", "\ud83d"])
def test_of_a_log_the_end_is_kept(character: str) -> None:
    outcome = Outcome(exit_code=1, message="m" * 1024, log_tail="beginning" + character * 9999 + "end")
    kept = decoded(outcome)["logTail"]
    assert kept.endswith(clean(character, 1) + "end")
    assert "beginning" not in kept
    assert len(kept) <= 2048
    assert decoded(outcome)["message"] == "m" * 1024


def test_failure_for_good() -> None:
    assert decoded(Outcome(exit_code=65, message="no such column", permanent=True)) == {
        "longtask": 1,
        "permanent": True,
        "message": "no such column",
    }


@pytest.mark.parametrize(
    "result", [object(), {1, 2}, float("nan"), {"a": float("inf")}, b"bytes", "\ud800", {("a",): 1}]
)
def test_what_is_not_json_is_refused_for_good(result: object) -> None:
    with pytest.raises(ResultError, match="not JSON"):
        encode_result(result)
    assert issubclass(ResultError, PermanentError)


def test_a_result_that_holds_itself_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ResultError, match="not JSON"):
        encode_result(endless)


def test_a_large_result_goes_by_uri() -> None:
    result = Result(uri="s3://b/out/r.json", sha256="ab" * 32, size_bytes=9)
    named = {"uri": "s3://b/out/r.json", "sha256": "ab" * 32, "sizeBytes": 9}
    assert decoded(done(result)) == {"longtask": 1, **named}
    assert plain(result) == named
    assert plain({"a": 1}) == {"a": 1}


@pytest.mark.parametrize(
    "fields",
    [
        {"uri": "/tmp/x"},
        {"uri": "s3://" + "x" * 3000},
        {"uri": "s3://b/x\n"},
        {"uri": "s3://b/é"},
        {"uri": "s3://b/\\"},
        {"uri": "s3://b/x", "sha256": "AB" * 32},
        {"uri": "s3://b/x", "sha256": "abc"},
        {"uri": "s3://b/x", "size_bytes": -1},
    ],
)
def test_a_wrong_reference_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="result's"):
        Result(**fields)


def test_the_longest_reference_fits() -> None:
    assert decoded(done(Result(uri="s3://" + "x" * 2000, sha256="0" * 64)))["sha256"] == "0" * 64


CHECKPOINT = {"uri": "s3://b/u/1/2/manifest.json", "sha256": "0" * 64, "sizeBytes": 5}


def test_the_last_checkpoint_stands_beside_any_end() -> None:
    for outcome in (done({"rows": 3}), Outcome(exit_code=143, message="x" * 9999), Outcome(permanent=True)):
        fields = json.loads(encode_outcome(outcome, NOTHING, CHECKPOINT))
        assert fields["checkpoint"] == CHECKPOINT
        assert ("message" in fields) == bool(outcome.message)


def test_text_is_dropped_before_a_checkpoint_and_a_checkpoint_before_a_result() -> None:
    long = {**CHECKPOINT, "uri": "s3://" + "x" * 800}
    raw = encode_outcome(Outcome(result=of_size(3000, "x"), message="m" * 1024), NOTHING, long)
    fields = json.loads(raw)
    assert fields["checkpoint"] == long
    assert len(fields["message"]) < 200
    assert len(raw) <= MAX_OUTCOME_BYTES
    longer = {**CHECKPOINT, "uri": "s3://" + "x" * 2000}
    fields = json.loads(encode_outcome(done(of_size(MAX_RESULT_BYTES, "x")), NOTHING, longer))
    assert set(fields) == {"longtask", "result"}
