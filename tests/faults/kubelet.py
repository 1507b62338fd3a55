"""A kubelet without containers: it plays for each pod what the scenario says, in milliseconds.

The real kubelet needs seconds for each pod, and a sweep needs thousands of pods; a few scenarios run on the
real one as well (test_real_kubelet.py). API server, scheduler, Job controller and garbage collector are real.
What a pod says of itself has the shape that the real kubelet gives it.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.faults.api import Api, ApiFault, Json

TASK_LABEL, ATTEMPT_LABEL = "longtask.dev/task", "longtask.dev/attempt"
PENDING = "PodResizePending"


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What the task container of one attempt does."""

    exit: int | None = 0  #: exit code; None: it works until it is told to stop
    after: float = 0.05  #: seconds until it exits
    reason: str = ""  #: of the termination; made from the exit code where empty
    pod_reason: str = ""  #: of the pod's status, where the kubelet itself ended it
    message: str = ""  #: termination message
    starts: bool = True  #: False: it waits for ever, as with an image that cannot be pulled
    on_term: int = 143  #: exit code on SIGTERM
    lingers: float = 0.0  #: seconds from SIGTERM to the exit
    resizes: str = ""  #: what the node says of a resize: Infeasible or Deferred; empty: it brings it about


SUCCEEDS, WORKS, NEVER_STARTS = Act(), Act(exit=None), Act(starts=False)
_OVERDUE = Act(exit=143, pod_reason="DeadlineExceeded")


def fails(code: int = 1) -> Act:
    return Act(exit=code)


def out_of_memory() -> Act:
    return Act(exit=137, reason="OOMKilled")


@dataclass(slots=True)
class Kubelet:
    """One node, and everything that runs on it."""

    api: Api
    node: str
    acts: dict[tuple[str, str], tuple[Act, ...]] = field(default_factory=dict)  #: by namespace and task, per attempt
    _pods: dict[str, Json] = field(default_factory=dict)  #: by uid, as last seen
    _lives: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _told: dict[str, asyncio.Future[Act]] = field(default_factory=dict)  #: how a working container ends
    _wakes: dict[str, asyncio.Event] = field(default_factory=dict)  #: set when a pod changed, or was told something
    _forsaken: set[str] = field(default_factory=set)  #: uids of pods whose node does not answer any more

    async def run(self) -> None:
        """Register the node and play pods until cancelled."""
        await self._register()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat())
            async for event in self.api.changes("/api/v1/pods", fieldSelector=f"spec.nodeName={self.node}"):
                self._take(event["type"], event["object"], group)

    def tell(self, namespace: str, task: str, act: Act) -> None:
        """Let the container of *task* that works now end as *act* says."""
        for uid, pod in self._pods.items():
            meta = pod["metadata"]
            future = self._told.get(uid)
            if (
                (meta["namespace"], meta["labels"].get(TASK_LABEL)) == (namespace, task)
                and future
                and not future.done()
            ):
                future.set_result(act)
                self._wakes[uid].set()

    async def forsake(self, pod: Json) -> None:
        """Never touch *pod* again, and let it look as the node controller makes the pods of a lost node look."""
        uid = pod["metadata"]["uid"]
        self._forsaken.add(uid)
        if life := self._lives.get(uid):
            life.cancel()
        others = [c for c in pod["status"].get("conditions") or [] if c["type"] not in ("Ready", "ContainersReady")]
        lost = {"type": "Ready", "status": "False", "lastTransitionTime": _now()}
        containers = {"type": "ContainersReady", "status": "True", "lastTransitionTime": _now()}
        await self._say(pod, {"conditions": [*others, lost, containers]})

    def _take(self, kind: str, pod: Json, group: asyncio.TaskGroup) -> None:
        meta = pod["metadata"]
        uid = meta["uid"]
        if kind == "DELETED":
            self._pods.pop(uid, None)
            self._told.pop(uid, None)
            self._wakes.pop(uid, None)
            if life := self._lives.pop(uid, None):
                life.cancel()
            return
        self._pods[uid] = pod
        if uid not in self._lives:
            self._told[uid], self._wakes[uid] = asyncio.get_running_loop().create_future(), asyncio.Event()
            self._lives[uid] = group.create_task(self._live(pod))
        if meta.get("deletionTimestamp") and not self._told[uid].done():
            act = self._act(pod)
            self._told[uid].set_result(Act(exit=act.on_term, lingers=act.lingers))
        self._wakes[uid].set()

    def _act(self, pod: Json) -> Act:
        labels = pod["metadata"].get("labels") or {}
        acts = self.acts.get((pod["metadata"]["namespace"], labels.get(TASK_LABEL, "")), (SUCCEEDS,))
        return acts[min(int(labels.get(ATTEMPT_LABEL, 1)), len(acts)) - 1]

    async def _live(self, pod: Json) -> None:
        """Play one pod from its start to its end, and take it away once it is to be deleted."""
        uid, act = pod["metadata"]["uid"], self._act(pod)
        if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            box = _Box(_now() if act.starts else None, _resources(pod))
            await self._say(pod, box.running() if act.starts else box.waiting())
            end = await self._end_of(uid, act, box)
            await asyncio.sleep(end.lingers)
            await self._say(pod, box.ended(end))
        while not (self._pods.get(uid) or pod)["metadata"].get("deletionTimestamp"):  # noqa: ASYNC110 - a watch sets it
            await asyncio.sleep(0.02)
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        with contextlib.suppress(ApiFault):
            await self.api.delete(_path(pod), **options)

    async def _end_of(self, uid: str, act: Act, box: _Box) -> Act:
        """Return how the container ends; resize it meanwhile."""
        told, wake, loop = self._told[uid], self._wakes[uid], asyncio.get_running_loop()
        limit = self._pods[uid]["spec"].get("activeDeadlineSeconds")
        runs = None if act.exit is None or not act.starts else act.after
        ends, end = (limit, _OVERDUE) if limit and (runs is None or runs > limit) else (runs, act)
        until = None if ends is None else loop.time() + ends
        while not told.done():
            wake.clear()
            if act.starts:
                await self._resize(self._pods[uid], act, box)
            try:
                async with asyncio.timeout_at(until):
                    await wake.wait()
            except TimeoutError:
                return end
        return told.result()

    async def _resize(self, pod: Json, act: Act, box: _Box) -> None:
        """Answer what the pod's spec asks for, if that is new."""
        asked, said = _resources(pod), box.answered
        if asked == said:
            return
        box.answered = asked
        others = [c for c in pod["status"].get("conditions") or [] if c["type"] != PENDING]
        if act.resizes and asked != box.resources:
            why = {"reason": act.resizes, "message": "Node didn't have enough resource: memory"}
            condition = {"type": PENDING, "status": "True", "lastTransitionTime": _now(), **why}
            await self._say(pod, {"conditions": [*others, condition]})
            return
        box.resources = asked
        await self._say(pod, {"conditions": others, **box.running()})

    async def _say(self, pod: Json, status: Json) -> None:
        with contextlib.suppress(ApiFault):  # the pod is gone
            await self.api.request("PATCH", f"{_path(pod)}/status", {"status": status})

    async def _register(self) -> None:
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.node}}
        with contextlib.suppress(ApiFault):
            await self.api.request("POST", "/api/v1/nodes", body)
        resources = {"cpu": "4000", "memory": "8Ti", "pods": "100000", "ephemeral-storage": "100Ti"}
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": _now()}
        status = {"capacity": resources, "allocatable": resources, "conditions": [ready]}
        await self.api.request("PATCH", f"/api/v1/nodes/{self.node}/status", {"status": status})

    async def _beat(self) -> None:
        """Renew the node's Lease, so that nobody takes the node for lost."""
        leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        while True:
            now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
            spec = {"holderIdentity": self.node, "leaseDurationSeconds": 40, "renewTime": now}
            try:
                await self.api.request("PATCH", f"{leases}/{self.node}", {"spec": spec})
            except ApiFault:
                meta = {"name": self.node, "namespace": "kube-node-lease"}
                body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
                with contextlib.suppress(ApiFault):
                    await self.api.request("POST", leases, body)
            await asyncio.sleep(1)


@dataclass(slots=True)
class _Box:
    """The task container of one pod: since when it runs, None where it never does, and with which resources."""

    started: str | None
    resources: Json
    answered: Json = field(init=False)  #: what the pod's spec asked for when the node looked at it last

    def __post_init__(self) -> None:
        self.answered = self.resources

    def running(self) -> Json:
        return {
            "phase": "Running",
            "startTime": self.started,
            **self._container({"running": {"startedAt": self.started}}, ready=True),
        }

    def waiting(self) -> Json:
        waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}
        return {"phase": "Pending", "startTime": _now(), **self._container({"waiting": waiting}, ready=False)}

    def ended(self, act: Act) -> Json:
        phase = "Succeeded" if act.exit == 0 else "Failed"
        if self.started is None:  # the kubelet makes up an exit code for a container that never ran
            never = {"exitCode": 137, "reason": "ContainerStatusUnknown", "startedAt": None, "finishedAt": None}
            return {"phase": "Failed", **self._container({"terminated": never}, ready=False)}
        why = {"reason": act.pod_reason} if act.pod_reason else {}
        terminated = {
            "exitCode": act.exit or 0,
            "reason": act.reason or ("Completed" if act.exit == 0 else "Error"),
            "message": act.message,
            "startedAt": self.started,
            "finishedAt": _now(),
        }
        return {"phase": phase, **why, **self._container({"terminated": terminated}, ready=False)}

    def _container(self, state: Json, *, ready: bool) -> Json:
        whole = {"running": None, "waiting": None, "terminated": None, **state}
        status = {"name": "task", "image": "task", "imageID": "", "restartCount": 0, "ready": ready, "state": whole}
        granted = {"resources": self.resources, "allocatedResources": self.resources.get("requests")}
        return {"containerStatuses": [status | (granted if self.started else {})]}


def _resources(pod: Json) -> Json:
    """Return what the pod's spec asks for, for its task container."""
    found: Json = next(c for c in pod["spec"]["containers"] if c["name"] == "task").get("resources") or {}
    return found


def _path(pod: Json) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
