"""Who waits for something besides its turn is looked at again when a quota changes, and only then."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import pytest

from longtask_operator.adapters.tasks import TaskRecord, observe_task
from longtask_operator.engines.admission_loop import AdmissionLoop
from longtask_operator.engines.bystanders import Bystanders
from longtask_operator.engines.quotas import Quotas
from tests.builders import a_longtask_body
from tests.support.sim_operator import VirtualLoop


class Bench:
    """Tasks by name; *in_queue* stand in a queue, tenants in *cohorts* share."""

    def __init__(self) -> None:
        self.loop, self.woken = VirtualLoop(), list[str]()
        self.tasks: list[TaskRecord] = []
        self.in_queue: set[str] = set()
        self.cohorts: set[str] = set()
        bench: Any = self
        self.bystanders = Bystanders(
            self.tasks, cast(AdmissionLoop, bench), cast(Quotas, bench), lambda key: self.woken.append(key[3:])
        )

    def stands_in_queue(self, uid: str) -> bool:
        return uid in self.in_queue

    def has_cohort(self, tenant: str) -> bool:
        return tenant in self.cohorts

    def task(self, name: str, phase: str, tenant: str = "team-a") -> None:
        status = {"phase": phase, "tenant": tenant}
        self.tasks.append(observe_task(a_longtask_body(status=status, name=name, uid=name, namespace="ns")))

    def change(self, *tenants: str) -> list[str]:
        """Let the limits of *tenants* change; return who is looked at then."""
        for tenant in tenants:
            self.loop.within(partial(self.bystanders.limits_changed, tenant))
        self.woken.clear()
        self.loop.elapsed += 1
        self.loop.settle()
        return self.woken


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    try:
        yield bench
    finally:
        bench.loop.close()


def test_who_waits_for_something_else_is_looked_at(bench: Bench) -> None:
    for phase in ("Queued", "Backoff", "Suspended", "Starting", "Running", "Cancelling", "Succeeded", "Failed"):
        bench.task(phase.lower(), phase)
    bench.task("in-the-queue", "Queued")
    bench.in_queue.add("in-the-queue")
    bench.task("of-another", "Backoff", tenant="team-b")
    assert bench.change("team-a") == ["queued", "backoff"]
    assert bench.change("team-c") == []


def test_all_with_a_cohort_are_concerned_by_each_other(bench: Bench) -> None:
    bench.task("guest", "Backoff", tenant="guest")
    bench.task("loner", "Backoff", tenant="loner")
    bench.cohorts.add("guest")
    assert bench.change("host") == ["guest"]


def test_many_changes_at_once_are_one_look(bench: Bench) -> None:
    for number in range(3):
        bench.task(f"t{number}", "Backoff", tenant=f"tenant-{number}")
    assert bench.change(*(f"tenant-{number}" for number in range(3)), "tenant-1") == ["t0", "t1", "t2"]
    assert bench.change() == []
