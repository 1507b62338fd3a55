"""Loads: many objects at once, or so many a second, and the moments at which watches saw what."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

from longtask_operator.adapters.errors import Gone
from longtask_operator.adapters.kube import Json, Kube, resource_path

IN_FLIGHT = 32
#: Called with a watch event and the time at which it came.
Saw = Callable[[Json, float], None]


def jobs_path(namespace: str | None) -> str:
    """Return the path of Jobs."""
    return resource_path("batch/v1", "jobs", namespace)


def tasks_path(namespace: str | None) -> str:
    """Return the path of LongTasks."""
    return resource_path("longtask.dev/v1alpha1", "longtasks", namespace)


def pods_path(namespace: str | None) -> str:
    """Return the path of Pods."""
    return resource_path("v1", "pods", namespace)


def job(name: str) -> Json:
    """Return a bare Job of one pod, as small as it can be."""
    container = {"name": "task", "image": "none", "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}}}
    spec = {"backoffLimit": 0, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}


def task(name: str, **spec: Any) -> Json:
    """Return a LongTask."""
    api = "longtask.dev/v1alpha1"
    return {"apiVersion": api, "kind": "LongTask", "metadata": {"name": name}, "spec": {"image": "none", **spec}}


def quota(tenant: str, concurrency: int) -> Json:
    """Return a TenantQuota."""
    spec = {"concurrency": {"nominal": concurrency}}
    return {"apiVersion": "longtask.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": tenant}, "spec": spec}


def job_done(body: Json) -> bool:
    """Tell whether a Job is Complete."""
    return any(c["type"] == "Complete" for c in (body.get("status") or {}).get("conditions") or [])


def task_done(body: Json) -> bool:
    """Tell whether a LongTask has succeeded."""
    return bool((body.get("status") or {}).get("phase") == "Succeeded")


async def create_all(kube: Kube, path: str, bodies: Iterable[Json]) -> None:
    """Create all *bodies*, 32 at a time."""
    waiting = iter(bodies)

    async def creator() -> None:
        for body in waiting:
            await kube.create(path, body)

    await asyncio.gather(*(creator() for _ in range(IN_FLIGHT)))


async def create_paced(kube: Kube, path: str, bodies: Sequence[Json], per_second: float) -> dict[str, float]:
    """Create *bodies* one after the other at an even pace, none waiting for another; return when each was sent."""
    sent: dict[str, float] = {}
    began = time.monotonic()

    async def create(body: Json) -> None:
        sent[body["metadata"]["name"]] = time.monotonic()
        await kube.create(path, body)

    async with asyncio.TaskGroup() as creations:
        for number, body in enumerate(bodies):
            await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
            creations.create_task(create(body))
    return sent


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


class Ends:
    """Notes when each wanted object was first seen done."""

    def __init__(self, wanted: Iterable[str], done: Callable[[Json], bool]) -> None:
        self._wanted, self._done = set(wanted), done
        self.at: dict[str, float] = {}
        self._all = asyncio.Event()

    def saw(self, event: Json, now: float) -> None:
        """Take in a watch event."""
        name = event["object"]["metadata"]["name"]
        if name in self._wanted and name not in self.at and self._done(event["object"]):
            self.at[name] = now
            if len(self.at) == len(self._wanted):
                self._all.set()

    async def until_all(self, seconds: float) -> None:
        """Wait until all are done. Raises SystemExit with the missing ones: an incomplete round is void."""
        try:
            async with asyncio.timeout(seconds):
                await self._all.wait()
        except TimeoutError:
            missing = sorted(self._wanted - set(self.at))
            raise SystemExit(f"void: {len(missing)} of {len(self._wanted)} did not end, such as {missing[0]}") from None


async def burst(
    kube: Kube, path: str, bodies: Sequence[Json], done: Callable[[Json], bool], seconds: float = 300
) -> float:
    """Create *bodies* at once and return finished objects a second, from the first create to the last end."""
    ends = Ends((body["metadata"]["name"] for body in bodies), done)
    async with watched(kube, path, ends.saw):
        began = time.monotonic()
        await create_all(kube, path, bodies)
        await ends.until_all(seconds)
    return len(bodies) / (max(ends.at.values()) - began)
