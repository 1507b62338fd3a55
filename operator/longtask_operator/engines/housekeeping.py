"""Drops what nobody needs any more: ledgers in which nothing stands, and what is remembered of tenants that are gone.

Where each branch or pipeline gets a namespace of its own, thousands of tenants come and go. A tenant without a
TenantQuota leaves nothing that must last: its ledger is deleted some time after its last attempt, and made anew with
the next one. The same holds for the ledger of a cohort that no TenantQuota names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from longtask_operator.adapters.errors import ApiError, Conflict, Forbidden
from longtask_operator.core.ledger_layout import cohort_of, lone_tenant_of
from longtask_operator.engines.admission_loop import AdmissionLoop
from longtask_operator.engines.context import Context
from longtask_operator.engines.ledgers import Ledgers
from longtask_operator.engines.quotas import Quotas

INTERVAL_SECONDS = 60.0
#: A tenant that comes back sooner finds its ledger, its pace and its series.
IDLE_SECONDS = 600.0
#: Ledgers deleted in a row: a thousand at once would hold up admission.
MOST_AT_ONCE = 100
log = structlog.get_logger("longtask.housekeeping")


class Memory(Protocol):
    """Something that remembers tenants."""

    def tenants(self) -> Iterable[str]: ...  # noqa: D102
    def forget(self, tenant: str) -> None: ...  # noqa: D102


@dataclass(slots=True)
class Housekeeping:
    """Looks around every minute while this replica leads. *memories* are those that remember tenants."""

    context: Context
    ledgers: Ledgers
    admission: AdmissionLoop
    quotas: Quotas
    memories: Sequence[Memory]
    idle_seconds: float = IDLE_SECONDS
    _idle: dict[str, float] = field(default_factory=dict)  #: ledger -> loop time at which it was first seen so
    _gone: dict[str, float] = field(default_factory=dict)  #: tenant -> the same
    _is_refused: bool = False

    async def run(self) -> None:
        """Look around for ever; never raises on faults of the API server."""
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            await self.tidy()

    async def tidy(self) -> None:
        """Drop what has been idle long enough."""
        busy = self._busy()
        idle = [name for name in self.ledgers.names() if self._is_idle(name, busy)]
        try:
            for name in self._ripe(idle, self._idle)[:MOST_AT_ONCE]:
                async with self.admission.cycles:
                    await self._drop(name)
        except ApiError as error:
            self._say(error)
        living = self._living()
        known = {tenant for memory in self.memories for tenant in memory.tenants()}
        for tenant in self._ripe(known - living, self._gone):
            for memory in self.memories:
                memory.forget(tenant)

    def _is_idle(self, name: str, busy: Collection[str]) -> bool:
        """Return whether nothing stands in ledger *name*, nor is to, and no TenantQuota is of its tenants."""
        cohort, tenant = cohort_of(name), lone_tenant_of(name)
        if tenant in busy or not (self.ledgers.is_empty(name) and self.admission.is_idle(name)):
            return False
        return not self.quotas.of_cohort(cohort) if cohort else self.context.caches.quotas.get("", tenant) is None

    def _busy(self) -> set[str]:
        """Return the tenants of which an attempt lives or is to."""
        return {*self.ledgers.tenants(), *self.admission.tenants()}

    async def _drop(self, name: str) -> None:
        """Delete a ledger, unless something has come to stand in it. Raises ApiError."""
        if not self._is_idle(name, self._busy()):
            return
        try:
            await self.ledgers.delete(name)
        except Conflict:  # another operator has written it
            await self.ledgers.reload(name)
            return
        self.admission.forget(name)
        self._is_refused = False

    def _living(self) -> set[str]:
        """Return the tenants of which there is anything: tasks, attempts, a TenantQuota."""
        caches = self.context.caches
        of_tasks = {record.tenant for record in caches.tasks if record.tenant}
        named = {view.name for view in caches.quotas}
        return of_tasks | named | self._busy()

    def _say(self, error: ApiError) -> None:
        """Log that ledgers cannot be deleted; where the operator has no right to, once."""
        if isinstance(error, Forbidden):
            if not self._is_refused:
                log.warning("empty ledgers stay, as the operator may not delete ConfigMaps of its namespace")
            self._is_refused = True
            return
        log.info("an empty ledger was not deleted; trying again", error=str(error))

    def _ripe(self, idle: Iterable[str], since: dict[str, float]) -> list[str]:
        """Return those of *idle* that have been so long enough; *since* notes from when on, and forgets the others."""
        now, known = asyncio.get_running_loop().time(), dict(since)
        since.clear()
        since.update((name, known.get(name, now)) for name in idle)
        return [name for name, begin in since.items() if now - begin >= self.idle_seconds]
