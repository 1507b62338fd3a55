"""The least that a strict admission has to do, without an operator: what the API server alone needs for it.

For each task that is created one write of a ledger, shared by those that come meanwhile, then the Job that its attempt
has to have; for each pod that ended one write of the task's status, then the finalizer is taken off the pod. Nothing is
decided, checked or remembered, and the status says no more than that the task succeeded.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from datetime import UTC, datetime
from typing import Any

from bench.lib import load
from bench.lib.scene import NAMESPACE, Scene
from longtask_operator.adapters.authority import renewed
from longtask_operator.adapters.kube import Json, Kube, resource_path
from longtask_operator.api.longtask import parse_longtask
from longtask_operator.api.names import FINALIZER
from longtask_operator.app import job_policy
from longtask_operator.core.environment import AttemptFacts
from longtask_operator.core.jobs import build_job
from longtask_operator.core.sizing import Size
from longtask_operator.settings import Settings

#: Of the smallest task.
_SIZE = Size(cpu=250, memory=512 * 2**20)


class _Least:
    """Answers what it sees with these writes, each as soon as it can."""

    def __init__(self, kube: Kube, group: asyncio.TaskGroup, namespace: str) -> None:
        self._kube, self._group, self._namespace = kube, group, namespace
        self._ledger_path = resource_path("v1", "configmaps", namespace, "least")
        self._ledger = asyncio.Lock()  # one write at a time, as of a ledger that must not be exceeded
        self._waiting: set[str] = set()
        self._ended: set[str] = set()
        self._policy = job_policy(Settings())
        self._bundle = renewed(None, host="localhost", serving_days=1, now=datetime.now(UTC)).bundle

    def saw_task(self, event: Json, now: float) -> None:
        """Admit a task that is new."""
        if event["type"] == "ADDED":
            self._begin(self._admit(event["object"]))

    def saw_pod(self, event: Json, now: float) -> None:
        """End the task of a pod that is over."""
        pod = event["object"]
        task = load.task_of_child(pod)
        if task and task not in self._ended and load.pod_ended(pod):
            self._ended.add(task)
            self._begin(self._end(task, pod["metadata"]))

    async def _admit(self, body: Json) -> None:
        name = load.name_of(body)
        self._waiting.add(name)
        async with self._ledger:
            if name in self._waiting:  # else the last write was for it too
                self._waiting.clear()
                await self._kube.merge_patch(self._ledger_path, {"data": {"last": name}})
        await self._kube.create(load.jobs_path(self._namespace), self._job(body))

    def _job(self, body: Json) -> Json:
        facts = AttemptFacts(
            tenant=self._namespace,
            run=1,
            number=1,
            size=_SIZE,
            deadline=None,
            report_base=self._policy.report_base,
        )
        return build_job(parse_longtask(body), facts, self._policy, ca_bundle=self._bundle)

    async def _end(self, task: str, pod: Json) -> None:
        status = f"{load.tasks_path(self._namespace)}/{task}/status"
        await self._kube.merge_patch(status, {"status": {"phase": "Succeeded"}})
        path = f"{load.pods_path(self._namespace)}/{pod['name']}"
        await self._kube.drop_finalizer(path, FINALIZER, uid=pod["uid"])

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
