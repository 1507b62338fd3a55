"""What tenants use, as the metrics show it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from longtask_operator.adapters.metrics import Metrics
from longtask_operator.core.ledger_layout import Content, ledger_name
from longtask_operator.core.quota import default_limits
from longtask_operator.engines.admission_loop import AdmissionLoop
from longtask_operator.engines.context import new_caches
from longtask_operator.engines.ledgers import Ledgers
from longtask_operator.engines.quota_status import QuotaStatus
from longtask_operator.engines.quotas import Quotas
from tests.builders import UID, an_entry
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
