"""What the engines share: the caches, the clients and the settings, made once by `app`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from longtask_operator.adapters.kube import Kube
from longtask_operator.adapters.metrics import Metrics
from longtask_operator.adapters.namespaces import NamespaceView
from longtask_operator.adapters.quotas import QuotaView
from longtask_operator.adapters.store import Store
from longtask_operator.adapters.tasks import ParsedTasks, TaskRecord
from longtask_operator.core.jobs import JobPolicy
from longtask_operator.core.observe import JobView, PodView
from longtask_operator.core.policy import Policy
from longtask_operator.core.tenancy import label_of, tenant_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Caches:
    """What was last read, by kind; Jobs and Pods are grouped by the key of their task, namespaces by their label."""

    tasks: Store[TaskRecord]
    jobs: Store[JobView]
    pods: Store[PodView]
    namespaces: Store[NamespaceView]
    quotas: Store[QuotaView]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Time and chance, so that tests bring their own."""

    now: Callable[[], datetime]
    jitter: Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The surroundings of an engine."""

    kube: Kube
    caches: Caches
    metrics: Metrics
    clock: Clock
    policy: Policy
    job_policy: JobPolicy
    unlabelled: str
    progress_interval: float
    parsed: ParsedTasks = field(default_factory=ParsedTasks)

    def tenant(self, namespace: str) -> str | None:
        """Return the tenant of *namespace* as the labels of all namespaces say now, or None if it has none."""
        spaces = self.caches.namespaces
        view, taken = spaces.get("", namespace), bool(spaces.group(namespace))
        return tenant_of(namespace, view.labels if view else {}, unlabelled=self.unlabelled, taken=taken)

    def can_judge(self, record: TaskRecord) -> bool:
        """Tell whether the tenant of *record* can be told by now.

        A task may be seen before its namespace, where both were created together, and keeps its first tenant for good.
        The namespace makes it ready when it comes.
        """
        return bool(record.tenant) or self.caches.namespaces.get("", record.namespace) is not None


def new_caches() -> Caches:
    """Return empty caches."""
    return Caches(
        tasks=Store(),
        jobs=Store(lambda view: f"{view.namespace}/{view.task_name}"),
        pods=Store(lambda view: f"{view.namespace}/{view.task_name}"),
        # Without a label each is a group of its own, by a name that no label can have: a large group is slow.
        namespaces=Store(lambda view: label_of(view.labels) or f"/{view.name}"),
        quotas=Store(),
    )
