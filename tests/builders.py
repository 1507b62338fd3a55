"""Objects for tests, valid by default: each takes what a test is about and fills in the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from longtask_operator.api.longtask import LongTask, parse_longtask
from longtask_operator.api.status import LongTaskStatus
from longtask_operator.core.current import Observed
from longtask_operator.core.environment import AttemptFacts
from longtask_operator.core.jobs import JobPolicy
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.observe import Ended, JobView, PodView
from longtask_operator.core.policy import Policy
from longtask_operator.core.sizing import Size, parse_ladder

START = datetime(2026, 1, 31, 8, 0, tzinfo=UTC)
UID = "7c9d4f00-0000-4000-8000-000000000001"
SMALLEST = Size(cpu=250, memory=512 * 1024**2)
LADDER = parse_ladder("250m=512Mi,1Gi,2Gi;500m=1Gi,2Gi,3Gi,4Gi;1=2Gi,3Gi,4Gi,5Gi,6Gi,7Gi,8Gi;2=4Gi,8Gi;4=8Gi")
POLICY = Policy(ladder=LADDER)
JOB_POLICY = JobPolicy(
    report_base="https://longtask-reports.longtask-system.svc:8443",
    retention_seconds=3600,
    grace_seconds=30,
    ephemeral_storage="1Gi",
    image_pull_policy="IfNotPresent",
    sidecar_image="longtask/worker:test",
)


def at(seconds: float) -> datetime:
    """Return the moment so many seconds after the start of all tests."""
    return START + timedelta(seconds=seconds)


def wire(seconds: float) -> str:
    """Return the same moment as the API server writes it."""
    return at(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")


def a_longtask(
    spec: Mapping[str, Any] | None = None, status: Mapping[str, Any] | LongTaskStatus | None = None, **metadata: Any
) -> LongTask:
    """Return a LongTask that was created at the start; keys as on the wire."""
    return parse_longtask(a_longtask_body(spec, status, **metadata))


def a_longtask_body(
    spec: Mapping[str, Any] | None = None, status: Mapping[str, Any] | LongTaskStatus | None = None, **metadata: Any
) -> dict[str, Any]:
    """Return the same as an API object."""
    if isinstance(status, LongTaskStatus):
        status = status.model_dump(by_alias=True, exclude_none=True, mode="json")
    return {
        "metadata": {
            "name": "wordcount",
            "namespace": "team-a",
            "uid": UID,
            "resourceVersion": "7",
            "generation": 1,
            "creationTimestamp": wire(0),
            **metadata,
        },
        "spec": {"image": "registry.example/wordcount:1.4", **(spec or {})},
        "status": {"observedGeneration": -1, **(status or {})},
    }


def an_entry(**changes: Any) -> LedgerEntry:
    """Return the ledger entry of attempt 1."""
    return replace(LedgerEntry(uid=UID, attempt=1, generation=1, size=SMALLEST), **changes)


def a_job(**changes: Any) -> JobView:
    """Return the Job of attempt 1, created at the start, unfinished; its name follows the attempt."""
    attempt = changes.get("attempt", 1)
    job = JobView(
        name=f"wordcount-7c9d4f-{attempt}",
        namespace="team-a",
        uid=f"job-{attempt}",
        version=10,
        task_name="wordcount",
        task_uid=UID,
        owner_uid=UID,
        attempt=1,
        run=1,
        generation=1,
        created=START,
        deleting=False,
        finished=False,
        message="",
    )
    return replace(job, **changes)


def a_pod(**changes: Any) -> PodView:
    """Return the pod of attempt 1, created at the start, scheduled and not running yet."""
    attempt = changes.get("attempt", 1)
    pod = PodView(
        name=f"wordcount-7c9d4f-{attempt}-abcde",
        namespace="team-a",
        uid=f"pod-{attempt}",
        version=11,
        task_name="wordcount",
        task_uid=UID,
        attempt=1,
        node="node-1",
        phase="Pending",
        reason="",
        message="",
        created=START,
        deleted_at=None,
        grace_seconds=0,
        held=True,
        running_since=None,
        waiting="",
        ended=None,
        end_unknown=False,
        disruption="",
        node_lost_at=None,
        has_sidecar=False,
        sidecar_message="",
    )
    return replace(pod, **changes)


POD_LABELS = {"longtask.dev/task": "wordcount", "longtask.dev/task-uid": UID, "longtask.dev/attempt": "2"}


def a_pod_body(
    task: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
    spec: dict[str, Any] | None = None,
    **metadata: Any,
) -> dict[str, Any]:
    """Return a pod whose task container is in the state *task*."""
    meta = {
        "name": "wordcount-7c9d4f-2-abcde",
        "namespace": "team-a",
        "uid": "p",
        "resourceVersion": "42",
        "creationTimestamp": wire(4),
        "labels": POD_LABELS,
        "finalizers": ["batch.kubernetes.io/job-tracking", "longtask.dev/accounting"],
    }
    containers = [{"name": "task", "state": task}] if task else []
    return {
        "metadata": meta | metadata,
        "spec": {"nodeName": "node-1", **(spec or {})},
        "status": {"phase": "Running", "containerStatuses": containers, **(status or {})},
    }


def a_running_pod(**changes: Any) -> PodView:
    """Return a pod whose task container has run since second 1."""
    return a_pod(**{"phase": "Running", "running_since": at(1), **changes})


def a_container_end(exit_code: int = 0, **changes: Any) -> Ended:
    """Return the end of a task container that ran from second 1 to second 5."""
    reason = "Completed" if exit_code == 0 else "Error"
    return replace(Ended(exit_code=exit_code, reason=reason, message="", started=at(1), finished=at(5)), **changes)


def an_ended_pod(exit_code: int = 0, **changes: Any) -> PodView:
    """Return a pod in its terminal phase; *message* is the termination message."""
    end: dict[str, Any] = {key: changes.pop(key) for key in ("message", "finished", "started") if key in changes}
    if "end_reason" in changes:
        end["reason"] = changes.pop("end_reason")
    phase = "Succeeded" if exit_code == 0 else "Failed"
    return a_pod(**{"phase": phase, "ended": a_container_end(exit_code, **end), **changes})


def seen(task: LongTask | None = None, **changes: Any) -> Observed:
    """Return what a reconcile of *task* sees at second 10, with nothing else there."""
    observed = Observed(
        task=task or a_longtask(), tenant="team-a", entry=None, jobs=(), pods=(), now=at(10), jitter=0.5
    )
    return replace(observed, **changes)


def some_facts(**changes: Any) -> AttemptFacts:
    """Return the facts of attempt 1."""
    facts = AttemptFacts(
        tenant="team-a", run=1, number=1, size=SMALLEST, deadline=None, report_base=JOB_POLICY.report_base
    )
    return replace(facts, **changes)


#: The status of a task whose first attempt completed at second 5.
FINISHED: dict[str, Any] = {
    "run": 1,
    "attempt": 1,
    "tenant": "team-a",
    "runStartTime": wire(0),
    "completionTime": wire(5),
    "phase": "Succeeded",
    "reason": "Completed",
    "attempts": [
        {"number": 1, "run": 1, "generation": 1, "startTime": wire(1), "completionTime": wire(5), "cause": "Completed"}
    ],
    "conditions": [
        {"type": "Finished", "status": "True", "reason": "Completed", "message": "", "lastTransitionTime": wire(5)}
    ],
}
