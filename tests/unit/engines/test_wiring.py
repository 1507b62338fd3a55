from __future__ import annotations

from typing import Any, cast

import pytest

from longtask_operator.adapters.kube import Kube
from longtask_operator.adapters.metrics import Metrics
from longtask_operator.adapters.namespaces import NamespaceView
from longtask_operator.adapters.tasks import observe_task
from longtask_operator.api.names import LABEL_TENANT
from longtask_operator.engines.context import Clock, Context, new_caches
from longtask_operator.engines.departures import Departures
from longtask_operator.engines.report_book import ReportBook
from longtask_operator.engines.wiring import Wiring, take_quota_event
from longtask_operator.engines.workqueue import WorkQueue
from tests.builders import (
    JOB_POLICY,
    POLICY,
    START,
    UID,
    a_job,
    a_longtask_body,
    a_pod,
    a_running_pod,
    an_ended_pod,
    wire,
)
from tests.support.sim_operator import SimKube


class Gone:
    """Notes what goes."""

    def __init__(self) -> None:
        self.noticed_uids: list[tuple[str, str]] = []
        self.forgotten: list[str] = []
        self.pages: list[str] = []

    def noticed(self, record: Any, tenant: str) -> None:
        self.noticed_uids.append((record.uid, tenant))

    def forget(self, uid: str) -> None:
        self.pages.append(uid)


class Queue(WorkQueue):
    """Notes what is to be looked at later, and needs no loop for it."""

    def __init__(self) -> None:
        super().__init__()
        self.later: list[tuple[str, float]] = []

    def add_after(self, key: str, seconds: float) -> None:
        if seconds:
            self.later.append((key, seconds))
        else:
            self.add(key)


class Bench:
    """Caches whose changes fill a queue."""

    def __init__(self) -> None:
        self.queue, self.gone = Queue(), Gone()
        self.metrics = Metrics(version="test", max_tenants=10)
        self.context = Context(
            kube=cast(Kube, SimKube()),
            caches=new_caches(),
            metrics=self.metrics,
            clock=Clock(now=lambda: START, jitter=lambda: 0.5),
            policy=POLICY,
            job_policy=JOB_POLICY,
            unlabelled="Own",
            progress_interval=10,
        )
        self.caches = self.context.caches
        gone = self.gone
        self.wiring = Wiring(
            self.context, self.queue, cast(Departures, gone), cast(ReportBook, gone), gone.forgotten.append
        )
        self.wiring.attach()

    def keys(self) -> list[str]:
        """Return what became ready, and forget it; what is to be looked at later stands."""
        found = list(self.queue._ready)
        WorkQueue.__init__(self.queue)
        return found

    def soon(self) -> list[str]:
        """Return what is to be looked at together with what follows within a tenth of a second; nothing is ready."""
        found, self.queue.later = self.queue.later, []
        assert not self.queue
        assert all(seconds <= 0.1 for _, seconds in found)
        return [key for key, _ in found]

    def task(self, version: int, **changes: Any) -> None:
        self.caches.tasks.put(observe_task(a_longtask_body(resourceVersion=str(version), **changes)))

    def gauge(self, tenant: str, phase: str) -> float:
        labels = {"tenant": tenant, "phase": phase}
        return self.metrics.registry.get_sample_value("longtask_tasks", labels) or 0


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_change_of_a_task_makes_it_ready(bench: Bench) -> None:
    bench.task(1)
    assert bench.keys() == ["team-a/wordcount"]
    bench.task(1)
    assert bench.keys() == []
    bench.task(2)
    assert bench.keys() == ["team-a/wordcount"]


def test_a_pod_that_ends_or_goes_makes_its_task_ready_at_once(bench: Bench) -> None:
    bench.caches.pods.put(a_running_pod(version=1))
    assert bench.soon() == ["team-a/wordcount"]
    bench.caches.pods.put(an_ended_pod(version=2))
    assert bench.keys() == ["team-a/wordcount"]
    bench.caches.pods.remove("team-a", an_ended_pod().name, "pod-1")
    assert bench.keys() == ["team-a/wordcount"]
    bench.caches.pods.put(an_ended_pod(version=9, uid="pod-2"))
    assert bench.keys() == ["team-a/wordcount"]


def test_steps_of_a_start_are_looked_at_together(bench: Bench) -> None:
    bench.caches.jobs.put(a_job(version=1))
    assert bench.soon() == ["team-a/wordcount"]
    bench.caches.pods.put(a_pod(version=2, node=None))
    assert bench.soon() == ["team-a/wordcount"]
    bench.caches.pods.put(a_running_pod(version=3))
    assert bench.soon() == ["team-a/wordcount"]
    bench.caches.jobs.remove("team-a", a_job().name, a_job().uid)
    assert bench.soon() == ["team-a/wordcount"]


def test_what_follows_the_end_of_a_pod_is_looked_at_together(bench: Bench) -> None:
    bench.caches.pods.put(an_ended_pod(version=1))
    bench.caches.jobs.put(a_job(version=1))
    assert (bench.keys(), bench.soon()) == (["team-a/wordcount"], ["team-a/wordcount"])
    bench.caches.pods.put(an_ended_pod(version=2, held=False))
    assert bench.soon() == ["team-a/wordcount"]
    bench.caches.jobs.put(a_job(version=5, finished=True))
    assert bench.soon() == ["team-a/wordcount"]


def test_a_new_version_of_a_child_that_says_the_same_makes_nothing_ready(bench: Bench) -> None:
    bench.caches.jobs.put(a_job(version=1))
    bench.caches.pods.put(a_running_pod(version=2))
    assert bench.soon() == ["team-a/wordcount"] * 2
    bench.caches.jobs.put(a_job(version=3))
    bench.caches.pods.put(a_running_pod(version=4))
    assert (bench.keys(), bench.soon()) == ([], [])


def test_a_task_that_goes_is_noticed_and_forgotten(bench: Bench) -> None:
    bench.task(1)
    bench.keys()
    bench.caches.tasks.remove("team-a", "wordcount", UID)
    assert (bench.keys(), bench.gone.noticed_uids, bench.gone.forgotten) == (
        ["team-a/wordcount"],
        [(UID, "team-a")],
        [UID],
    )


def test_a_task_that_was_made_anew_under_its_name_is_another(bench: Bench) -> None:
    bench.task(1, status={"tenant": "red"})
    bench.task(9, uid="another")
    assert bench.gone.noticed_uids == [(UID, "red")]
    assert bench.gone.forgotten == [UID]


def test_tasks_are_counted_by_tenant_and_phase(bench: Bench) -> None:
    bench.task(1)
    assert bench.gauge("_other", "Pending") == 1
    bench.task(2, status={"tenant": "red", "phase": "Running"})
    assert (bench.gauge("_other", "Pending"), bench.gauge("red", "Running")) == (0, 1)
    bench.caches.tasks.remove("team-a", "wordcount", UID)
    assert bench.gauge("red", "Running") == 0


def test_reports_of_a_pod_that_goes_or_is_replaced_are_forgotten(bench: Bench) -> None:
    bench.caches.pods.put(a_running_pod(version=1))
    bench.caches.pods.put(a_running_pod(version=2))
    assert bench.gone.pages == []
    bench.caches.pods.put(a_running_pod(version=3, uid="another"))
    bench.caches.pods.remove("team-a", a_running_pod().name, "another")
    assert bench.gone.pages == ["pod-1", "another"]


def a_namespace(version: int, name: str = "team-a", **labels: str) -> NamespaceView:
    return NamespaceView(name=name, uid=name, version=version, labels=labels)


def test_a_new_label_of_a_namespace_concerns_its_tasks_without_a_tenant(bench: Bench) -> None:
    bench.task(1)
    bench.task(2, name="settled", uid="b", status={"tenant": "red"})
    bench.task(3, name="elsewhere", uid="c", namespace="team-b")
    bench.keys()
    bench.caches.namespaces.put(a_namespace(4, tenant="x"))
    assert bench.keys() == ["team-a/wordcount"]
    bench.caches.namespaces.put(a_namespace(5, tenant="x"))
    assert bench.keys() == []
    bench.caches.namespaces.put(a_namespace(6))
    assert bench.keys() == ["team-a/wordcount"]
    bench.caches.namespaces.remove("", "team-a", "team-a")
    assert bench.keys() == []


def test_a_label_that_names_the_tenant_of_another_namespace_concerns_its_tasks_without_a_tenant(bench: Bench) -> None:
    bench.task(1)
    bench.task(2, name="settled", uid="b", status={"tenant": "team-a"})
    bench.keys()
    assert bench.context.tenant("team-a") == "team-a"
    bench.caches.namespaces.put(a_namespace(3, "other", **{LABEL_TENANT: "team-a"}))
    assert (bench.keys(), bench.context.tenant("team-a")) == (["team-a/wordcount"], None)
    bench.caches.namespaces.put(a_namespace(4, "third", **{LABEL_TENANT: "team-a"}))
    bench.caches.namespaces.put(a_namespace(5, "other"))
    assert (bench.keys(), bench.context.tenant("team-a")) == (["team-a/wordcount"], None)
    bench.caches.namespaces.remove("", "third", "third")
    assert (bench.keys(), bench.context.tenant("team-a")) == (["team-a/wordcount"], "team-a")
    bench.caches.namespaces.put(a_namespace(6, **{LABEL_TENANT: "team-a"}))
    assert bench.context.tenant("team-a") == "team-a"


def test_every_task_that_any_cache_knows_of_can_be_made_ready(bench: Bench) -> None:
    bench.task(1)
    bench.caches.jobs.put(a_job(task_name="of-a-job"))
    bench.caches.pods.put(a_running_pod(task_name="of-a-pod"))
    bench.keys()
    bench.wiring.enqueue_all()
    assert sorted(bench.keys()) == ["team-a/of-a-job", "team-a/of-a-pod", "team-a/wordcount"]


@pytest.mark.parametrize("kind", [None, "ADDED", "MODIFIED"])
def test_events_of_the_watch_of_quotas_fill_the_cache(bench: Bench, kind: str | None) -> None:
    def a_quota(version: int) -> dict[str, Any]:
        return {"metadata": {"name": "red", "uid": "u1", "resourceVersion": str(version), "generation": 1}}

    take_quota_event(bench.context, kind, a_quota(7))
    assert bench.caches.quotas.get("", "red") is not None
    take_quota_event(bench.context, "DELETED", a_quota(8))
    assert bench.caches.quotas.get("", "red") is None
    take_quota_event(bench.context, kind, a_quota(7))
    assert bench.caches.quotas.get("", "red") is None


def test_a_tenant_with_a_quota_has_a_label_before_others(bench: Bench) -> None:
    for number in range(10):
        bench.task(1, name=f"t{number}", namespace=f"ns-{number}", uid=f"u{number}")
    quota = {"metadata": {"name": "late", "uid": "q", "resourceVersion": "7", "generation": 1}, "spec": {}}
    take_quota_event(bench.context, "ADDED", quota)
    assert bench.metrics.tenant("late") == "late"
    take_quota_event(bench.context, "DELETED", {**quota, "metadata": {**quota["metadata"], "resourceVersion": "8"}})
    assert bench.metrics.tenant("late") == "late"


def test_a_new_leader_looks_first_at_who_is_first_in_the_queue(bench: Bench) -> None:
    """Its first admissions come before it has looked at all: by name, a newcomer would overtake."""
    bench.task(1, name="a-newcomer", uid="1", creationTimestamp=wire(60))
    bench.task(2, name="b-old", uid="2", creationTimestamp=wire(0))
    bench.task(3, name="c-urgent", uid="3", creationTimestamp=wire(60), spec={"priority": 5})
    bench.task(4, name="d-redriven", uid="4", creationTimestamp=wire(0), status={"runStartTime": wire(90)})
    bench.caches.jobs.put(a_job(namespace="team-a", task_name="gone"))
    bench.wiring.enqueue_all()
    order = ["gone", "c-urgent", "b-old", "a-newcomer", "d-redriven"]
    assert bench.keys() == [f"team-a/{name}" for name in order]


def test_only_what_runs_is_looked_at_again_where_reports_come_again() -> None:
    bench = Bench()
    bench.caches.pods.put(a_running_pod(name="a", uid="a", task_name="runs"))
    bench.caches.pods.put(a_pod(name="b", uid="b", task_name="starts"))
    bench.caches.pods.put(an_ended_pod(0, name="c", uid="c", task_name="ended"))
    bench.keys()
    bench.wiring.enqueue_running()
    assert bench.keys() == ["team-a/runs"]
