"""Loads: many objects at once, or so many a second, and the moments at which watches saw what."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from typing import Any

from longtask_operator.adapters.errors import AlreadyExists, Gone
from longtask_operator.adapters.kube import Json, Kube, resource_path
from longtask_operator.api.names import LABEL_MANAGED_BY

IN_FLIGHT = 32
_API = "longtask.dev/v1alpha1"
#: Of pods on fake nodes, see `devcluster/kwok.py`.
RUN_FOR_LABEL = "devcluster/run-for"
_TASK_LABEL = "longtask.dev/task"
_OF_JOB_CONTROLLER = ("batch.kubernetes.io/", "controller-uid", "job-name")
#: Called with a watch event and the time at which it came.
Saw = Callable[[Json, float], None]


def jobs_path(namespace: str | None) -> str:
    """Return the path of Jobs."""
    return resource_path("batch/v1", "jobs", namespace)


def tasks_path(namespace: str | None) -> str:
    """Return the path of LongTasks."""
    return resource_path(_API, "longtasks", namespace)


def quotas_path() -> str:
    """Return the path of TenantQuotas."""
    return resource_path(_API, "tenantquotas")


def pods_path(namespace: str | None) -> str:
    """Return the path of Pods."""
    return resource_path("v1", "pods", namespace)


def job(name: str) -> Json:
    """Return a bare Job of one pod, as small as it can be."""
    container = {"name": "task", "image": "none", "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}}}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    spec = {"backoffLimit": 0, "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}


def like(attempt: Json, name: str) -> Json:
    """Return a Job of nobody whose pod is like that of *attempt*, the Job of a LongTask; no operator selects it."""
    spec = copy.deepcopy(attempt["spec"])
    spec.pop("selector", None)
    of_pod = spec["template"]["metadata"]
    labels = {
        key.replace("longtask.dev/", "bench/"): value if key != LABEL_MANAGED_BY else "nobody"
        for key, value in of_pod["labels"].items()
        if not key.startswith(_OF_JOB_CONTROLLER)
    }
    spec["template"]["metadata"] = {"labels": labels, "annotations": of_pod.get("annotations", {})}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels},
        "spec": {**spec, "ttlSecondsAfterFinished": None},
    }


def task(name: str, *, run_for: int | None = None, **spec: Any) -> Json:
    """Return a LongTask; its pods run for *run_for* seconds where the operator copies that label, else for one."""
    labels = {"labels": {RUN_FOR_LABEL: f"{run_for}s"}} if run_for is not None else {}
    meta = {"name": name, **labels}
    return {"apiVersion": _API, "kind": "LongTask", "metadata": meta, "spec": {"image": "none", **spec}}


def quota(tenant: str, concurrency: int, **spec: Any) -> Json:
    """Return a TenantQuota."""
    spec = {"concurrency": {"nominal": concurrency}, **spec}
    return {"apiVersion": _API, "kind": "TenantQuota", "metadata": {"name": tenant}, "spec": spec}


def job_done(body: Json) -> bool:
    """Tell whether a Job is Complete."""
    return any(c["type"] == "Complete" for c in (body.get("status") or {}).get("conditions") or [])


def task_done(body: Json) -> bool:
    """Tell whether a LongTask has succeeded."""
    return bool((body.get("status") or {}).get("phase") == "Succeeded")


def pod_ended(body: Json) -> bool:
    """Tell whether a pod is over."""
    return (body.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def name_of(body: Json) -> str:
    """Return the object's own name."""
    return str(body["metadata"]["name"])


def task_of_child(body: Json) -> str:
    """Return the name of the task that a Job or pod belongs to; empty for those of nobody."""
    return str((body["metadata"].get("labels") or {}).get(_TASK_LABEL) or "")


async def put(kube: Kube, collection: str, body: Json) -> None:
    """Create an object, or give the one that is there the spec of *body*."""
    try:
        await kube.create(collection, body)
    except AlreadyExists:
        await kube.merge_patch(f"{collection}/{body['metadata']['name']}", {"spec": body["spec"]})


async def until_queued(kube: Kube, namespaces: Sequence[str], count: int, seconds: float = 300) -> None:
    """Wait until *count* tasks of *namespaces* show that they wait. Raises SystemExit after *seconds*."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if await _queued(kube, namespaces) >= count:
            return
        await asyncio.sleep(1)
    raise SystemExit(f"void: not all of {count} tasks were queued within {seconds:.0f} s")


async def _queued(kube: Kube, namespaces: Sequence[str]) -> int:
    """Return how many tasks are queued: counted by the API server, which is quicker than reading them."""
    found = 0
    for namespace in namespaces:
        page = await kube.get(tasks_path(namespace), limit="1", fieldSelector="status.phase=Queued")
        found += len(page["items"]) + int(page["metadata"].get("remainingItemCount") or 0)
        if page["metadata"].get("continue") and "remainingItemCount" not in page["metadata"]:
            found += await _counted(kube, namespace)
    return found


async def _counted(kube: Kube, namespace: str) -> int:
    """Count the rest by name only: with a field selector the API server does not say how many remain."""
    pages = kube.list_pages(tasks_path(namespace), {"fieldSelector": "status.phase=Queued"}, limit=2_000)
    return sum([len(page["items"]) async for page in pages]) - 1


async def create_all(kube: Kube, path: str, bodies: Iterable[Json]) -> None:
    """Create all *bodies*, 32 at a time."""
    await create_spread(kube, [(path, body) for body in bodies])


async def create_spread(kube: Kube, bodies: Iterable[tuple[str, Json]]) -> None:
    """Create all *bodies*, each at its path, 32 at a time."""
    waiting = iter(bodies)

    async def creator() -> None:
        for path, body in waiting:
            await kube.create(path, body)

    await asyncio.gather(*(creator() for _ in range(IN_FLIGHT)))


async def create_paced(kube: Kube, path: str, bodies: Sequence[Json], per_second: float) -> dict[str, float]:
    """Create *bodies* one after the other at an even pace, none waiting for another; return when each was sent."""
    sent: dict[str, float] = {}

    async def create(body: Json) -> None:
        sent[body["metadata"]["name"]] = time.monotonic()
        await kube.create(path, body)

    await paced([functools.partial(create, body) for body in bodies], per_second)
    return sent


async def paced(acts: Sequence[Callable[[], Coroutine[Any, Any, None]]], per_second: float) -> None:
    """Begin *acts* one after the other at an even pace, none waiting for another; return when all are done."""
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number, act in enumerate(acts):
            await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
            group.create_task(act())


@contextlib.asynccontextmanager
async def watched(kube: Kube, path: str, saw: Saw) -> AsyncIterator[None]:
    """Call *saw* for every event of *path* from now on, while in the block."""
    listed = await kube.get(path, limit="1")
    watching = asyncio.create_task(_follow(kube, path, listed["metadata"]["resourceVersion"], saw))
    try:
        yield
    finally:
        watching.cancel()
        (outcome,) = await asyncio.gather(watching, return_exceptions=True)
        if isinstance(outcome, Gone):
            raise SystemExit("the bench's own watch fell behind; use fewer tasks")


async def _follow(kube: Kube, path: str, version: str, saw: Saw) -> None:
    while True:
        async for event in kube.watch(path, resource_version=version):
            version = event["object"]["metadata"]["resourceVersion"]
            if event["type"] != "BOOKMARK":
                saw(event, time.monotonic())


class Firsts:
    """Notes when each wanted object was first seen to be as wanted."""

    def __init__(self, wanted: Iterable[str], name: Callable[[Json], str], as_wanted: Callable[[Json], bool]) -> None:
        self._wanted, self._name, self._as_wanted = set(wanted), name, as_wanted
        self.at: dict[str, float] = {}
        self._all = asyncio.Event()

    def saw(self, event: Json, now: float) -> None:
        """Take in a watch event."""
        name = self._name(event["object"])
        if name in self._wanted and name not in self.at and self._as_wanted(event["object"]):
            self.at[name] = now
            if len(self.at) == len(self._wanted):
                self._all.set()

    async def as_many_as_end(self, seconds: float) -> int:
        """Return how many were seen within *seconds*; at once when all were."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._all.wait()
        return len(self.at)

    async def until_all(self, seconds: float) -> None:
        """Wait until all were seen. Raises SystemExit with the missing ones: an incomplete round is void."""
        if await self.as_many_as_end(seconds) < len(self._wanted):
            missing = sorted(self._wanted - set(self.at))
            raise SystemExit(f"void: {len(missing)} of {len(self._wanted)} missing, such as {missing[0]}")


async def burst(
    kube: Kube, path: str, bodies: Sequence[Json], done: Callable[[Json], bool], seconds: float = 300
) -> float:
    """Create *bodies* at once and return finished objects a second, from the first create to the last end."""
    ends = Firsts((body["metadata"]["name"] for body in bodies), name_of, done)
    async with watched(kube, path, ends.saw):
        began = time.monotonic()
        await create_all(kube, path, bodies)
        await ends.until_all(seconds)
    return len(bodies) / (max(ends.at.values()) - began)
