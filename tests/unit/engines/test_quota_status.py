"""What tenants use, as the metrics show it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from longtask_operator.adapters.metrics import Metrics
from longtask_operator.core.budgets import Budget, BudgetUse
from longtask_operator.core.ledger_layout import Content, ledger_name
from longtask_operator.core.quota import default_limits
from longtask_operator.engines.admission_loop import AdmissionLoop
from longtask_operator.engines.context import Clock, new_caches
from longtask_operator.engines.ledgers import Ledgers
from longtask_operator.engines.quota_status import QuotaStatus
from longtask_operator.engines.quotas import Quotas
from tests.builders import START, UID, an_entry
from tests.support.contexts import context_on


def test_a_tenant_without_a_quota_is_shown_to_use_nothing_once_its_last_attempt_has_ended() -> None:
    nothing: Any = None
    metrics = Metrics(version="1", max_tenants=10)
    context = replace(context_on(new_caches()), metrics=metrics)
    ledgers, quotas, name = Ledgers(nothing, "x"), Quotas(context, default_limits(5, "", "")), ledger_name("team-a")

    async def shown() -> list[float | None]:
        admission = AdmissionLoop(ledgers, metrics, lambda key: None, quotas)
        status, found = QuotaStatus(context, ledgers, admission, quotas), []
        for tenants in ({"team-a": {UID: an_entry()}}, {}, {}):
            ledgers._set(ledgers.ledger(name), "1", Content(tenants=tenants), {})
            await status.mirror()
            labels = {"tenant": "team-a", "resource": "concurrency"}
            found.append(metrics.registry.get_sample_value("longtask_quota_usage", labels))
        return found

    assert asyncio.run(shown()) == [1, 0, 0]


def test_what_stands_in_a_ledger_that_cannot_be_read_is_not_shown_as_nothing() -> None:
    nothing: Any = None
    metrics = Metrics(version="1", max_tenants=10)
    context = replace(context_on(new_caches()), metrics=metrics)
    ledgers, quotas = Ledgers(nothing, "x"), Quotas(context, default_limits(5, "", ""))
    admission: Any = SimpleNamespace(queued=lambda tenant: (depth, None), tenants=lambda: ["team-a"])

    def shown(attempts: str) -> list[float | None]:
        body = {"metadata": {"uid": "u", "resourceVersion": "1"}, "data": {"attempts": attempts}}
        ledgers._take_in(ledgers.ledger(ledger_name("team-a")), body)
        asyncio.run(QuotaStatus(context, ledgers, admission, quotas).mirror())
        labels = {"tenant": "team-a"}
        usage = metrics.registry.get_sample_value("longtask_quota_usage", labels | {"resource": "concurrency"})
        return [usage, metrics.registry.get_sample_value("longtask_queue_depth", labels)]

    depth = 1
    assert shown(f"{UID} 1 1 250 512\n") == [1, 1]
    depth = 2
    assert shown(f"{UID} 1 1 250 lots\n") == [1, 2]
    assert shown("") == [0, 2]


def test_a_queue_and_what_a_quota_allows_and_has_spent_is_shown() -> None:
    nothing: Any = None
    metrics = Metrics(version="1", max_tenants=10)
    clock = Clock(now=lambda: START, jitter=lambda: 0.5)
    context = replace(context_on(new_caches()), metrics=metrics, clock=clock)
    quotas, ledgers = Quotas(context, default_limits(5, "2", "")), Ledgers(nothing, "x")
    month = Budget(name="month", window=timedelta(days=30), cpu_hours=10)
    quotas.uses = lambda tenant: [BudgetUse(budget=month, cpu_hours=5.0, memory_gib_hours=0.0)]
    admission: Any = SimpleNamespace(queued=lambda tenant: (3, START - timedelta(hours=1)), tenants=lambda: ["a"])
    asyncio.run(QuotaStatus(context, ledgers, admission, quotas).mirror())

    def shown(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"longtask_{name}", {"tenant": "a", **labels})

    assert (shown("queue_depth"), shown("queue_oldest_seconds")) == (3, 3600)
    assert [shown("quota_nominal", resource=name) for name in ("concurrency", "cpu", "memory")] == [5, 2000, None]
    assert shown("budget_used_ratio", budget="month") == 0.5


def test_everybody_hears_of_a_spent_budget_when_it_begins_goes_on_beyond_what_was_said_and_ends() -> None:
    nothing: Any = None
    metrics, moment = Metrics(version="1", max_tenants=10), [START]
    clock = Clock(now=lambda: moment[0], jitter=lambda: 0.5)
    context = replace(context_on(new_caches()), metrics=metrics, clock=clock)
    quotas, ledgers, heard = Quotas(context, default_limits(5, "", "")), Ledgers(nothing, "x"), list[str]()
    quotas.listeners.append(heard.append)
    month, until = Budget(name="month", window=timedelta(days=30), cpu_hours=10), [START + timedelta(hours=1)]
    quotas.uses = lambda tenant: [
        BudgetUse(
            budget=month, cpu_hours=12.0 if until else 9.0, memory_gib_hours=0.0, recovers_at=max(until, default=None)
        )
    ]
    admission = AdmissionLoop(ledgers, metrics, lambda key: None, quotas)
    status = QuotaStatus(context, ledgers, admission, quotas)
    ledgers._set(ledgers.ledger(ledger_name("a")), "1", Content(tenants={"a": {UID: an_entry()}}), {})

    def hears(minutes: int) -> bool:
        heard.clear()
        moment[0] = START + timedelta(minutes=minutes)
        asyncio.run(status.mirror())
        asyncio.run(status.mirror())
        assert heard in ([], ["a"])
        return bool(heard)

    assert hears(0)
    until[0] += timedelta(hours=1)  # what runs goes on to spend
    assert not hears(59)
    assert hears(60)
    assert not hears(119)
    until.clear()
    assert hears(120)
    assert not hears(180)
