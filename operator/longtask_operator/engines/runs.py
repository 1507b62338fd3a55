"""What is known of live attempts besides their lines in the ledger: read from their tasks only when it is asked for.

Whether one could give way changes with its priority and with its node: then somebody may have to look anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from longtask_operator.adapters.store import Store
from longtask_operator.adapters.tasks import TaskRecord
from longtask_operator.api.phases import TERMINAL
from longtask_operator.api.times import parse_optional_time, parse_time
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.node_loss import lost_since
from longtask_operator.core.observe import PodView
from longtask_operator.core.preemption import Run

#: Of a task that is gone, and whose pod lives on where no stop reaches it.
_LEFT_BEHIND = Run(key="", priority=0, queued_at=datetime.max.replace(tzinfo=UTC), leaving=True, unreachable=True)


class Runs:
    """An index of the tasks that have not finished; fed by the caches."""

    def __init__(self, tasks: Store[TaskRecord], pods: Store[PodView], now: Callable[[], datetime]) -> None:
        self._tasks, self._now = tasks, now
        self.on_change: Callable[[str], None] = lambda uid: None  #: told of whose attempt it may be otherwise now
        self._doubtful: dict[str, dict[str, PodView]] = {}  #: by task and pod uid: those that a lost node may keep
        self._unfinished: dict[str, str] = {}  #: uid -> namespace/name
        self._known: dict[str, tuple[int, int, Run]] = {}  #: uid -> version and attempt that it was read of
        tasks.listeners.append(self._task_changed)
        pods.listeners.append(self._pod_changed)
        for pod in pods:
            self._pod_changed(None, pod)
        for record in tasks:
            self._task_changed(None, record)

    def key(self, uid: str) -> str:
        """Return namespace/name of a task that has not finished, or an empty string."""
        return self._unfinished.get(uid, "")

    def tell_if_finished(self, tell: Callable[[str], None], uid: str) -> None:
        """Tell namespace/name of a task that has finished: an entry that came back to a ledger is for it to release.

        An operator that leads as well may take one over from a ledger that a tenant has left, and hear of the end late.
        """
        if uid not in self._unfinished:
            for record in self._tasks:
                if record.uid == uid:
                    tell(record.key)

    def of(self, entry: LedgerEntry) -> Run | None:
        """Return what is known of the attempt of *entry*; None where its task is gone or finished."""
        namespace, _, name = self.key(entry.uid).partition("/")
        record = self._tasks.get(namespace, name)
        lost = self._is_lost(entry)
        if record is None or record.uid != entry.uid:
            return _LEFT_BEHIND if lost else None
        known = self._known.get(entry.uid)
        if known is None or known[:2] != (record.version, entry.attempt):
            known = self._known[entry.uid] = (record.version, entry.attempt, _run_of(record.body(), entry.attempt))
        return replace(known[2], unreachable=True) if lost else known[2]

    def _is_lost(self, entry: LedgerEntry) -> bool:
        pods = self._doubtful.get(entry.uid, {}).values()
        return any(pod.attempt == entry.attempt and lost_since(pod, self._now()) for pod in pods)

    def _pod_changed(self, before: PodView | None, after: PodView | None) -> None:
        if before and before.task_uid in self._doubtful:
            self._doubtful[before.task_uid].pop(before.uid, None)
            if not self._doubtful[before.task_uid]:
                del self._doubtful[before.task_uid]
        if after and not after.is_terminal and (after.node_lost_at or after.deleted_at):
            self._doubtful.setdefault(after.task_uid, {})[after.uid] = after
        if before and after and before.node_lost_at != after.node_lost_at:
            self.on_change(after.task_uid)

    def _task_changed(self, before: TaskRecord | None, after: TaskRecord | None) -> None:
        if before and (after is None or after.uid != before.uid or after.phase in TERMINAL):
            self._unfinished.pop(before.uid, None)
            self._known.pop(before.uid, None)
        if after and after.phase not in TERMINAL and after.uid not in self._unfinished:
            self._unfinished[after.uid] = after.key
        if before and after and before.uid == after.uid and before.priority != after.priority:
            self.on_change(after.uid)


def _run_of(body: Mapping[str, Any], attempt: int) -> Run:
    meta, spec, status = body["metadata"], body["spec"], body["status"]
    recorded: Mapping[str, Any] = next((one for one in status.get("attempts") or () if one["number"] == attempt), {})
    saved = status.get("checkpoint") or {}
    since = saved.get("time") if saved.get("attempt") == attempt else recorded.get("startTime")
    stopped = "cause" in recorded or "completionTime" in recorded
    return Run(
        key=f"{meta['namespace']}/{meta['name']}",
        priority=int(spec.get("priority") or 0),
        queued_at=parse_time(status.get("runStartTime") or meta["creationTimestamp"]),
        since=parse_optional_time(since),
        leaving=stopped or "deletionTimestamp" in meta or bool(spec.get("cancel") or spec.get("suspend")),
    )
