"""The context of a task."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from longtask_worker import Cancelled, Task
from longtask_worker.environment import Info
from longtask_worker.progress import Progress, Snapshot
from longtask_worker.stopping import CANCELLED, TERMINATED, StopFlag

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def test_it_says_who_it_is() -> None:
    info = Info(name="n", namespace="ns", uid="u", tenant="t", run=2, attempt=3, payload={"a": 1}, inputs={"i": "s3://i"},
                outputs={"o": "s3://o"}, deadline=NOON, traceparent="00-1")  # fmt: skip
    task = Task(info)
    assert (task.name, task.namespace, task.uid, task.tenant, task.run, task.attempt) == ("n", "ns", "u", "t", 2, 3)
    assert (task.payload, task.inputs, task.outputs) == ({"a": 1}, {"i": "s3://i"}, {"o": "s3://o"})
    assert (task.deadline, task.traceparent) == (NOON, "00-1")


def test_it_is_not_cancelled_until_it_is() -> None:
    stop = StopFlag()
    task = Task(Info(), stop=stop)
    task.raise_if_cancelled()
    assert not task.cancelled
    stop.set(CANCELLED)
    stop.set(TERMINATED)
    assert task.cancelled
    with pytest.raises(Cancelled) as raised:
        task.raise_if_cancelled()
    assert raised.value.reason == CANCELLED


def test_report_and_track_end_in_its_progress() -> None:
    progress = Progress()
    task = Task(Info(), progress)
    task.report(1, 4, unit="files", stage="reading", message="a.txt")
    assert progress.snapshot() == Snapshot(done=1, total=4, unit="files", stage="reading", message="a.txt")
    assert list(task.track([1, 2], total=9, unit="rows", stage="writing")) == [1, 2]
    assert progress.snapshot() == Snapshot(done=2, total=9, unit="rows", stage="writing")
