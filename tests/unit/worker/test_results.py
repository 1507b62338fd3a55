"""A small result stands inline, a large one goes to an output under a name of the attempt's own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from longtask_worker.environment import Info
from longtask_worker.errors import AlreadyExistsError, Cancelled, PermanentError, ResultError
from longtask_worker.outcome import MAX_RESULT_BYTES, Result
from longtask_worker.results import encode_large, hand_over, result_uri
from longtask_worker.stopping import SUPERSEDED, StopFlag
from longtask_worker.task import Task

LARGE = {"rows": list(range(2000))}


def task(stop: StopFlag | None = None, attempt: int = 2, **outputs: str) -> Task:
    return Task(Info(uid="u-1", attempt=attempt, outputs=outputs), stop=stop)


def test_up_to_the_limit_it_stands_inline(tmp_path: Path) -> None:
    largest = "x" * (MAX_RESULT_BYTES - 2)
    for result in (None, 0, largest, Result(uri="s3://b/x")):
        assert hand_over(result, task(out=tmp_path.as_uri() + "/")) is result
    assert list(tmp_path.iterdir()) == []


def test_one_byte_more_goes_to_the_output(tmp_path: Path) -> None:
    result = "é" * (MAX_RESULT_BYTES // 2)
    handed = hand_over(result, task(out=tmp_path.as_uri() + "/"))
    assert isinstance(handed, Result)
    data = (tmp_path / "result-u-1-2.json").read_bytes()
    assert json.loads(data) == result
    assert handed.uri == (tmp_path / "result-u-1-2.json").as_uri()
    assert (handed.sha256, handed.size_bytes) == (hashlib.sha256(data).hexdigest(), len(data))


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ({"report": "s3://b/out/"}, "s3://b/out/result-u-1-2.json"),
        ({"report": "s3://b/out.csv"}, "s3://b/out.csv.result-u-1-2.json"),
        ({"result": "s3://b/r/", "other": "s3://b/o/"}, "s3://b/r/result-u-1-2.json"),
    ],
)
def test_where_it_goes(outputs: dict[str, str], expected: str) -> None:
    assert result_uri(outputs, "u-1", 2) == expected


@pytest.mark.parametrize("outputs", [{}, {"a": "s3://b/a/", "b": "s3://b/b/"}])
def test_without_an_output_for_it_the_task_fails_for_good(outputs: dict[str, str]) -> None:
    with pytest.raises(ResultError, match="'result'"):
        encode_large(LARGE, outputs)
    assert issubclass(ResultError, PermanentError)


def test_an_output_whose_name_cannot_be_told_is_refused_before_anything_is_written() -> None:
    with pytest.raises(ResultError, match="ASCII"):
        hand_over(LARGE, task(out="file:///tmp/é/"))


def test_the_same_result_twice_is_one_and_another_never_replaces_it(tmp_path: Path) -> None:
    out = tmp_path.as_uri() + "/"
    assert hand_over(LARGE, task(out=out)) == hand_over(LARGE, task(out=out))
    with pytest.raises(AlreadyExistsError):
        hand_over({"rows": list(range(2001))}, task(out=out))
    hand_over({"rows": list(range(2001))}, task(out=out, attempt=3))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_superseded_worker_writes_no_result(tmp_path: Path) -> None:
    stop = StopFlag()
    stop.set(SUPERSEDED)
    with pytest.raises(Cancelled):
        hand_over(LARGE, task(stop, out=tmp_path.as_uri() + "/"))
    assert list(tmp_path.iterdir()) == []
