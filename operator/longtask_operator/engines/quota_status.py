"""Mirrors what tenants use into the status of their TenantQuotas and into the metrics, when it changed.

A few seconds behind on purpose: the ledgers are the truth, this is for people. Time alone spends and restores
budgets, so here is noticed when one begins or ceases to hold a tenant back, or does not cease when it was to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import structlog

from longtask_operator.adapters.errors import ApiError
from longtask_operator.adapters.kube import resource_path
from longtask_operator.adapters.quotas import QuotaView, observe_quota
from longtask_operator.api.names import API_VERSION, TENANTQUOTA_PLURAL
from longtask_operator.core.budgets import BudgetUse, blocking
from longtask_operator.core.quota import Amounts, Limits
from longtask_operator.core.quota_status import TenantUse, quota_status
from longtask_operator.engines.admission_loop import AdmissionLoop
from longtask_operator.engines.context import Context
from longtask_operator.engines.ledgers import Ledgers
from longtask_operator.engines.quotas import Quotas

INTERVAL_SECONDS = 5.0
log = structlog.get_logger("longtask.quotas")


class QuotaStatus:
    """Writes statuses and gauges every few seconds while this replica leads."""

    def __init__(
        self,
        context: Context,
        ledgers: Ledgers,
        admission: AdmissionLoop,
        quotas: Quotas,
        stands: Callable[[str], bool] = lambda tenant: True,
    ) -> None:
        self._context, self._ledgers, self._admission, self._quotas = context, ledgers, admission, quotas
        self._stands = stands  #: whether nobody is admitted by an older edition of a tenant's quota any more
        self._spent: dict[str, datetime | None] = {}  #: until when a budget was to let nothing start, when last said
        self._shown: set[str] = set()  #: tenants mirrored the last time

    async def run(self) -> None:
        """Mirror for ever; a write that fails is tried again the next time."""
        while True:
            await self.mirror()
            await asyncio.sleep(INTERVAL_SECONDS)

    async def mirror(self) -> None:
        """Mirror once; whoever has nothing any more is mirrored one last time."""
        tenants = {*self._ledgers.tenants(), *self._admission.tenants(), *self._named()}
        for tenant in tenants | self._shown:
            await self._mirror(tenant)
        self._shown = tenants

    def _named(self) -> list[str]:
        return [view.name for view in self._context.caches.quotas]

    async def _mirror(self, tenant: str) -> None:
        usage = self._ledgers.usage(tenant)
        queued, oldest = self._admission.queued(tenant)
        limits, budgets = self._quotas.limits(tenant), self._quotas.uses(tenant)
        waited = (self._quotas.now() - oldest).total_seconds() if oldest else 0.0
        self._context.metrics.queued(tenant, queued, waited)
        unknown = self._ledgers.why_unread(self._quotas.ledger_of(tenant))
        if not unknown:
            self._count(tenant, usage, limits, budgets)
            self._notice(tenant, blocking(budgets))
        view = self._context.caches.quotas.get("", tenant)
        if view is None or not self._stands(tenant):  # observedGeneration is a promise
            return
        now = self._quotas.now()
        use = TenantUse(
            usage=usage,
            limits=limits,
            queued=queued,
            oldest=oldest,
            budgets=budgets,
            unknown=unknown,
            created_by=self._context.policy.created_by,
        )
        wanted = quota_status(view.status, view.generation, use, now=now)
        if wanted != view.status:
            await self._write(view, wanted)

    def _notice(self, tenant: str, spent: BudgetUse | None) -> None:
        """Tell everybody when a budget begins or ceases to let nothing start, or does not cease when that was said."""
        said_until, until = self._spent.get(tenant), spent.recovers_at if spent else None
        if (said_until is None) != (until is None) or (said_until and self._quotas.now() >= said_until):
            self._spent[tenant] = until
            self._quotas.changed(tenant)

    def _count(self, tenant: str, usage: Amounts, limits: Limits, budgets: Sequence[BudgetUse]) -> None:
        metrics = self._context.metrics
        metrics.budgets(tenant, {use.budget.name: use.percent / 100 for use in budgets})
        for resource in ("concurrency", "cpu", "memory"):
            metrics.quota(tenant, resource, getattr(usage, resource), getattr(limits, resource))

    async def _write(self, view: QuotaView, status: dict[str, Any]) -> None:
        path = resource_path(API_VERSION, TENANTQUOTA_PLURAL, "", view.name) + "/status"
        patch = {"metadata": {"resourceVersion": str(view.version)}, "status": _with_nulls(view.status, status)}
        try:
            self._context.caches.quotas.put(observe_quota(await self._context.kube.merge_patch(path, patch)))
        except ApiError as error:
            log.info("the status of a TenantQuota was not written; trying again", quota=view.name, error=str(error))


def _with_nulls(before: Any, after: dict[str, Any]) -> dict[str, Any]:
    """Return *after* with None for what it no longer has, as a merge patch wants it."""
    return {key: None for key in before if key not in after} | after
