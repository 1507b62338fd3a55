from __future__ import annotations

from typing import Any

import pytest

from longtask_operator.core.release import leftovers_of, release_children
from tests.builders import a_job, a_pod, a_running_pod, an_ended_pod, an_entry, at, seen

ENDED = an_ended_pod()
LET_GO = an_ended_pod(held=False)
RUNNING = a_running_pod(held=False)
STOPPING = a_running_pod(held=False, deleted_at=at(40))


def words(actions: Any) -> str:
    return " ".join(type(action).__name__ for action in actions)


@pytest.mark.parametrize(
    ("jobs", "pods", "expected"),
    [
        pytest.param((), (), "ReleaseEntry", id="nothing-left"),
        pytest.param((a_job(),), (), "StopJob", id="a-job-may-still-start-a-pod"),
        pytest.param((a_job(deleting=True),), (), "ReleaseEntry", id="a-job-on-its-way-out"),
        pytest.param((a_job(finished=True),), (ENDED,), "ReleasePod ReleaseEntry", id="all-over"),
        pytest.param((a_job(),), (ENDED,), "ReleasePod ReleaseEntry", id="the-job-ends-by-itself"),
        pytest.param((a_job(finished=True),), (LET_GO,), "ReleaseEntry", id="let-go-and-kept-for-its-logs"),
        pytest.param((a_job(),), (RUNNING,), "StopJob", id="running"),
        pytest.param((), (RUNNING,), "StopPod", id="running-without-a-job"),
        pytest.param((), (STOPPING,), "", id="stopping"),
        pytest.param((), (a_running_pod(deleted_at=at(40)),), "ReleasePod", id="stopping-and-held"),
        pytest.param((a_job(attempt=2),), (RUNNING,), "StopJob StopPod", id="of-two-attempts"),
    ],
)
def test_what_is_left_of_recorded_attempts(jobs: Any, pods: Any, expected: str) -> None:
    assert words(leftovers_of(seen(entry=an_entry(), jobs=jobs, pods=pods))) == expected


def test_the_open_attempt_and_its_entry_are_spared() -> None:
    older, current = a_running_pod(held=False), a_running_pod(attempt=2)
    observed = seen(entry=an_entry(attempt=2), jobs=(a_job(), a_job(attempt=2)), pods=(older, current))
    assert words(leftovers_of(observed, spared=2)) == "StopJob"
    observed = seen(entry=an_entry(attempt=2), jobs=(a_job(attempt=2),), pods=(older, ENDED, current))
    assert words(leftovers_of(observed, spared=2)) == "ReleasePod StopPod"


def test_without_an_entry_there_is_none_to_release() -> None:
    assert leftovers_of(seen()) == ()


@pytest.mark.parametrize(
    ("jobs", "pods", "expected"),
    [
        pytest.param((), (), "ReleaseEntry", id="nothing-left"),
        pytest.param((a_job(),), (), "StopJob", id="a-job"),
        pytest.param((a_job(deleting=True),), (), "", id="a-job-on-its-way-out"),
        pytest.param((a_job(),), (a_running_pod(),), "StopJob StopPod ReleasePod", id="running"),
        pytest.param((), (a_running_pod(deleted_at=at(40)),), "ReleasePod", id="stopping"),
        pytest.param((), (ENDED,), "ReleasePod ReleaseEntry", id="over"),
        pytest.param((), (a_pod(node=None, deleted_at=at(1), held=False),), "ReleaseEntry", id="never-bound"),
    ],
)
def test_what_is_let_go_of_a_task_that_is_gone(jobs: Any, pods: Any, expected: str) -> None:
    assert words(release_children(jobs, pods, an_entry(), "team-a")) == expected
