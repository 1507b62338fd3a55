"""Which change of which object makes which task be looked at, and how soon.

At once where somebody waits for what follows: a task changed, a pod ended. A start is five changes of Job and pod
within some 50 ms, and a look at each of them finds nothing to do: they are looked at together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from longtask_operator.adapters.namespaces import NamespaceView
from longtask_operator.adapters.quotas import QuotaView, observe_quota
from longtask_operator.adapters.tasks import TaskRecord
from longtask_operator.api.reasons import ConditionType
from longtask_operator.api.times import parse_time
from longtask_operator.core.observe import JobView, PodView, may_end_an_attempt
from longtask_operator.core.queueing import Place, place
from longtask_operator.core.tenancy import label_of
from longtask_operator.engines.context import Context
from longtask_operator.engines.departures import Departures
from longtask_operator.engines.report_book import ReportBook
from longtask_operator.engines.workqueue import WorkQueue

#: From a change of a Job or pod to the look at it, which takes in those that follow meanwhile.
TOGETHER_SECONDS = 0.1
_BEFORE_ALL: Place = (float("-inf"), "")


class Wiring:
    """Listeners of the caches, each a few lines; *forget* is told the uids of tasks that are gone."""

    def __init__(
        self,
        context: Context,
        queue: WorkQueue,
        departures: Departures,
        book: ReportBook,
        forget: Callable[[str], None],
    ) -> None:
        self._context, self._queue, self._departures = context, queue, departures
        self._book, self._forget = book, forget

    def attach(self) -> None:
        """Attach all listeners."""
        caches = self._context.caches
        caches.tasks.listeners.append(self._task_changed)
        caches.jobs.listeners.append(self._child_changed)
        caches.pods.listeners += [self._child_changed, self._pod_changed]
        caches.namespaces.listeners.append(self._namespace_changed)
        caches.quotas.listeners.append(self._quota_changed)

    def enqueue_all(self) -> None:
        """Make every task ready that any cache knows of, first who is first in the queue.

        Admission begins before all have been looked at, and a new leader knows nobody who waits.
        """
        caches = self._context.caches
        places = dict.fromkeys((*caches.jobs.groups(), *caches.pods.groups()), _BEFORE_ALL)
        places |= {task.key: _place_of(task) for task in caches.tasks}
        self._queue.arrange(sorted(places, key=lambda key: places[key]))

    def enqueue_running(self) -> None:
        """Make every task ready of which an attempt runs."""
        for pod in self._context.caches.pods:
            if pod.running_since and not pod.ended:
                self._queue.add(f"{pod.namespace}/{pod.task_name}")

    def _task_changed(self, before: TaskRecord | None, after: TaskRecord | None) -> None:
        self._count(before, -1)
        self._count(after, +1)
        if before and (after is None or after.uid != before.uid):
            self._departures.noticed(before, before.tenant or self._context.tenant(before.namespace) or "")
            self._forget(before.uid)
            self._context.metrics.deleted(before.tenant)
        changed = after or before
        if changed:
            self._queue.add(changed.key)

    def _count(self, record: TaskRecord | None, step: int) -> None:
        if record:
            self._context.metrics.count_task(
                record.tenant,
                record.phase,
                step,
                dead_lettered=record.dead_lettered,
                stuck=ConditionType.STUCK in record.warnings,
                at_risk=ConditionType.DEADLINE_AT_RISK in record.warnings,
            )

    def _child_changed(self, before: JobView | PodView | None, after: JobView | PodView | None) -> None:
        child = after or before
        if child and not _says_the_same(before, after):
            wait = 0.0 if may_end_an_attempt(before, after) else TOGETHER_SECONDS
            self._queue.add_after(f"{child.namespace}/{child.task_name}", wait)

    def _pod_changed(self, before: PodView | None, after: PodView | None) -> None:
        if before and (after is None or after.uid != before.uid):
            self._book.forget(before.uid)

    def _quota_changed(self, before: QuotaView | None, after: QuotaView | None) -> None:
        """Give tenants with a TenantQuota a label of their own in the metrics before others."""
        view = after or before
        if view and (before is None or after is None):
            self._context.metrics.set_quota(view.name, after is not None)

    def _namespace_changed(self, before: NamespaceView | None, after: NamespaceView | None) -> None:
        """Look again at tasks without a tenant: the label decides whether they may run, here and where it names."""
        if before and after and before.labels == after.labels:
            return
        concerned = {label_of(view.labels) for view in (before, after) if view} | {after.name if after else ""}
        for record in self._context.caches.tasks:
            if record.namespace in concerned and not record.tenant:
                self._queue.add(record.key)


def _place_of(record: TaskRecord) -> Place:
    """Return the place in the queue that a task has, or would have if it waited."""
    body = record.body()
    queued_at = body["status"].get("runStartTime") or body["metadata"]["creationTimestamp"]
    try:
        return place(parse_time(queued_at), body["spec"].get("priority") or 0, record.key)
    except (TypeError, ValueError):  # the controller says what does not fit the schema
        return _BEFORE_ALL


def _says_the_same(before: JobView | PodView | None, after: JobView | PodView | None) -> bool:
    """Whether two views differ in their version alone: half of a Job's and a pod's updates change nothing we read."""
    return before is not None and after is not None and replace(before, version=after.version) == after


def take_quota_event(context: Context, kind: str | None, body: dict[str, Any]) -> None:
    """Put a watch event of a TenantQuota into the cache."""
    if kind == "DELETED":
        meta = body["metadata"]
        context.caches.quotas.remove("", meta["name"], meta["uid"], int(meta["resourceVersion"]))
    else:
        context.caches.quotas.put(observe_quota(body))
