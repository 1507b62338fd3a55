from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.api.report import (
    MAX_BODY_BYTES,
    Report,
    ReportError,
    SavedCheckpoint,
    build_answer,
    parse_report,
)
from longtask_operator.api.status import Progress

FULL = {
    "sequence": 17,
    "done": 420,
    "total": 1000,
    "unit": "lines",
    "stage": "parsing",
    "message": "Grüße 🎉",
    "memoryBytes": 734003200,
    "cpuSeconds": 31.5,
}


def raw(**changes: object) -> bytes:
    return json.dumps({"sequence": 1, **changes}).encode()


def test_every_field_is_read() -> None:
    assert parse_report(json.dumps(FULL).encode()) == Report(
        sequence=17,
        done=420,
        total=1000,
        unit="lines",
        stage="parsing",
        message="Grüße 🎉",
        memory_bytes=734003200,
        cpu_seconds=31.5,
    )


def test_a_sequence_alone_is_a_report_and_null_means_not_said() -> None:
    assert parse_report(raw()) == Report(sequence=1)
    assert parse_report(raw(done=None, unit=None, cpuSeconds=None)) == Report(sequence=1)


def test_keys_of_newer_workers_are_ignored() -> None:
    assert parse_report(raw(color="red")) == Report(sequence=1)


def test_a_checkpoint_is_named_by_its_manifest() -> None:
    said = {"uri": "s3://bucket/manifest.json", "sha256": "ab" * 32, "sizeBytes": 1, "color": "red"}
    saved = SavedCheckpoint(uri="s3://bucket/manifest.json", sha256="ab" * 32, size_bytes=1)
    assert parse_report(raw(checkpoint=said)).checkpoint == saved
    assert parse_report(raw(checkpoint=None)).checkpoint is None


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"uri": ""}, "checkpoint.uri"),
        ({"uri": None}, "checkpoint.uri"),
        ({"uri": "s3://b/\u00e9"}, "checkpoint.uri"),
        ({"uri": "s3://b/\n"}, "checkpoint.uri"),
        ({"uri": "s3://b/" + "x" * 378}, "checkpoint.uri"),
        ({"sha256": "ab"}, "checkpoint.sha256"),
        ({"sha256": "AB" * 32}, "checkpoint.sha256"),
        ({"sha256": 7}, "checkpoint.sha256"),
        ({"sizeBytes": -1}, "checkpoint.sizeBytes"),
        ({"sizeBytes": "1"}, "checkpoint.sizeBytes"),
    ],
)
def test_what_is_wrong_with_a_checkpoint_is_named(change: dict[str, Any], field: str) -> None:
    said = {"uri": "s3://bucket/manifest.json", "sha256": "ab" * 32, "sizeBytes": 1} | change
    with pytest.raises(ReportError) as caught:
        parse_report(raw(checkpoint=said))
    assert caught.value.field == field
    with pytest.raises(ReportError, match="checkpoint: is not an object"):
        parse_report(raw(checkpoint="s3://bucket/manifest.json"))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param(b"", "body", id="empty"),
        pytest.param(b"\xff\xfe", "body", id="not-utf8"),
        pytest.param(b"[1]", "body", id="array"),
        pytest.param(b'"text"', "body", id="string"),
        pytest.param(b"{", "body", id="cut"),
        pytest.param(b'{"sequence": NaN}', "body", id="nan"),
        pytest.param(b"[" * 10_000, "body", id="deep"),
        pytest.param(b'{"sequence": 1, "message": "\\ud800"}', "body", id="half-a-surrogate-pair"),
        pytest.param(b" " * (MAX_BODY_BYTES + 1), "body", id="too-large"),
        pytest.param(b"{}", "sequence", id="no-sequence"),
        pytest.param(raw(sequence=-1), "sequence", id="negative-sequence"),
        pytest.param(raw(sequence="1"), "sequence", id="sequence-as-text"),
        pytest.param(raw(sequence=True), "sequence", id="boolean-sequence"),
        pytest.param(raw(done=1.0), "done", id="fraction"),
        pytest.param(raw(done=-1), "done", id="negative-done"),
        pytest.param(raw(done=2**63), "done", id="beyond-int64"),
        pytest.param(raw(total=2**70), "total", id="far-beyond-int64"),
        pytest.param(raw(total=False), "total", id="boolean-total"),
        pytest.param(raw(unit=5), "unit", id="unit-as-number"),
        pytest.param(raw(unit="x" * 64), "unit", id="long-unit"),
        pytest.param(raw(stage="x" * 64), "stage", id="long-stage"),
        pytest.param(raw(stage=["a"]), "stage", id="stage-as-list"),
        pytest.param(raw(message="x" * 1025), "message", id="long-message"),
        pytest.param(raw(memoryBytes=-1), "memoryBytes", id="negative-memory"),
        pytest.param(raw(cpuSeconds=-0.1), "cpuSeconds", id="negative-cpu"),
        pytest.param(raw(cpuSeconds=True), "cpuSeconds", id="boolean-cpu"),
        pytest.param(b'{"sequence": 1, "cpuSeconds": 1e999}', "body", id="infinite-cpu"),
    ],
)
def test_the_field_at_fault_is_named(body: bytes, field: str) -> None:
    with pytest.raises(ReportError) as caught:
        parse_report(body)
    assert caught.value.field == field


def test_the_largest_values_are_taken_and_fit_the_status() -> None:
    limit = 2**63 - 1
    report = parse_report(raw(done=limit, total=limit, unit="é" * 63, stage="é" * 63, message="é" * 1024))
    Progress(done=report.done, total=report.total, unit=report.unit, stage=report.stage, message=report.message)
    assert (report.done, len(report.message or "")) == (limit, 1024)


def test_control_characters_never_reach_a_terminal() -> None:
    report = parse_report(raw(unit="a\x00b", stage="\x1b[31mred", message="line\nnext\ttab\x07\x9b2J"))
    assert (report.unit, report.stage) == ("a b", " [31mred")
    assert report.message == "line\nnext\ttab  2J"


def read(body: bytes) -> Report | ReportError:
    try:
        return parse_report(body)
    except ReportError as error:
        return error


@given(st.binary(max_size=300))
def test_any_bytes_give_a_report_or_a_named_fault(body: bytes) -> None:
    answer = read(body)
    assert isinstance(answer, Report) or (answer.field and answer.message)


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text("a é🎉\x00\n", max_size=80)
_VALUES = _SCALARS | st.lists(_SCALARS, max_size=2) | st.dictionaries(st.sampled_from("ab"), _SCALARS)


@pytest.mark.parametrize(("said", "read"), [("s3://b/m", "s3://b/m"), ("", ""), (None, None)])
def test_what_the_work_went_on_from(said: str | None, read: str | None) -> None:
    assert parse_report(raw(resumedFrom=said)).resumed_from == read


@pytest.mark.parametrize("said", [7, False, {}, ["s3://b/m"], "s3://b/\u00e9", "s3://b/\n", "s3://b/" + "x" * 378])
def test_what_is_no_manifest_nor_empty_is_named(said: object) -> None:
    with pytest.raises(ReportError, match="resumedFrom: is not a URI"):
        parse_report(raw(resumedFrom=said))


@given(st.dictionaries(st.sampled_from([*FULL, "checkpoint", "resumedFrom", "x"]), _VALUES), st.integers(0, 9))
def test_any_json_gives_a_report_that_fits_the_status_or_a_named_fault(body: dict[str, object], number: int) -> None:
    answer = read(json.dumps({"sequence": number, **body}).encode())
    if isinstance(answer, ReportError):
        assert answer.field.partition(".")[0] in {*FULL, "checkpoint", "resumedFrom", "body"}
        return
    for count in (answer.sequence, answer.done or 0, answer.total or 0, answer.memory_bytes or 0):
        assert 0 <= count < 2**63
    Progress(done=answer.done, total=answer.total, unit=answer.unit, stage=answer.stage, message=answer.message)


def test_an_answer_says_what_is_known_and_leaves_out_the_rest() -> None:
    deadline = datetime(2026, 1, 31, 8, 0, 0, 500_000, tzinfo=UTC)
    full = build_answer(
        cancel=True,
        deadline=deadline,
        next_report_seconds=5,
        memory_limit_bytes=2**30,
        checkpoint_requested=True,
        checkpoint_uri="s3://bucket/manifest.json",
    )
    assert full == {
        "cancel": True,
        "checkpointRequested": True,
        "checkpoint": {"uri": "s3://bucket/manifest.json"},
        "deadline": "2026-01-31T08:00:00Z",
        "nextReportSeconds": 5,
        "memoryLimitBytes": 1073741824,
    }
    short = build_answer(cancel=False, deadline=None, next_report_seconds=5, memory_limit_bytes=None)
    assert short == {"cancel": False, "checkpointRequested": False, "nextReportSeconds": 5}
