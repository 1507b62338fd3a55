"""The one loop that admits: it alone writes the ledgers, one write at a time.

Whatever is waiting when a write begins shares it: many admissions and releases are one
write. A release by itself may wait a moment for company; an admission never does.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from longtask_operator.adapters.errors import AlreadyExists, ApiError, Conflict
from longtask_operator.adapters.metrics import Metrics
from longtask_operator.api.reasons import QueueReason
from longtask_operator.core.admission import Candidate, HeldBack, Verdict, plan_admissions
from longtask_operator.core.ledger import LedgerEntry, with_changes
from longtask_operator.engines.ledgers import Ledger, Ledgers

RELEASE_DELAY = 0.2
_RETRY_DELAY = 0.5
_REPAIR_SECONDS = 30.0
log = structlog.get_logger("longtask.admission")


@dataclass(slots=True)
class _Work:
    """What one tenant's ledger is to be changed by."""

    candidates: dict[str, Candidate] = field(default_factory=dict)
    kept: dict[str, LedgerEntry] = field(default_factory=dict)
    released: set[tuple[str, int]] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.candidates or self.kept or self.released)


class AdmissionLoop:
    """Collects candidates and releases, plans, writes, and tells who was admitted or must wait."""

    def __init__(self, ledgers: Ledgers, metrics: Metrics, on_change: Callable[[str], None]) -> None:
        self._ledgers, self._metrics, self._on_change = ledgers, metrics, on_change
        self._work: dict[str, _Work] = defaultdict(_Work)
        self._held_back: dict[str, HeldBack] = {}
        self._in_flight: frozenset[str] = frozenset()
        self._wake = asyncio.Event()

    def submit(self, candidate: Candidate) -> None:
        """Let *candidate* wait for admission; the newest of a task counts, whatever tenant it had."""
        uid, work = candidate.entry.uid, self._work[candidate.tenant]
        if work.candidates.get(uid) != candidate:
            self._drop_candidate(uid)
            work.candidates[uid] = candidate
            work.released.discard((uid, candidate.entry.attempt))
            self._wake.set()

    def withdraw(self, uid: str, tenant: str) -> None:
        """Forget a task that waits no more."""
        self._held_back.pop(uid, None)
        self._drop_candidate(uid)

    def _drop_candidate(self, uid: str) -> None:
        for work in self._work.values():
            work.candidates.pop(uid, None)

    def concerns(self, uid: str, tenant: str) -> bool:
        """Return whether a write that admits the task is under way or still to come."""
        return uid in self._in_flight or any(uid in work.candidates for work in self._work.values())

    def keep(self, tenant: str, entry: LedgerEntry) -> None:
        """Put the entry of an attempt that lives back into the ledger."""
        self._work[tenant].kept[entry.uid] = entry
        self._work[tenant].released.discard((entry.uid, entry.attempt))
        self._wake.set()

    def release(self, tenant: str, uid: str, attempt: int) -> None:
        """Take an attempt out of the ledger in which it stands, soon; *tenant* counts where it stands in none."""
        work = self._work[self._ledgers.tenant_of(uid) or tenant]
        work.released.add((uid, attempt))
        work.kept.pop(uid, None)
        asyncio.get_running_loop().call_later(RELEASE_DELAY, self._wake.set)

    def held_back(self, uid: str) -> HeldBack | None:
        """Return why a task still waits, if the last cycle did not admit it."""
        return self._held_back.get(uid)

    async def run(self) -> None:
        """Admit for ever; never raises on faults of the API server."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            for tenant in [tenant for tenant, work in self._work.items() if work]:
                await self._cycle(tenant)

    async def _cycle(self, tenant: str) -> None:
        """Plan and write once for one ledger; on a fault read it again and come back."""
        work, ledger = self._work.pop(tenant), self._ledgers.ledger(tenant)
        if ledger.broken:
            await self._await_repair(tenant, work, ledger)
            return
        verdicts = plan_admissions(work.candidates.values(), with_changes(ledger.entries, released=work.released))
        admitted = [verdict.candidate for verdict in verdicts if verdict.held_back is None]
        added = [*work.kept.values(), *(candidate.entry for candidate in admitted)]
        self._in_flight = frozenset(entry.uid for entry in added)
        try:
            if await self._ledgers.write(tenant, added=added, released=work.released):
                self._metrics.ledger_written()
        except ApiError as error:
            await self._recover(tenant, work, error)
            return
        finally:
            self._in_flight = frozenset()
        self._tell(verdicts)
        self._keep_waiting(tenant, verdicts)

    async def _await_repair(self, tenant: str, work: _Work, ledger: Ledger) -> None:
        """Hold everybody back while a ledger cannot be read, keep what is to be written, and look again later."""
        self._hold_all(work, f"the ledger {ledger.name} cannot be read: {ledger.broken}")
        self._put_back(tenant, work)
        asyncio.get_running_loop().call_later(_REPAIR_SECONDS, self._wake.set)
        await self._reload(tenant)

    async def _reload(self, tenant: str) -> bool:
        """Read the ledger again; return whether that succeeded."""
        try:
            await self._ledgers.reload(tenant)
        except ApiError as error:
            log.warning("the ledger was not read; trying again", tenant=tenant, error=str(error))
            return False
        return True

    def _put_back(self, tenant: str, work: _Work) -> None:
        newer = self._work[tenant]
        newer.candidates = work.candidates | newer.candidates
        newer.kept = work.kept | newer.kept
        newer.released |= work.released

    def _tell(self, verdicts: list[Verdict]) -> None:
        for verdict in verdicts:
            candidate, held_back = verdict.candidate, verdict.held_back
            before = self._held_back.pop(candidate.entry.uid, None)
            if held_back is None:
                self._metrics.admitted(candidate.tenant)
                self._on_change(candidate.key)
                continue
            self._held_back[candidate.entry.uid] = held_back
            if before is None or before.reason != held_back.reason:
                self._metrics.held_back(candidate.tenant, held_back.reason)
                self._on_change(candidate.key)

    def _keep_waiting(self, tenant: str, verdicts: list[Verdict]) -> None:
        for verdict in verdicts:
            if verdict.held_back:
                self._work[tenant].candidates.setdefault(verdict.candidate.entry.uid, verdict.candidate)

    def _hold_all(self, work: _Work, message: str) -> None:
        held_back = HeldBack(reason=QueueReason.BEHIND_OTHERS, message=message)
        self._tell([Verdict(candidate=candidate, held_back=held_back) for candidate in work.candidates.values()])

    async def _recover(self, tenant: str, work: _Work, error: ApiError) -> None:
        """Put *work* back and read the ledger until it is known: the write may have been executed, or another was."""
        self._put_back(tenant, work)
        if isinstance(error, Conflict | AlreadyExists):
            self._metrics.ledger_conflicted()
            log.info("the ledger was written by another; reading it again", tenant=tenant)
        else:
            log.warning("the ledger was not written; trying again", tenant=tenant, error=str(error))
            await asyncio.sleep(_RETRY_DELAY)
        while not await self._reload(tenant):  # noqa: ASYNC110 - the API server changes it
            await asyncio.sleep(_RETRY_DELAY)
        for candidate in work.candidates.values():
            self._on_change(candidate.key)  # also of tasks that went meanwhile: they may stand in the ledger now
        self._wake.set()
