"""Jobs and Pods as read from the API server, reduced to the facts that decisions use.

The views are what the caches hold: a fraction of the memory of the objects, and nothing
below this module knows how a pod's status is spelt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, TypeVar

from longtask_operator.api.names import (
    ANNOTATION_GENERATION,
    ANNOTATION_KEY,
    ANNOTATION_RESUME,
    ANNOTATION_RUN,
    FINALIZER,
    KUEUE_QUEUE_LABEL,
    LABEL_ATTEMPT,
    LABEL_TASK,
    LABEL_TASK_UID,
    SIDECAR_CONTAINER,
    TASK_CONTAINER,
)
from longtask_operator.api.quantity import parse_cpu, parse_memory
from longtask_operator.api.report import MAX_CHECKPOINT_URI
from longtask_operator.api.times import parse_optional_time, parse_time
from longtask_operator.core.sizing import Size

N = TypeVar("N", int, None)
_OUR_NUMBER = re.compile(r"[0-9]{1,9}")

#: Reasons of a waiting container that people should see at once.
_TELLING_WAITS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ImageInspectError",
    }
)


#: What the kubelet says of a container that it does not find: never started, or forgotten with the node.
_UNKNOWN_END = "ContainerStatusUnknown"
_ABANDON_AFTER = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a container ended."""

    exit_code: int
    reason: str
    message: str
    started: datetime | None
    finished: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSizes:
    """What the task container may use: as the pod's spec asks, and as the node lets it."""

    asked: Size
    in_force: Size | None = None  #: None: the kubelet did not say
    pending: str = ""  #: why the kubelet does not resize it now: Infeasible or Deferred
    message: str = ""  #: of the kubelet, on that
    in_progress: bool = False  #: the kubelet has granted what is asked, or brings it about


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """A Job of ours."""

    name: str
    namespace: str
    uid: str
    version: int  #: resourceVersion
    task_name: str
    task_uid: str
    owner_uid: str | None  #: uid of the controlling owner, which alone may be believed
    attempt: int
    run: int
    generation: int
    created: datetime
    deleting: bool
    finished: bool  #: condition Complete or Failed
    message: str  #: message of that condition
    key: str = ""  #: idempotency key of its task
    queue: str = ""  #: LocalQueue of Kueue that it was handed to
    suspended: bool = False  #: its controller makes no pod, and takes away the one that there is
    started: datetime | None = None  #: when its controller began, after a suspension when it began again


@dataclass(frozen=True, slots=True, kw_only=True)
class PodView:
    """A Pod of one of our Jobs."""

    name: str
    namespace: str
    uid: str
    version: int
    task_name: str
    task_uid: str
    attempt: int
    node: str | None
    phase: str
    reason: str  #: of the pod's status: Evicted, DeadlineExceeded
    message: str
    created: datetime
    deleted_at: datetime | None  #: when its grace ends, if it is being deleted
    grace_seconds: int
    held: bool  #: our finalizer is on it
    running_since: datetime | None  #: of the task container
    waiting: str  #: why the task container waits, where that tells people something
    ended: Ended | None  #: of the task container
    end_unknown: bool  #: the task container is over and nobody knows how
    disruption: str  #: reason of a true DisruptionTarget condition
    node_lost_at: datetime | None  #: when the cluster took back its readiness, because its node does not answer
    has_sidecar: bool
    sidecar_message: str
    key: str = ""  #: idempotency key of its task
    resume: tuple[str, ...] = ()  #: manifests of the checkpoints that it was given, newest first
    abandoned: bool = False  #: see `abandoned_at`
    waiting_since: datetime | None = None  #: since when we have seen it wait for this kind of reason
    sizes: PodSizes | None = None  #: of the task container; None: not of a kind that we give
    resizing_since: datetime | None = None  #: since when we have seen it ask for more than is in force
    node_back_at: datetime | None = None  #: when we saw its node answer again

    @property
    def is_terminal(self) -> bool:
        """Whether no container of it runs or will ever run: one deleted before it had a node never gets one."""
        never_bound = self.deleted_at is not None and self.node is None
        return self.phase in ("Succeeded", "Failed") or never_bound or self.abandoned

    @property
    def abandoned_at(self) -> datetime | None:
        """When a force-deleted pod counts as gone, though our finalizer still shows it.

        A kubelet that lives ends it and says so long before; without one nobody ever will.
        """
        if self.deleted_at is None or self.grace_seconds > 0 or self.phase in ("Succeeded", "Failed"):
            return None
        return self.deleted_at + _ABANDON_AFTER

    @property
    def is_over(self) -> bool:
        """Whether the attempt is decided: its task container has ended, and with it what the sidecar had to say."""
        return self.is_terminal or (self.ended is not None and not self.has_sidecar)


def may_end_an_attempt(before: JobView | PodView | None, after: JobView | PodView | None) -> bool:
    """Return whether from *before* to *after* a pod decides its attempt, frees its room or goes: people wait for that.

    Mostly they come at once; where a container that somebody injected outlives the task's, the room comes later. All
    else of a Job or a pod is a step on the way there, and the next one is near.
    """
    if not isinstance(after or before, PodView):
        return False
    return after is None or _steps_to_the_end(after) > _steps_to_the_end(before)


def _steps_to_the_end(child: JobView | PodView | None) -> int:
    """Return how far a pod has ended: 1 when its attempt is decided, 2 when nothing of it runs."""
    return child.is_over + child.is_terminal if isinstance(child, PodView) else 0


def observe_job(body: Mapping[str, Any]) -> JobView | None:
    """Return the facts of a Job, or None if it does not carry our labels."""
    meta = body["metadata"]
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    attempt = _number(labels.get(LABEL_ATTEMPT), None)
    if LABEL_TASK_UID not in labels or attempt is None:
        return None
    conditions = [c for c in (body.get("status") or {}).get("conditions") or [] if c.get("status") == "True"]
    final = next((c for c in conditions if c["type"] in ("Complete", "Failed")), None)
    return JobView(
        name=meta["name"],
        namespace=meta["namespace"],
        uid=meta["uid"],
        version=int(meta["resourceVersion"]),
        task_name=labels.get(LABEL_TASK, ""),
        task_uid=labels[LABEL_TASK_UID],
        owner_uid=next((o["uid"] for o in meta.get("ownerReferences") or [] if o.get("controller")), None),
        attempt=attempt,
        run=_number(annotations.get(ANNOTATION_RUN), 1),
        generation=_number(annotations.get(ANNOTATION_GENERATION), 0),
        created=parse_time(meta["creationTimestamp"]),
        deleting="deletionTimestamp" in meta,
        finished=final is not None,
        message=str((final or {}).get("message") or ""),
        key=str(annotations.get(ANNOTATION_KEY) or ""),
        queue=str(labels.get(KUEUE_QUEUE_LABEL) or ""),
        suspended=bool((body.get("spec") or {}).get("suspend")),
        started=parse_optional_time((body.get("status") or {}).get("startTime")),
    )


def observe_pod(body: Mapping[str, Any]) -> PodView | None:
    """Return the facts of a Pod, or None if it does not carry our labels."""
    meta, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    attempt = _number(labels.get(LABEL_ATTEMPT), None)
    if LABEL_TASK_UID not in labels or attempt is None:
        return None
    task = _container(status.get("containerStatuses"), TASK_CONTAINER)
    sidecar = _container(status.get("initContainerStatuses"), SIDECAR_CONTAINER)
    return PodView(
        name=meta["name"],
        namespace=meta["namespace"],
        uid=meta["uid"],
        version=int(meta["resourceVersion"]),
        task_name=labels.get(LABEL_TASK, ""),
        task_uid=labels[LABEL_TASK_UID],
        attempt=attempt,
        node=spec.get("nodeName"),
        phase=str(status.get("phase") or "Pending"),
        reason=str(status.get("reason") or ""),
        message=str(status.get("message") or "").strip()[:1024],
        created=parse_time(meta["creationTimestamp"]),
        deleted_at=parse_optional_time(meta.get("deletionTimestamp")),
        grace_seconds=int(meta.get("deletionGracePeriodSeconds") or 0),
        held=FINALIZER in (meta.get("finalizers") or []),
        running_since=parse_optional_time((task.get("running") or {}).get("startedAt")),
        waiting=_waiting(task, sidecar, status),
        ended=_ended(task),
        end_unknown=(task.get("terminated") or {}).get("reason") == _UNKNOWN_END,
        disruption=_disruption(status),
        node_lost_at=_node_lost_at(status),
        has_sidecar=any(c.get("name") == SIDECAR_CONTAINER for c in spec.get("initContainers") or []),
        key=str(annotations.get(ANNOTATION_KEY) or ""),
        resume=_manifests(annotations.get(ANNOTATION_RESUME)),
        sidecar_message=str((sidecar.get("terminated") or {}).get("message") or "")[:4096],
        sizes=_sizes(spec, status),
    )


def is_unchanged(pod: PodView, now: PodView) -> bool:
    """Return whether *now*, read later, says the same of *pod*'s life."""
    facts = [(p.phase, p.running_since, p.ended, p.deleted_at, p.grace_seconds, p.node_lost_at) for p in (pod, now)]
    return facts[0] == facts[1]


def is_in_force(size: Size, pods: Sequence[PodView]) -> bool:
    """Return whether the attempt's only pod may use all of *size*, or could when it ended."""
    sizes = pods[0].sizes if len(pods) == 1 else None
    return bool(sizes and sizes.in_force and sizes.in_force.covers(size))


def is_resizing(pod: PodView) -> bool:
    """Return whether the running container of *pod* is to have more than its node lets it use."""
    sizes = pod.sizes
    return bool(pod.running_since and sizes and sizes.in_force and not sizes.in_force.covers(sizes.asked))


def judged_at(pod: PodView, now: datetime) -> PodView:
    """Return *pod* as it counts at *now*: abandoned, if it was force-deleted and nobody ended it since."""
    moment = pod.abandoned_at
    return replace(pod, abandoned=True) if moment and now >= moment else pod


def _container(statuses: Any, name: str) -> Mapping[str, Any]:
    state: Mapping[str, Any] = _named(statuses, name).get("state") or {}
    return state


def _named(entries: Any, name: str) -> Mapping[str, Any]:
    """Return the entry of a list that has that name, or an empty one."""
    return next((entry for entry in entries or [] if entry.get("name") == name), {})


def _manifests(text: Any) -> tuple[str, ...]:
    """Return the manifests that we once wrote, one a line, within the bounds of the status."""
    return tuple(line for line in str(text or "").split("\n") if 0 < len(line) <= MAX_CHECKPOINT_URI)


def _sizes(spec: Mapping[str, Any], status: Mapping[str, Any]) -> PodSizes | None:
    asked = _size_of(_named(spec.get("containers"), TASK_CONTAINER))
    if asked is None:
        return None
    container = _named(status.get("containerStatuses"), TASK_CONTAINER)
    in_force, granted = _size_of(container), container.get("allocatedResources") or {}
    true = {c.get("type"): c for c in status.get("conditions") or [] if c.get("status") == "True"}
    pending, allocated = true.get("PodResizePending"), _parsed_size(*_amounts(granted))
    in_progress = "PodResizeInProgress" in true or bool(allocated and allocated.covers(asked))
    if pending is None:
        return _plain_sizes(asked, in_force, in_progress)
    return PodSizes(
        asked=asked,
        in_force=in_force,
        pending=str(pending.get("reason") or ""),
        message=str(pending.get("message") or "")[:512],
        in_progress=in_progress,
    )


@lru_cache(maxsize=1024)
def _plain_sizes(asked: Size, in_force: Size | None, in_progress: bool) -> PodSizes:
    """Return the sizes of nearly every pod: one object for thousands of pods in the cache."""
    return PodSizes(asked=asked, in_force=in_force, in_progress=in_progress)


def _size_of(container: Mapping[str, Any]) -> Size | None:
    """Return the limits of a container, None where it does not have both."""
    return _parsed_size(*_amounts((container.get("resources") or {}).get("limits") or {}))


def _amounts(resources: Mapping[str, Any]) -> tuple[str, str]:
    return str(resources.get("cpu") or ""), str(resources.get("memory") or "")


@lru_cache(maxsize=1024)
def _parsed_size(cpu: str, memory: str) -> Size | None:
    try:
        return Size(cpu=parse_cpu(cpu), memory=parse_memory(memory))
    except ValueError:  # there is none
        return None


def _ended(state: Mapping[str, Any]) -> Ended | None:
    terminated = state.get("terminated")
    if not terminated or terminated.get("reason") == _UNKNOWN_END:
        return None
    return Ended(
        exit_code=int(terminated.get("exitCode") or 0),
        reason=str(terminated.get("reason") or ""),
        message=str(terminated.get("message") or ""),
        started=parse_optional_time(terminated.get("startedAt")),
        finished=parse_optional_time(terminated.get("finishedAt")),
    )


def _waiting(task: Mapping[str, Any], sidecar: Mapping[str, Any], status: Mapping[str, Any]) -> str:
    for state in (task, sidecar):
        waiting = state.get("waiting") or {}
        if waiting.get("reason") in _TELLING_WAITS:
            return f"{waiting['reason']}: {waiting.get('message') or ''}"[:1024].rstrip(": ")
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return f"Unschedulable: {condition.get('message') or ''}"[:1024]
    return ""


def _disruption(status: Mapping[str, Any]) -> str:
    for condition in status.get("conditions") or []:
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return str(condition.get("reason") or "Disrupted")
    return ""


def _node_lost_at(status: Mapping[str, Any]) -> datetime | None:
    """Return when Ready became False while the containers are ready: the node controller writes that, no kubelet does.

    Our pods have no readiness gates, which could do the same.
    """
    conditions = {condition.get("type"): condition for condition in status.get("conditions") or []}
    ready, containers = conditions.get("Ready") or {}, conditions.get("ContainersReady") or {}
    if status.get("phase") != "Running" or ready.get("status") == "True" or containers.get("status") != "True":
        return None
    return parse_optional_time(ready.get("lastTransitionTime")) if ready else None


def _number(text: Any, default: N) -> int | N:
    """Return a number that we once wrote, else *default*: labels and annotations may be edited by anybody."""
    return int(text) if _OUR_NUMBER.fullmatch(str(text)) else default
