from __future__ import annotations

from dataclasses import replace

import pytest

from longtask_operator.core.report_access import Access, LivePod, LiveTask, ReportPath, decide_access

PATH = ReportPath(namespace="team-a", name="wordcount", attempt=2)
POD = LivePod(uid="p", namespace="team-a", task_name="wordcount", task_uid="t", attempt=2, is_live=True)
TASK = LiveTask(uid="t", attempt=2)


def test_the_attempts_own_pod_may_report() -> None:
    assert decide_access(PATH, "team-a", POD, TASK) is Access.TAKE


def test_an_attempt_that_the_status_does_not_show_yet_may_report() -> None:
    assert decide_access(PATH, "team-a", POD, replace(TASK, attempt=1)) is Access.TAKE


@pytest.mark.parametrize(
    "pod",
    [
        pytest.param(replace(POD, task_name="other"), id="other-task"),
        pytest.param(replace(POD, task_uid="earlier"), id="earlier-task-of-that-name"),
        pytest.param(replace(POD, attempt=1), id="earlier-attempt"),
        pytest.param(replace(POD, attempt=3), id="later-attempt"),
        pytest.param(replace(POD, namespace="team-b"), id="other-namespace"),
        pytest.param(replace(POD, is_live=False), id="has-ended"),
    ],
)
def test_any_other_pod_is_refused(pod: LivePod) -> None:
    assert decide_access(PATH, "team-a", pod, TASK) is Access.FOREIGN


def test_another_namespace_learns_nothing_not_even_whether_the_task_exists() -> None:
    assert decide_access(PATH, "team-b", POD, TASK) is Access.FOREIGN
    assert decide_access(PATH, "team-b", None, None) is Access.FOREIGN


def test_no_task() -> None:
    assert decide_access(PATH, "team-a", POD, None) is Access.NO_TASK


def test_a_pod_that_is_not_known_yet_waits() -> None:
    assert decide_access(PATH, "team-a", None, TASK) is Access.LATER


def test_an_older_attempt_is_outdated_also_when_its_pod_is_gone() -> None:
    newer = replace(TASK, attempt=3)
    assert decide_access(PATH, "team-a", POD, newer) is Access.OUTDATED
    assert decide_access(PATH, "team-a", None, newer) is Access.OUTDATED


def test_a_pod_cannot_have_another_attempt_looked_up_as_outdated() -> None:
    path = replace(PATH, attempt=1)
    assert decide_access(path, "team-a", POD, TASK) is Access.FOREIGN
