from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from longtask_operator.api.reasons import Cause
from longtask_operator.api.status import Result
from longtask_operator.core.causes import classify_pod, lost
from longtask_operator.core.observe import PodView, judged_at, observe_pod
from longtask_operator.core.outcome import Outcome
from tests.builders import a_pod, a_pod_body, a_running_pod, an_ended_pod, at

RESULT = '{"longtask":1,"result":7}'
PERMANENT = '{"longtask":1,"permanent":true,"message":"bad input"}'
LAST_WORDS = '{"longtask":1,"message":"terminated (SIGTERM)","logTail":"at 7\\n"}'
#: Deletion was asked for at second 4 or 6; the container ended at second 5.
DELETED_BEFORE = {"deleted_at": at(34), "grace_seconds": 30}
DELETED_AFTER = {"deleted_at": at(36), "grace_seconds": 30}
#: Once the kubelet has ended a pod it deletes it without grace: the deletion's time is then its own, after the end.
LAST_WORD = {"deleted_at": at(6), "grace_seconds": 0}
DELETED_LONG_AFTER = {"deleted_at": at(66), "grace_seconds": 0}
STOPS = [Cause.CANCELLED, Cause.SUSPENDED, Cause.DEADLINE, Cause.NEVER_STARTED]


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        pytest.param(an_ended_pod(0), Cause.COMPLETED, id="exit-0"),
        pytest.param(an_ended_pod(0, end_reason="OOMKilled"), Cause.COMPLETED, id="exit-0-though-a-child-was-killed"),
        pytest.param(an_ended_pod(0, reason="Evicted", phase="Failed"), Cause.COMPLETED, id="exit-0-though-evicted"),
        pytest.param(an_ended_pod(0, **DELETED_BEFORE), Cause.COMPLETED, id="exit-0-though-deleted"),
        pytest.param(an_ended_pod(0, reason="DeadlineExceeded"), Cause.COMPLETED, id="exit-0-though-too-late"),
        pytest.param(an_ended_pod(0, phase="Running"), Cause.COMPLETED, id="exit-0-phase-to-come"),
        pytest.param(an_ended_pod(1), Cause.APPLICATION, id="exit-1"),
        pytest.param(an_ended_pod(137), Cause.APPLICATION, id="137-alone-is-no-oom"),
        pytest.param(an_ended_pod(1, message=RESULT), Cause.APPLICATION, id="a-result-does-not-excuse"),
        pytest.param(an_ended_pod(137, end_reason="OOMKilled"), Cause.OUT_OF_MEMORY, id="oom"),
        pytest.param(an_ended_pod(1, end_reason="OOMKilled"), Cause.OUT_OF_MEMORY, id="oom-of-a-child-then-exit-1"),
        pytest.param(an_ended_pod(65, message=PERMANENT), Cause.PERMANENT, id="permanent"),
        pytest.param(an_ended_pod(0, message=PERMANENT), Cause.COMPLETED, id="exit-0-beats-permanent"),
        pytest.param(an_ended_pod(143, reason="DeadlineExceeded"), Cause.ATTEMPT_TIMEOUT, id="timeout"),
        pytest.param(
            an_ended_pod(137, reason="DeadlineExceeded", end_reason="OOMKilled"),
            Cause.ATTEMPT_TIMEOUT,
            id="late-137",
        ),
        pytest.param(an_ended_pod(128, end_reason="StartError"), Cause.NEVER_STARTED, id="no-such-program"),
        pytest.param(an_ended_pod(128, end_reason="ContainerCannotRun"), Cause.NEVER_STARTED, id="cannot-run"),
        pytest.param(an_ended_pod(137, reason="Evicted"), Cause.DISRUPTION, id="evicted"),
        pytest.param(an_ended_pod(143, disruption="EvictionByEvictionAPI"), Cause.DISRUPTION, id="drained"),
        pytest.param(an_ended_pod(143, **DELETED_BEFORE), Cause.DISRUPTION, id="deleted-then-ended"),
        pytest.param(an_ended_pod(1, **DELETED_AFTER), Cause.APPLICATION, id="ended-then-deleted"),
        pytest.param(an_ended_pod(143, **LAST_WORD), Cause.DISRUPTION, id="deleted-and-ended-while-nobody-looked"),
        pytest.param(an_ended_pod(1, **DELETED_LONG_AFTER), Cause.APPLICATION, id="ended-then-deleted-long-after"),
        pytest.param(an_ended_pod(0, **LAST_WORD), Cause.COMPLETED, id="exit-0-whenever-it-was-deleted"),
        pytest.param(an_ended_pod(137, deleted_at=at(4), grace_seconds=0), Cause.DISRUPTION, id="force-deleted"),
        pytest.param(an_ended_pod(1, finished=None, **DELETED_AFTER), Cause.DISRUPTION, id="deleted-without-times"),
        pytest.param(an_ended_pod(1, disruption="x", message=PERMANENT), Cause.PERMANENT, id="permanent-drained"),
    ],
)
def test_the_task_container_decides(pod: PodView, expected: Cause) -> None:
    assert classify_pod(pod, None).cause is expected


@pytest.mark.parametrize("stop", STOPS)
class TestStopped:
    def test_an_exit_after_a_stop_is_the_stops(self, stop: Cause) -> None:
        assert classify_pod(an_ended_pod(143, **DELETED_BEFORE), stop).cause is stop

    def test_exit_0_of_a_graceful_stop_is_no_completion(self, stop: Cause) -> None:
        assert classify_pod(an_ended_pod(0, **DELETED_BEFORE), stop).cause is stop

    def test_exit_0_in_the_very_second_of_the_deletion_is_no_completion(self, stop: Cause) -> None:
        assert classify_pod(an_ended_pod(0, deleted_at=at(35), grace_seconds=30), stop).cause is stop

    def test_nor_is_it_once_the_kubelet_is_done_with_the_pod(self, stop: Cause) -> None:
        assert classify_pod(an_ended_pod(0, **LAST_WORD), stop).cause is stop
        assert classify_pod(an_ended_pod(0, **DELETED_LONG_AFTER), stop).cause is Cause.COMPLETED

    def test_work_that_was_done_outlives_the_stop(self, stop: Cause) -> None:
        assert classify_pod(an_ended_pod(0, message=RESULT, **DELETED_BEFORE), stop).cause is Cause.COMPLETED

    def test_so_does_an_end_before_the_deletion(self, stop: Cause) -> None:
        assert classify_pod(an_ended_pod(0, **DELETED_AFTER), stop).cause is Cause.COMPLETED
        assert classify_pod(an_ended_pod(0), stop).cause is Cause.COMPLETED

    def test_a_permanent_error_is_still_one(self, stop: Cause) -> None:
        assert classify_pod(an_ended_pod(65, message=PERMANENT), stop).cause is Cause.PERMANENT

    def test_a_container_that_never_ran(self, stop: Cause) -> None:
        end = classify_pod(a_pod(phase="Failed", deleted_at=at(9)), stop)
        assert (end.cause, end.message) == (stop, "stopped before the task container started")


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        pytest.param(a_pod(phase="Failed", reason="DeadlineExceeded"), Cause.ATTEMPT_TIMEOUT, id="timeout"),
        pytest.param(a_pod(phase="Failed", reason="Evicted"), Cause.DISRUPTION, id="evicted"),
        pytest.param(a_pod(phase="Failed", disruption="PreemptionByScheduler"), Cause.DISRUPTION, id="preempted"),
        pytest.param(a_pod(deleted_at=at(5), node=None), Cause.DISRUPTION, id="deleted-before-it-had-a-node"),
        pytest.param(a_pod(phase="Failed", deleted_at=at(5)), Cause.DISRUPTION, id="deleted-before-it-ran"),
        pytest.param(a_pod(phase="Failed"), Cause.NEVER_STARTED, id="failed-without-a-word"),
        pytest.param(a_pod(phase="Failed", reason="OutOfcpu"), Cause.DISRUPTION, id="no-room-on-the-node-after-all"),
        pytest.param(a_pod(phase="Failed", reason="OutOfpods"), Cause.DISRUPTION, id="no-place-on-the-node"),
        pytest.param(a_pod(phase="Failed", reason="UnexpectedAdmissionError"), Cause.DISRUPTION, id="node-confused"),
        pytest.param(a_pod(phase="Failed", reason="NodeShutdown"), Cause.DISRUPTION, id="node-shuts-down"),
        pytest.param(a_running_pod(phase="Failed", reason="NodeAffinity"), Cause.DISRUPTION, id="node-relabelled"),
        pytest.param(a_pod(phase="Failed", reason="PodOSNotSupported"), Cause.REJECTED, id="no-node-can-run-it"),
        pytest.param(a_pod(phase="Failed", end_unknown=True), Cause.LOST, id="node-came-back-without-memory"),
    ],
)
def test_a_pod_whose_container_said_nothing(pod: PodView, expected: Cause) -> None:
    end = classify_pod(pod, None)
    assert end.cause is expected
    assert end.message
    assert end.exit_code is None


def test_a_force_deleted_pod_that_nobody_ends_is_lost() -> None:
    pod = judged_at(a_running_pod(deleted_at=at(10), grace_seconds=0), at(10_000))
    assert pod.is_over
    assert classify_pod(pod, None).cause is Cause.LOST


@pytest.mark.parametrize(
    ("pod", "message"),
    [
        (an_ended_pod(3), "exit code 3"),
        (an_ended_pod(0), ""),
        (an_ended_pod(65, message=PERMANENT), "bad input"),
        (an_ended_pod(137, end_reason="OOMKilled"), "the task container used more than its memory"),
        (an_ended_pod(128, end_reason="StartError", message="exec: no such file"), "exec: no such file"),
        (an_ended_pod(128, end_reason="StartError"), "StartError"),
        (an_ended_pod(143, **DELETED_BEFORE), "the pod was deleted, exit code 143"),
        (an_ended_pod(143, disruption="EvictionByEvictionAPI"), "EvictionByEvictionAPI, exit code 143"),
    ],
)
def test_what_people_read(pod: PodView, message: str) -> None:
    assert classify_pod(pod, None).message == message


def test_what_the_pod_itself_says_comes_first() -> None:
    pod = replace(an_ended_pod(137, reason="Evicted"), message="The node was low on resource: memory.")
    assert classify_pod(pod, None).message == "The node was low on resource: memory."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reason": "Evicted"}, "The node was low on resource: memory."),
        ({"reason": "DeadlineExceeded"}, "Pod was active on the node longer than the specified deadline"),
        ({"disruption": "EvictionByEvictionAPI"}, ""),
    ],
)
def test_it_comes_before_the_last_words_of_a_worker_that_is_ended(changes: Any, message: str) -> None:
    pod = replace(an_ended_pod(143, message=LAST_WORDS, **changes), message=message)
    end = classify_pod(pod, None)
    assert end.message == (message or "EvictionByEvictionAPI, exit code 143")
    assert end.log_tail == "at 7"


def test_where_the_cluster_says_nothing_the_worker_does() -> None:
    assert classify_pod(an_ended_pod(143, message=LAST_WORDS, **DELETED_BEFORE), None).message == "terminated (SIGTERM)"


#: What the kubelet of 1.36 wrote of evicted pods: it may have removed the container before it looks how that ended.
LOW = "The node was low on resource: memory. Threshold quantity: 1Pi, available: 17166744Ki. "
FORGOTTEN = {
    "exitCode": 137,
    "reason": "ContainerStatusUnknown",
    "message": "The container could not be located when the pod was terminated",
    "startedAt": None,
    "finishedAt": None,
}


def an_evicted_body(state: dict[str, Any]) -> dict[str, Any]:
    target = {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "message": LOW}
    container = {"name": "task", "state": state, "lastState": {"terminated": FORGOTTEN}, "restartCount": 1}
    end = {"phase": "Failed", "reason": "Evicted", "message": LOW, "conditions": [target]}
    return a_pod_body(status={**end, "containerStatuses": [container]})


@pytest.mark.parametrize("state", [{"waiting": {"reason": "ContainerCreating"}}, {"terminated": FORGOTTEN}])
def test_an_evicted_pod_of_which_the_kubelet_forgot_the_container(state: dict[str, Any]) -> None:
    pod = observe_pod(an_evicted_body(state))
    assert pod is not None
    end = classify_pod(pod, None)
    assert (end.cause, end.exit_code, end.log_tail) == (Cause.DISRUPTION, None, None)
    assert end.message == LOW.strip()


def test_a_pod_that_a_node_under_pressure_does_not_take() -> None:
    said = "Pod was rejected: The node had condition: [DiskPressure]. "
    pod = observe_pod(a_pod_body(status={"phase": "Failed", "reason": "Evicted", "message": said}))
    assert pod is not None
    end = classify_pod(pod, None)
    assert (end.cause, end.message) == (Cause.DISRUPTION, said.strip())


def test_the_whole_end_of_a_completed_attempt() -> None:
    end = classify_pod(an_ended_pod(0, message='{"longtask":1,"result":7,"done":9,"total":9}'), None)
    assert (end.exit_code, end.started, end.finished, end.log_tail) == (0, at(1), at(5), None)
    assert end.outcome == Outcome(result=Result(value=7), done=9, total=9)
    assert end.counted == (9, 9)


def test_an_outcome_may_bring_the_end_of_its_log() -> None:
    message = '{"longtask":1,"message":"KeyError: 1","logTail":"Traceback\\nKeyError: 1\\n"}'
    end = classify_pod(an_ended_pod(1, message=message), None)
    assert (end.message, end.log_tail) == ("KeyError: 1", "Traceback\nKeyError: 1")


def test_a_message_that_is_no_outcome_is_a_log_tail() -> None:
    end = classify_pod(an_ended_pod(1, message="Traceback\nKeyError: 'x'\n"), None)
    assert (end.log_tail, end.outcome) == ("Traceback\nKeyError: 'x'", None)


@pytest.mark.parametrize(
    ("left", "sidecar", "expected"),
    [("", "3/4 still", (3, 4)), ('{"longtask":1,"done":4}', "3/4", (4, None)), ("log", "nonsense", None)],
)
def test_the_last_count_is_the_workers_or_the_sidecars(left: str, sidecar: str, expected: Any) -> None:
    pod = an_ended_pod(0, message=left, sidecar_message=sidecar)
    assert classify_pod(pod, None).counted == expected


def test_a_refusal_names_node_and_reason() -> None:
    pod = a_pod(phase="Failed", reason="OutOfcpu", message="Node didn't have enough resource: cpu")
    assert classify_pod(pod, None).message == "refused by node node-1: OutOfcpu: Node didn't have enough resource: cpu"


def test_lost() -> None:
    assert (lost("gone").cause, lost("gone").message) == (Cause.LOST, "gone")
