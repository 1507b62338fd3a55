"""A node that does not answer, told through `reconcile`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.core.causes import classify_pod
from longtask_operator.core.decision import ConfirmPod, ForceDeletePod, StopJob
from longtask_operator.core.node_loss import lost_since
from longtask_operator.core.observe import judged_at, observe_pod
from longtask_operator.core.reconcile import reconcile
from tests.builders import POLICY, a_job, a_pod, a_running_pod, an_ended_pod, at, wire
from tests.unit.core.test_liveness import STARTED, running
from tests.unit.core.test_observe import a_pod_body

REPLACE = {"retry": {"onNodeLoss": "Replace", "nodeLossTimeoutSeconds": 100}}
LOST = a_running_pod(node_lost_at=at(50))
#: The node controller deleted it 300 s later; nobody ends it.
OVERDUE = a_running_pod(deleted_at=at(330), grace_seconds=30)


def conditions(ready: str, containers: str) -> dict[str, Any]:
    found = [
        {"type": "Ready", "status": ready, "lastTransitionTime": wire(50)},
        {"type": "ContainersReady", "status": containers},
    ]
    return {"conditions": found}


@pytest.mark.parametrize(
    ("ready", "containers", "expected"),
    [("False", "True", at(50)), ("True", "True", None), ("False", "False", None), ("Unknown", "True", at(50))],
)
def test_readiness_that_was_taken_back_though_the_containers_are_ready(
    ready: str, containers: str, expected: Any
) -> None:
    pod = observe_pod(a_pod_body({"running": {"startedAt": wire(1)}}, conditions(ready, containers)))
    assert pod is not None
    assert pod.node_lost_at == expected


def test_a_pod_that_does_not_run_or_says_nothing_tells_nothing() -> None:
    pending = observe_pod(a_pod_body(None, conditions("False", "True") | {"phase": "Pending"}))
    silent = observe_pod(a_pod_body({"running": {"startedAt": wire(1)}}))
    assert pending is not None
    assert silent is not None
    assert (pending.node_lost_at, silent.node_lost_at) == (None, None)


@pytest.mark.parametrize(
    ("pod", "now", "expected"),
    [
        (a_running_pod(), 10**6, None),
        (LOST, 60, at(50)),
        (OVERDUE, 389, None),
        (OVERDUE, 390, at(330)),
        (a_pod(deleted_at=at(330), grace_seconds=30), 390, at(330)),
        (a_pod(deleted_at=at(330), node=None), 10**6, None),
        (a_running_pod(deleted_at=at(330), grace_seconds=0), 340, None),
        (an_ended_pod(0, node_lost_at=at(50)), 10**6, None),
    ],
)
def test_since_when_a_node_is_lost(pod: Any, now: float, expected: Any) -> None:
    assert lost_since(pod, at(now)) == expected


class TestWait:
    def test_it_is_shown_and_nothing_is_done(self) -> None:
        decision = reconcile(running({}, 10**5, pods=(LOST,)), POLICY)
        assert decision.status is not None
        assert (decision.status.phase, decision.status.reason) == ("Running", "NodeUnreachable")
        assert (decision.first, decision.then, decision.candidate) == ((), (), None)

    def test_the_words_stay_while_it_lasts(self) -> None:
        first = reconcile(running({}, 100, pods=(LOST,)), POLICY)
        assert first.status is not None
        later = running({}, 10**5, pods=(LOST,))
        again = reconcile(replace(later, task=later.task.model_copy(update={"status": first.status})), POLICY)
        assert again.status == first.status

    def test_it_ends_when_the_node_answers(self) -> None:
        decision = reconcile(running({}, 100), POLICY)
        assert decision.status is not None
        assert decision.status.reason == "Running"

    def test_an_overdue_deletion_is_looked_at_again(self) -> None:
        assert reconcile(running({}, 340, pods=(OVERDUE,)), POLICY).again_at == at(390)

    def test_between_attempts_it_is_a_reason_to_wait(self) -> None:
        status = {**STARTED, "attempts": [{**STARTED["attempts"][0], "cause": "Lost", "completionTime": wire(60)}]}
        observed = running({}, 100, pods=(LOST,), jobs=())
        task = observed.task.model_copy(update={"status": observed.task.status.model_validate(status)})
        decision = reconcile(replace(observed, task=task), POLICY)
        assert decision.status is not None
        assert (decision.status.phase, decision.status.reason) == ("Queued", "NodeUnreachable")
        assert decision.candidate is None


class TestReplace:
    def test_it_is_announced_first(self) -> None:
        decision = reconcile(running(REPLACE, 149, pods=(LOST,)), POLICY)
        assert decision.status is not None
        assert decision.status.reason == "NodeUnreachable"
        assert (decision.then, decision.again_at) == ((), at(150))

    def test_then_recorded_and_deleted_by_force_once_the_pod_was_asked(self) -> None:
        decision = reconcile(running(REPLACE, 150, pods=(LOST,)), POLICY)
        assert decision.first == (ConfirmPod(pod=LOST),)
        assert decision.then == (StopJob(job=a_job()), ForceDeletePod(pod=LOST))
        assert decision.status is not None
        (attempt,) = decision.status.attempts or []
        assert (attempt.cause, attempt.completion_time) == ("Lost", None)

    def test_after_a_crash_between_record_and_deletion_it_is_deleted(self) -> None:
        status = {**STARTED, "attempts": [{**STARTED["attempts"][0], "cause": "Lost", "message": "given up"}]}
        observed = running(REPLACE, 151, pods=(LOST,))
        task = observed.task.model_copy(update={"status": observed.task.status.model_validate(status)})
        decision = reconcile(replace(observed, task=task), POLICY)
        assert decision.then == (StopJob(job=a_job()), ForceDeletePod(pod=LOST))

    def test_a_cancelled_task_does_not_wait_for_the_node_either(self) -> None:
        decision = reconcile(running({**REPLACE, "cancel": True}, 150, pods=(LOST,)), POLICY)
        assert decision.then == (StopJob(job=a_job()), ForceDeletePod(pod=LOST))
        assert decision.status is not None
        assert decision.status.phase == "Cancelling"

    def test_what_is_deleted_by_force_is_not_deleted_again(self) -> None:
        forced = replace(LOST, deleted_at=at(150), grace_seconds=0)
        decision = reconcile(running(REPLACE, 160, pods=(forced,), jobs=(a_job(deleting=True),)), POLICY)
        assert decision.then == ()

    def test_nobody_ends_it_and_it_is_lost(self) -> None:
        forced = judged_at(replace(LOST, deleted_at=at(150), grace_seconds=0), at(210))
        assert classify_pod(forced, None).cause == "Lost"
        status = {**STARTED, "attempts": [{**STARTED["attempts"][0], "cause": "Lost", "message": "given up"}]}
        observed = running(REPLACE, 210, pods=(forced,))
        task = observed.task.model_copy(update={"status": observed.task.status.model_validate(status)})
        decision = reconcile(replace(observed, task=task), POLICY)
        assert decision.status is not None
        assert (decision.status.phase, decision.status.attempt_counts) == ("Backoff", {"lost": 1})
        assert (decision.status.attempts or [])[0].message == "given up"


@given(st.sampled_from([None, "Wait", "Replace"]), st.integers(1, 5000), st.integers(1, 10_000), st.booleans())
def test_nothing_is_given_up_early_or_unasked(mode: str | None, timeout: int, now: int, overdue: bool) -> None:
    retry = {"onNodeLoss": mode, "nodeLossTimeoutSeconds": timeout} if mode else {}
    pod = OVERDUE if overdue else LOST
    decision = reconcile(running({"retry": retry}, now, pods=(pod,)), POLICY)
    given_up = any(isinstance(action, ForceDeletePod) for action in decision.then)
    since = lost_since(pod, at(now))
    assert given_up == (mode == "Replace" and since is not None and (at(now) - since).total_seconds() >= timeout)
