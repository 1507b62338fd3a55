"""The least that a strict admission has to do, without an operator: what the API server alone needs for it.

For each task that is created one write of a ledger, shared by those that come meanwhile, then its Job; for each pod
that ended one write of the task's status. Nothing is decided, checked or remembered, and the Jobs are the smallest
there are.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from bench.lib import load
from bench.lib.scene import NAMESPACE, Scene
from longtask_operator.adapters.kube import Json, Kube, resource_path


class _Least:
    """Answers what it sees with these writes, each as soon as it can."""

    def __init__(self, kube: Kube, group: asyncio.TaskGroup, namespace: str) -> None:
        self._kube, self._group, self._namespace = kube, group, namespace
        self._ledger_path = resource_path("v1", "configmaps", namespace, "least")
        self._ledger = asyncio.Lock()  # one write at a time, as of a ledger that must not be exceeded
        self._waiting: set[str] = set()
        self._ended: set[str] = set()

    def saw_task(self, event: Json, now: float) -> None:
        """Admit a task that is new."""
        if event["type"] == "ADDED":
            self._begin(self._admit(load.name_of(event["object"])))

    def saw_pod(self, event: Json, now: float) -> None:
        """End the task of a pod that is over."""
        task = load.task_of_child(event["object"])
        if task and task not in self._ended and load.pod_ended(event["object"]):
            self._ended.add(task)
            path = f"{load.tasks_path(self._namespace)}/{task}/status"
            self._begin(self._kube.merge_patch(path, {"status": {"phase": "Succeeded"}}))

    async def _admit(self, task: str) -> None:
        self._waiting.add(task)
        async with self._ledger:
            if task in self._waiting:  # else the last write was for it too
                self._waiting.clear()
                await self._kube.merge_patch(self._ledger_path, {"data": {"last": task}})
        await self._kube.create(load.jobs_path(self._namespace), load.job(task, of_task=task))

    def _begin(self, what: Coroutine[Any, Any, Any]) -> None:
        self._group.create_task(what)


@contextlib.asynccontextmanager
async def least(stage: Scene, namespace: str = NAMESPACE) -> AsyncIterator[None]:
    """Do the least for all tasks created in *namespace* in the block; when it ends, all writes have an answer."""
    async with stage.kube() as kube, asyncio.TaskGroup() as group:
        does = _Least(kube, group, namespace)
        await kube.create(resource_path("v1", "configmaps", namespace), {"metadata": {"name": "least"}})
        async with (
            load.watched(kube, load.tasks_path(namespace), does.saw_task),
            load.watched(kube, load.pods_path(namespace), does.saw_pod),
        ):
            yield
