"""The body of a report stays within the operator's bounds; a strange answer says nothing."""

from __future__ import annotations

import json

import pytest

from longtask_worker.wire import MAX_MESSAGE, MAX_SECONDS, MAX_WORD, Answer, build_report, parse_answer


def test_what_is_unknown_is_left_out() -> None:
    raw = build_report(17, {"done": 0, "total": None, "unit": "lines", "message": "é😀", "cpuSeconds": 0.0})
    assert json.loads(raw) == {"sequence": 17, "done": 0, "unit": "lines", "message": "é😀", "cpuSeconds": 0.0}
    assert "é😀".encode() in raw


@pytest.mark.parametrize("character", ["x", "é", "😀", '"', "\x00", "\ud800"])
def test_the_longest_words_fit(character: str) -> None:
    raw = build_report(2**40, dict.fromkeys(("unit", "stage", "message"), character * 50_000))
    body = json.loads(raw.decode("utf-8"))
    assert len(raw) <= 16 * 1024
    assert (len(body["unit"]), len(body["stage"]), len(body["message"])) == (MAX_WORD, MAX_WORD, MAX_MESSAGE)


def test_a_full_answer() -> None:
    body = b'{"cancel":true,"checkpointRequested":false,"deadline":"2030-01-01T00:00:00Z","nextReportSeconds":7}'
    expected = Answer(status=200, cancel=True, deadline="2030-01-01T00:00:00Z", interval=7.0)
    assert parse_answer(200, {}, body) == expected


def test_an_answer_about_checkpoints() -> None:
    answer = parse_answer(200, {}, b'{"checkpointRequested":true,"checkpoint":{"uri":"s3://b/c"}}')
    assert (answer.checkpoint_requested, answer.accepted_checkpoint) == (True, "s3://b/c")
    for body in (b'{"checkpointRequested":1,"checkpoint":{"uri":5}}', b'{"checkpoint":"s3://b/c"}'):
        assert parse_answer(200, {}, body) == Answer(status=200)


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"{", b"\xff", b'{"cancel":"true","deadline":5,"nextReportSeconds":"x"}', b"[" * 9999]
)
def test_a_malformed_answer_says_nothing(body: bytes) -> None:
    assert parse_answer(200, {}, body) == Answer(status=200)


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 413, 429, 500, 503])
def test_only_409_stops(status: int) -> None:
    assert not parse_answer(status, {}, b'{"stop":true}').stop
    assert parse_answer(409, {}, b'{"stop":true}').stop
    assert not parse_answer(409, {}, b'{"stop":"yes"}').stop


@pytest.mark.parametrize("status", [201, 400, 401, 403, 404, 409, 429, 503])
def test_only_200_cancels(status: int) -> None:
    assert not parse_answer(status, {}, b'{"cancel":true}').cancel


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", 3.0),
        ("0.5", 0.5),
        ("1e9", MAX_SECONDS),
        ("inf", MAX_SECONDS),
        ("0", None),
        ("-5", None),
        ("nan", None),
        ("", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_retry_after(text: str, expected: float | None) -> None:
    assert parse_answer(503, {"retry-after": text}, b"").retry_after == expected
