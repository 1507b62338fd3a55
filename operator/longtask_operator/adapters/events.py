"""Kubernetes Events for people, sent from the background: never on the way of a decision, never a reason to fail."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import structlog

from longtask_operator.adapters.errors import ApiError
from longtask_operator.adapters.kube import Json, Kube, resource_path
from longtask_operator.adapters.tasks import TaskRecord
from longtask_operator.api.names import API_VERSION, FIELD_MANAGER, LONGTASK_KIND

_MAX_QUEUED = 1000
log = structlog.get_logger("longtask.events")


class EventPoster:
    """Queues Events and posts them one at a time; when the queue is full the newest is dropped."""

    def __init__(self, kube: Kube, instance: str) -> None:
        self._kube, self._instance = kube, instance
        self._queue: asyncio.Queue[Json] = asyncio.Queue(maxsize=_MAX_QUEUED)

    def post(self, task: TaskRecord, reason: str, message: str, *, warning: bool = False) -> None:
        """Queue an Event about *task*."""
        now = datetime.now(UTC)
        body: Json = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"generateName": f"{task.name[:40]}-", "namespace": task.namespace},
            "eventTime": now.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "reportingController": f"longtask.dev/{FIELD_MANAGER}",
            "reportingInstance": self._instance[:128],
            "action": reason,
            "reason": reason,
            "type": "Warning" if warning else "Normal",
            "note": message[:1024],
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": LONGTASK_KIND,
                "namespace": task.namespace,
                "name": task.name,
                "uid": task.uid,
                "resourceVersion": str(task.version),
            },
        }
        try:
            self._queue.put_nowait(body)
        except asyncio.QueueFull:
            log.warning("event dropped: too many wait", reason=reason, namespace=task.namespace, name=task.name)

    async def run(self) -> None:
        """Post until cancelled."""
        while True:
            body = await self._queue.get()
            try:
                await self._kube.create(
                    resource_path("events.k8s.io/v1", "events", body["metadata"]["namespace"]), body
                )
            except ApiError as error:
                log.info("event not posted", reason=body["reason"], error=str(error))
