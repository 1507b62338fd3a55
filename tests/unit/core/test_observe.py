from __future__ import annotations

from typing import Any

import pytest

from longtask_operator.core.observe import Ended, JobView, PodView, may_end_an_attempt, observe_job, observe_pod
from tests.builders import POD_LABELS, UID, a_job, a_pod, a_pod_body, a_running_pod, an_ended_pod, at, wire


def a_job_body(status: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    meta = {
        "name": "wordcount-7c9d4f-2",
        "namespace": "team-a",
        "uid": "j",
        "resourceVersion": "41",
        "creationTimestamp": wire(3),
        "labels": POD_LABELS,
        "annotations": {"longtask.dev/generation": "5", "longtask.dev/run": "3"},
        "ownerReferences": [{"uid": "other"}, {"uid": UID, "controller": True}],
    }
    return {"metadata": meta | metadata, "status": status or {}}


class TestJobs:
    def test_a_job_of_ours(self) -> None:
        job = observe_job(a_job_body())
        assert job is not None
        assert (job.task_name, job.task_uid, job.owner_uid) == ("wordcount", UID, UID)
        assert (job.attempt, job.run, job.generation, job.version) == (2, 3, 5, 41)
        assert (job.created, job.deleting, job.finished, job.message) == (at(3), False, False, "")

    def test_what_kueue_does_with_a_job(self) -> None:
        body = a_job_body(labels={**POD_LABELS, "kueue.x-k8s.io/queue-name": "q"}) | {"spec": {"suspend": True}}
        job = observe_job(body)
        assert job is not None
        assert (job.queue, job.suspended, job.started) == ("q", True, None)
        job = observe_job(a_job_body({"startTime": wire(9)}) | {"spec": {"suspend": False}})
        assert job is not None
        assert (job.queue, job.suspended, job.started) == ("", False, at(9))

    @pytest.mark.parametrize("condition", ["Complete", "Failed"])
    def test_a_finished_job(self, condition: str) -> None:
        conditions = [
            {"type": "Suspended", "status": "True"},
            {"type": condition, "status": "True", "message": "said"},
        ]
        job = observe_job(a_job_body({"conditions": conditions}, deletionTimestamp=wire(9)))
        assert job is not None
        assert (job.finished, job.message, job.deleting) == (True, "said", True)

    def test_a_condition_that_is_not_true_says_nothing(self) -> None:
        job = observe_job(a_job_body({"conditions": [{"type": "Failed", "status": "False"}]}))
        assert job is not None
        assert not job.finished

    def test_nobody_owns_a_job_without_a_controller(self) -> None:
        job = observe_job(a_job_body(ownerReferences=[{"uid": UID}]))
        assert job is not None
        assert job.owner_uid is None


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(None, id="none"),
        pytest.param({"longtask.dev/attempt": "1"}, id="no-uid"),
        pytest.param({"longtask.dev/task-uid": UID}, id="no-attempt"),
        pytest.param({"longtask.dev/task-uid": UID, "longtask.dev/attempt": "first"}, id="a-word"),
        pytest.param({"longtask.dev/task-uid": UID, "longtask.dev/attempt": "²"}, id="a-digit-that-is-no-number"),
        pytest.param({"longtask.dev/task-uid": UID, "longtask.dev/attempt": "9" * 60}, id="beyond-all-attempts"),
    ],
)
def test_objects_without_our_labels_are_skipped(labels: dict[str, str] | None) -> None:
    assert observe_job(a_job_body(labels=labels)) is None
    assert observe_pod(a_pod_body(labels=labels)) is None


@pytest.mark.parametrize("value", ["", "two", "²", "9" * 5000, "-1", "1.0"])
def test_an_annotation_that_somebody_edited_counts_as_absent(value: str) -> None:
    job = observe_job(a_job_body(annotations={"longtask.dev/generation": value, "longtask.dev/run": value}))
    assert job is not None
    assert (job.run, job.generation) == (1, 0)


class TestPods:
    def test_a_pod_that_waits_for_a_node(self) -> None:
        pod = observe_pod(a_pod_body(status={"phase": "Pending"}, spec={"nodeName": None}))
        assert pod is not None
        assert (pod.phase, pod.node, pod.running_since, pod.ended, pod.held) == ("Pending", None, None, None, True)
        assert (pod.attempt, pod.version, pod.created) == (2, 42, at(4))

    def test_a_pod_without_a_status_is_pending(self) -> None:
        body = a_pod_body(finalizers=None)
        del body["status"], body["spec"]
        pod = observe_pod(body)
        assert pod is not None
        assert (pod.phase, pod.held, pod.has_sidecar) == ("Pending", False, False)

    def test_a_running_pod(self) -> None:
        pod = observe_pod(a_pod_body({"running": {"startedAt": wire(7)}}))
        assert pod is not None
        assert pod.running_since == at(7)
        assert not pod.is_over

    def test_a_container_that_ended(self) -> None:
        state = {"exitCode": 3, "reason": "Error", "message": "m", "startedAt": wire(5), "finishedAt": wire(8)}
        pod = observe_pod(a_pod_body({"terminated": state}))
        assert pod is not None
        assert pod.ended == Ended(exit_code=3, reason="Error", message="m", started=at(5), finished=at(8))
        assert pod.is_over
        assert not pod.is_terminal

    def test_the_end_of_another_container_is_not_the_tasks(self) -> None:
        statuses = [{"name": "istio-proxy", "state": {"terminated": {"exitCode": 1}}}]
        pod = observe_pod(a_pod_body(status={"containerStatuses": statuses}))
        assert pod is not None
        assert pod.ended is None

    def test_a_pod_that_is_being_deleted(self) -> None:
        pod = observe_pod(a_pod_body(deletionTimestamp=wire(40), deletionGracePeriodSeconds=30))
        assert pod is not None
        assert (pod.deleted_at, pod.grace_seconds) == (at(40), 30)

    def test_what_people_should_see_of_a_waiting_container(self) -> None:
        waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
        pod = observe_pod(a_pod_body(waiting, {"phase": "Pending"}))
        assert pod is not None
        assert pod.waiting == "ImagePullBackOff: no such image"

    def test_an_ordinary_wait_says_nothing(self) -> None:
        pod = observe_pod(a_pod_body({"waiting": {"reason": "ContainerCreating"}}, {"phase": "Pending"}))
        assert pod is not None
        assert pod.waiting == ""

    def test_the_scheduler_is_heard(self) -> None:
        conditions = [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}
        ]
        pod = observe_pod(a_pod_body(status={"phase": "Pending", "conditions": conditions}))
        assert pod is not None
        assert pod.waiting == "Unschedulable: 0/3 nodes are available"

    @pytest.mark.parametrize(
        ("status", "reason", "expected"),
        [
            ("True", "TerminationByKubelet", "TerminationByKubelet"),
            ("True", None, "Disrupted"),
            ("False", "x", ""),
        ],
    )
    def test_a_disruption(self, status: str, reason: str | None, expected: str) -> None:
        condition = {"type": "DisruptionTarget", "status": status, "reason": reason}
        pod = observe_pod(a_pod_body(status={"conditions": [condition]}))
        assert pod is not None
        assert pod.disruption == expected

    def test_the_sidecars_last_word(self) -> None:
        pod = observe_pod(
            a_pod_body(
                spec={"initContainers": [{"name": "longtask-sidecar"}]},
                status={
                    "initContainerStatuses": [
                        {"name": "longtask-sidecar", "state": {"terminated": {"message": '{"done":1}'}}}
                    ]
                },
            )
        )
        assert pod is not None
        assert (pod.has_sidecar, pod.sidecar_message) == (True, '{"done":1}')

    def test_an_end_that_the_node_does_not_know(self) -> None:
        pod = observe_pod(a_pod_body({"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}}))
        assert pod is not None
        assert (pod.ended, pod.end_unknown) == (None, True)


@pytest.mark.parametrize(
    ("changes", "terminal", "over"),
    [
        ({"phase": "Pending"}, False, False),
        ({"phase": "Running"}, False, False),
        ({"phase": "Unknown"}, False, False),
        ({"phase": "Succeeded"}, True, True),
        ({"phase": "Failed"}, True, True),
        ({"phase": "Pending", "node": None, "deleted_at": at(5)}, True, True),
        ({"phase": "Pending", "node": "n", "deleted_at": at(5)}, False, False),
        ({"phase": "Running", "ended": Ended(exit_code=0, reason="", message="", started=None, finished=None)}, 0, 1),
        (
            {
                "phase": "Running",
                "ended": Ended(exit_code=0, reason="", message="", started=None, finished=None),
                "has_sidecar": True,
            },
            False,
            False,
        ),
    ],
)
def test_when_a_pod_is_terminal_and_when_its_attempt_is_decided(
    changes: dict[str, Any], terminal: bool, over: bool
) -> None:
    pod = a_pod(**changes)
    assert (pod.is_terminal, pod.is_over) == (terminal, over)


OVER = Ended(exit_code=0, reason="", message="", started=None, finished=None)


@pytest.mark.parametrize(
    ("before", "after", "may"),
    [
        (None, a_pod(), False),
        (a_pod(), a_running_pod(), False),
        (a_running_pod(), a_running_pod(deleted_at=at(5)), False),
        (a_running_pod(), an_ended_pod(), True),
        (None, an_ended_pod(), True),
        (an_ended_pod(), an_ended_pod(held=False), False),
        (a_running_pod(has_sidecar=True), a_running_pod(has_sidecar=True, ended=OVER), False),
        (a_running_pod(has_sidecar=True, ended=OVER), an_ended_pod(has_sidecar=True), True),
        (a_running_pod(), a_running_pod(ended=OVER), True),
        # A container that somebody injected ran on: now the attempt's room is free.
        (a_running_pod(ended=OVER), an_ended_pod(), True),
        (a_running_pod(), None, True),
        (an_ended_pod(), None, True),
        (None, a_job(), False),
        (a_job(), a_job(finished=True), False),
        (a_job(), None, False),
    ],
)
def test_only_a_pod_that_is_over_now_or_gone_may_end_an_attempt(
    before: JobView | PodView | None, after: JobView | PodView | None, may: bool
) -> None:
    assert may_end_an_attempt(before, after) is may


SMALL = {"cpu": "250m", "memory": "512Mi"}
LARGE = {"cpu": "250m", "memory": "1Gi"}


class TestSizes:
    def sizes(self, asked: Any, container: dict[str, Any] | None = None, *conditions: dict[str, Any]) -> Any:
        body = a_pod_body()
        body["spec"] = {"containers": [{"name": "other"}, {"name": "task", "resources": {"limits": asked}}]}
        statuses = [{"name": "task", **(container or {})}]
        body["status"] = {"containerStatuses": statuses, "conditions": list(conditions)}
        pod = observe_pod(body)
        assert pod is not None
        return pod.sizes

    def test_what_is_asked_for_and_what_is_in_force(self) -> None:
        sizes = self.sizes(LARGE, {"resources": {"limits": SMALL}, "allocatedResources": SMALL})
        assert (sizes.asked.display, sizes.in_force.display) == ("250m/1Gi", "250m/512Mi")
        assert (sizes.pending, sizes.in_progress) == ("", False)

    def test_what_the_node_has_granted_is_in_progress(self) -> None:
        sizes = self.sizes(LARGE, {"resources": {"limits": SMALL}, "allocatedResources": LARGE})
        assert sizes.in_progress
        assert self.sizes(LARGE, None, {"type": "PodResizeInProgress", "status": "True"}).in_progress

    def test_what_the_node_does_not_give(self) -> None:
        condition = {"type": "PodResizePending", "status": "True", "reason": "Deferred", "message": "full"}
        sizes = self.sizes(LARGE, {"resources": {"limits": SMALL}}, condition)
        assert (sizes.pending, sizes.message, sizes.in_progress) == ("Deferred", "full", False)

    @pytest.mark.parametrize("asked", [{}, {"memory": "1Gi"}, {"cpu": "x", "memory": "1Gi"}])
    def test_no_size_of_a_kind_that_we_give(self, asked: dict[str, str]) -> None:
        assert self.sizes(asked) is None
