"""What the report server asks about tasks and pods, answered from the caches."""

from __future__ import annotations

from longtask_operator.adapters.errors import ApiError
from longtask_operator.adapters.kube import resource_path
from longtask_operator.api.errors import SpecError
from longtask_operator.api.names import API_VERSION, LONGTASK_PLURAL
from longtask_operator.core.observe import PodView
from longtask_operator.core.record import deadline_of
from longtask_operator.core.resizing import memory_in_force
from longtask_operator.core.stop_waits import told_to_end, wants_checkpoint
from longtask_operator.engines.context import Context
from longtask_operator.engines.ledgers import Ledgers
from longtask_operator.engines.report_server import LivePod, LiveTask


class CachedPods:
    """The directory of live pods and tasks."""

    def __init__(self, context: Context, ledgers: Ledgers) -> None:
        self._context, self._ledgers = context, ledgers
        self._by_uid: dict[str, PodView] = {}
        self.ready = False
        context.caches.pods.listeners.append(self._pod_changed)

    def is_synced(self) -> bool:
        """Return whether this replica leads and its caches are complete."""
        return self.ready

    def pod_of(self, uid: str) -> LivePod | None:
        """Return the pod of that uid, or None if it is not known."""
        pod = self._by_uid.get(uid)
        if pod is None:
            return None
        return LivePod(
            uid=pod.uid,
            namespace=pod.namespace,
            task_name=pod.task_name,
            task_uid=pod.task_uid,
            attempt=pod.attempt,
            is_live=not pod.is_terminal,
        )

    def task_of(self, namespace: str, name: str) -> LiveTask | None:
        """Return what a worker of that task should know, or None if there is no such task."""
        record = self._context.caches.tasks.get(namespace, name)
        if record is None:
            return None
        try:
            task = self._context.parsed.parse(record)
        except SpecError:
            return None
        entry = self._ledgers.entry(record.uid)
        number = max(task.status.attempt or 0, entry.attempt if entry else 0)
        waits, now = self._context.policy.stop_waits, self._context.clock.now()
        return LiveTask(
            uid=record.uid,
            attempt=number,
            cancel_requested=told_to_end(task.status, number, task.spec, waits, now),
            deadline=deadline_of(task.status, task.spec),
            memory_limit_bytes=memory_in_force(task.status.attempts or [], entry),
            memory_alarm_bytes=self._context.policy.live_growth.alarm(entry.size.memory) if entry else None,
            checkpoint_requested=wants_checkpoint(task.status, task.spec, waits, now),
            checkpoint=task.status.checkpoint,
        )

    def live_attempts(self) -> int:
        """Return how many attempts are live in all."""
        return len(self._ledgers.uids())

    async def confirm_newer_attempt(self, namespace: str, name: str, attempt: int) -> bool:
        """Ask the API server whether the task has a newer attempt than *attempt*; no answer is no."""
        try:
            live = await self._context.kube.get(resource_path(API_VERSION, LONGTASK_PLURAL, namespace, name))
        except ApiError:
            return False
        return int((live.get("status") or {}).get("attempt") or 0) > attempt

    def _pod_changed(self, before: PodView | None, after: PodView | None) -> None:
        if before and (after is None or after.uid != before.uid):
            self._by_uid.pop(before.uid, None)
        if after:
            self._by_uid[after.uid] = after
