"""What `build_leader` puts together: what runs beside the controller has what it looks after."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from longtask_operator.adapters.metrics import Metrics
from longtask_operator.api.status import Attempt
from longtask_operator.engines.context import Clock, new_caches
from longtask_operator.engines.housekeeping import Housekeeping
from longtask_operator.engines.late_lines import LateLines
from longtask_operator.engines.leader import Leader, build_leader
from longtask_operator.engines.quota_status import QuotaStatus
from longtask_operator.settings import Settings
from tests.builders import START
from tests.support.contexts import context_on

TENANT = "team-a"
ENDED = Attempt(
    number=1, run=1, generation=1, start_time="2026-01-31T08:00:00Z", completion_time="2026-01-31T08:01:00Z"
)


def a_leader(metrics: Metrics) -> Leader:
    """Return one on caches that hold nothing; needs a running loop."""
    nothing: Any = None
    clock = Clock(now=lambda: START, jitter=lambda: 0.5)
    context = replace(context_on(new_caches()), metrics=metrics, clock=clock)
    return build_leader(context, Settings(), events=nothing)


def test_lines_of_strangers_are_looked_at() -> None:
    async def told() -> list[Any]:
        leader = a_leader(Metrics(version="1", max_tenants=10))
        return [getattr(listener, "__self__", None) for listener in leader._ledgers.appeared]

    assert any(isinstance(engine, LateLines) for engine in asyncio.run(told()))


def test_a_tenant_that_is_gone_is_forgotten_by_all_that_remember_it() -> None:
    metrics = Metrics(version="1", max_tenants=10)

    async def remembered() -> list[list[list[str]]]:
        leader = a_leader(metrics)
        quota_status, housekeeping = leader._besides
        assert isinstance(quota_status, QuotaStatus)
        assert isinstance(housekeeping, Housekeeping)
        gatherer, found = leader._controller.parts.gatherer, []
        metrics.tenant(TENANT)
        gatherer.terms(TENANT)
        gatherer.paces.attempt_ended(TENANT, ENDED)
        housekeeping.idle_seconds = 0
        for _ in range(2):
            found.append([metrics.tenants(), housekeeping.quotas.tenants(), gatherer.paces.tenants()])
            await housekeeping.tidy()
        return found

    assert asyncio.run(remembered()) == [[[TENANT]] * 3, [[]] * 3]
