"""Limits as the engines see them: from TenantQuotas in the cache, told at once when they change."""

from __future__ import annotations

from typing import Any

import pytest

from longtask_operator.adapters.quotas import observe_quota
from longtask_operator.adapters.tasks import observe_task
from longtask_operator.api.names import ANNOTATION_CREATED_BY
from longtask_operator.core.budgets import BudgetUse
from longtask_operator.core.quota import Limits, default_limits
from longtask_operator.engines.context import new_caches
from longtask_operator.engines.quotas import Quotas
from tests.builders import a_longtask_body
from tests.support.contexts import context_on
from tests.support.sim_operator import LogTrap

DEFAULT = default_limits(5, "", "")


class Setup:
    """Quotas on caches of its own; *told* are the tenants whose limits changed."""

    def __init__(self) -> None:
        self.caches = new_caches()
        context = context_on(self.caches)
        self.quotas, self.told = Quotas(context, DEFAULT), list[str]()
        self.quotas.listeners.append(self.told.append)

    def put(self, version: int, generation: int = 1, name: str = "team-a", **spec: Any) -> None:
        meta = {"name": name, "uid": f"q-{name}", "resourceVersion": str(version), "generation": generation}
        self.caches.quotas.put(observe_quota({"metadata": meta, "spec": spec}))

    def put_task(self, created_by: str, version: int = 1) -> str:
        body = a_longtask_body(annotations={ANNOTATION_CREATED_BY: created_by}, resourceVersion=str(version))
        self.caches.tasks.put(observe_task(body))
        return str(body["metadata"]["uid"])


@pytest.fixture
def setup() -> Setup:
    return Setup()


def test_a_tenant_has_the_default_until_it_has_a_quota_of_its_own(setup: Setup) -> None:
    assert setup.quotas.limits("team-a") == DEFAULT
    setup.put(1, concurrency={"nominal": 2})
    assert setup.quotas.limits("team-a") == Limits(origin="TenantQuota team-a", concurrency=2)
    setup.caches.quotas.remove("", "team-a", "q-team-a")
    assert setup.quotas.limits("team-a") == DEFAULT
    assert setup.told == ["team-a", "team-a"]


def test_a_status_alone_changes_nothing(setup: Setup) -> None:
    setup.put(1, generation=1, maxQueued=1)
    setup.put(2, generation=1, maxQueued=1)
    assert setup.told == ["team-a"]
    setup.put(3, generation=2, maxQueued=2)
    assert setup.told == ["team-a", "team-a"]


def test_the_terms_are_those_of_now_with_what_the_cohort_could_lend(setup: Setup) -> None:
    assert setup.quotas.terms("team-a").most == DEFAULT
    setup.put(1, concurrency={"nominal": 2}, cohort="c")
    assert setup.quotas.terms("team-a").limits.concurrency == setup.quotas.terms("team-a").most.concurrency == 2
    setup.put(2, name="team-b", concurrency={"nominal": 3}, cohort="c")
    assert setup.quotas.terms("team-a").most.concurrency == 5
    assert setup.quotas.terms("team-a") is setup.quotas.terms("team-a")
    setup.put(3, 2, name="team-b", concurrency={"nominal": 4, "lendingLimit": 1}, cohort="c")
    assert setup.quotas.terms("team-a").most.concurrency == 3
    setup.put(4, 3, name="team-b", concurrency={"nominal": 4})
    assert setup.quotas.terms("team-a").most.concurrency == 2
    assert [setup.quotas.has_cohort(tenant) for tenant in ("team-a", "team-b", "team-c")] == [True, False, False]


def test_the_terms_tell_a_spent_budget_as_it_is_now(setup: Setup) -> None:
    setup.put(1, budgets=[{"name": "day", "windowSeconds": 86400, "cpuHours": 1}])
    budget, used = setup.quotas.budgets["team-a"][0], 0.5
    setup.quotas.uses = lambda tenant: [BudgetUse(budget=budget, cpu_hours=used, memory_gib_hours=0)]
    assert not setup.quotas.terms("team-a").limits.spent
    used = 2
    assert "2.0 of 1 CPU-hours" in setup.quotas.terms("team-a").limits.spent


NO_QUANTITY = "is not a quantity; write for example 500m or 2Gi"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"cpu": {"nominal": "lots"}}, f"spec.cpu.nominal: 'lots' {NO_QUANTITY}"),
        ({"memory": {"nominal": "1Gi", "lendingLimit": "-1"}}, f"spec.memory.lendingLimit: '-1' {NO_QUANTITY}"),
        ({"concurrency": {"nominal": -1}}, "spec.concurrency.nominal: -1 is not valid: it should be greater than or"),
    ],
)
def test_a_quota_that_cannot_be_read_holds_its_tenant(setup: Setup, spec: dict[str, Any], said: str) -> None:
    trap = LogTrap()
    try:
        setup.put(1, **spec)
    finally:
        trap.close()
    limits = setup.quotas.limits("team-a")
    assert limits.on_hold
    assert limits.unreadable.startswith(f"TenantQuota team-a cannot be read: {said}")
    assert limits.unreadable.endswith("; nothing starts until it is corrected")


def test_a_quantity_that_cannot_be_read_does_not_forget_the_budgets(setup: Setup) -> None:
    budgets = [{"name": "day", "windowSeconds": 86400, "cpuHours": 1}]
    setup.put(1, budgets=budgets)
    known = setup.quotas.budgets["team-a"]
    trap = LogTrap()
    try:
        setup.put(2, generation=2, budgets=budgets, cpu={"nominal": "lots"})
    finally:
        trap.close()
    assert setup.quotas.limits("team-a").unreadable
    assert setup.quotas.budgets == {"team-a": known}


@pytest.mark.parametrize(
    "broken", [{"cpu": {"nominal": "lots"}}, {"maxQueued": "many"}, {"unheardOf": 1, "stopPolicy": "Perhaps"}]
)
def test_of_a_quota_that_cannot_be_read_the_rest_stands(setup: Setup, broken: dict[str, Any]) -> None:
    """What its tenant has counts in its cohort on, and what it spent is not forgotten."""
    budgets = [{"name": "day", "windowSeconds": 86400, "cpuHours": 1}]
    trap = LogTrap()
    try:
        setup.put(1, cohort="c", concurrency={"nominal": 3, "lendingLimit": 1}, budgets=budgets, **broken)
    finally:
        trap.close()
    limits = setup.quotas.limits("team-a")
    assert limits.unreadable
    assert limits.on_hold
    assert (limits.cohort, limits.concurrency, limits.lending.concurrency, limits.cpu) == ("c", 3, 1, None)
    assert setup.quotas.of_cohort("c") == ["team-a"]
    assert [budget.name for budget in setup.quotas.budgets["team-a"]] == ["day"]
    assert setup.quotas.is_unreadable("team-a")
    assert not setup.quotas.is_unreadable("team-b")
    assert limits.unread == broken.keys() - {"unheardOf"}


@pytest.mark.parametrize("cohort", [7, "No Name", ["c"]])
def test_who_does_not_say_where_it_belongs_stays_where_it_was(setup: Setup, cohort: Any) -> None:
    setup.put(1, cohort="c", concurrency={"nominal": 3})
    trap = LogTrap()
    try:
        setup.put(2, 2, cohort=cohort, concurrency={"nominal": 2})
        limits = setup.quotas.limits("team-a")
        assert (limits.on_hold, limits.cohort, limits.concurrency) == (True, "c", 2)
        setup.quotas.stay("team-a", "d")
        assert setup.quotas.of_cohort("d") == ["team-a"]
        assert setup.quotas.terms("team-a").limits.cohort == "d"
        setup.put(3, name="team-b", cohort=cohort)
        assert setup.quotas.limits("team-b").cohort == ""
    finally:
        trap.close()
    assert setup.told == ["team-a", "team-a", "team-a", "team-b"]
    setup.put(4, 3, cohort="e")
    setup.quotas.stay("team-a", "d")
    assert setup.quotas.of_cohort("e") == ["team-a"], "it says so itself"


def test_a_person_counts_and_a_service_account_does_not(setup: Setup) -> None:
    """Once a task is gone nothing says here whose it was; its ledger does as long as it has a line."""
    uid = setup.put_task("eve")
    assert setup.quotas.user(uid) == "eve"
    setup.put_task("system:serviceaccount:ci:bot", version=2)  # a trusted submitter may name nobody any more
    assert setup.quotas.user(uid) == ""
    setup.put_task("eve", version=3)
    setup.caches.tasks.remove("team-a", "wordcount", uid)
    assert setup.quotas.user(uid) == ""
    setup.put_task("system:serviceaccount:ci:bot", version=9)
    assert setup.quotas.user(uid) == ""
