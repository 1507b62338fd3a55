"""What is known of live attempts besides their lines in the ledger: read from their tasks only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from longtask_operator.adapters.store import Store
from longtask_operator.adapters.tasks import TaskRecord
from longtask_operator.api.phases import TERMINAL
from longtask_operator.api.reasons import QueueReason
from longtask_operator.api.times import parse_optional_time, parse_time
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.node_loss import lost_since
from longtask_operator.core.observe import PodView
from longtask_operator.core.preemption import Run


class Runs:
    """An index of the tasks that have not finished; fed by the cache."""

    def __init__(self, tasks: Store[TaskRecord], pods: Store[PodView], now: Callable[[], datetime]) -> None:
        self._tasks, self._pods, self._now = tasks, pods, now
        self._unfinished: dict[str, tuple[str, str]] = {}  #: uid -> namespace and name
        self._known: dict[str, tuple[int, int, Run]] = {}  #: uid -> version and attempt that it was read of
        tasks.listeners.append(self._task_changed)
        for record in tasks:
            self._task_changed(None, record)

    def key(self, uid: str) -> str:
        """Return namespace/name of a task that has not finished, or an empty string."""
        return "/".join(self._unfinished.get(uid, ()))

    def of(self, entry: LedgerEntry) -> Run | None:
        """Return what is known of the attempt of *entry*; None where its task is gone or finished."""
        record = self._tasks.get(*self._unfinished[entry.uid]) if entry.uid in self._unfinished else None
        if record is None or record.uid != entry.uid:
            return None
        known = self._known.get(entry.uid)
        if known is None or known[:2] != (record.version, entry.attempt):
            known = self._known[entry.uid] = (record.version, entry.attempt, _run_of(record.body(), entry.attempt))
        run = known[2]
        # The status of an attempt that is being stopped says why, and not that its node is lost.
        return replace(run, unreachable=True) if run.leaving and self._is_lost(entry, run.key) else run

    def _is_lost(self, entry: LedgerEntry, key: str) -> bool:
        pods = [pod for pod in self._pods.group(key) if (pod.task_uid, pod.attempt) == (entry.uid, entry.attempt)]
        return any(lost_since(pod, self._now()) for pod in pods)

    def _task_changed(self, before: TaskRecord | None, after: TaskRecord | None) -> None:
        if before and (after is None or after.uid != before.uid or after.phase in TERMINAL):
            self._unfinished.pop(before.uid, None)
            self._known.pop(before.uid, None)
        if after and after.phase not in TERMINAL and after.uid not in self._unfinished:
            self._unfinished[after.uid] = (after.namespace, after.name)


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
        unreachable=status.get("reason") == QueueReason.NODE_UNREACHABLE,
    )
