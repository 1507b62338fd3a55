"""The one loop that admits: it alone writes the ledgers, one write at a time.

Whatever is waiting when a write begins shares it: many admissions and releases are one
write. A release by itself may wait a moment for company; an admission never does. A task
that merely keeps waiting is told nothing, but when its reason or noticeably its place changes.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import structlog

from longtask_operator.adapters.errors import AlreadyExists, ApiError, Conflict
from longtask_operator.adapters.metrics import Metrics
from longtask_operator.api.reasons import QueueReason
from longtask_operator.core.admission import HeldBack, Snapshot, plan_admissions, snapshot_of, why_waiting
from longtask_operator.core.ledger import LedgerEntry, with_changes
from longtask_operator.core.queueing import Candidate, TenantQueue, moved_noticeably
from longtask_operator.core.quota import UNLIMITED, Limits
from longtask_operator.engines.ledgers import Ledger, Ledgers

RELEASE_DELAY = 0.2
#: Time between two looks at the places of those who wait, and how many are told of a new place each time.
REFRESH_SECONDS, REFRESH_WRITES = 60.0, 300
_RANK_SECONDS = 1.0
_RETRY_DELAY = 0.5
_REPAIR_SECONDS = 30.0
log = structlog.get_logger("longtask.admission")


class Tenants(Protocol):
    """What the loop asks about tenants and the time."""

    def limits(self, tenant: str) -> Limits: ...  # noqa: D102
    def user(self, uid: str) -> str: ...  # noqa: D102
    def now(self) -> datetime: ...  # noqa: D102


class NoLimits:
    """Tenants without limits, in a time that stands still."""

    def limits(self, tenant: str) -> Limits:
        """Return no limits."""
        return UNLIMITED

    def user(self, uid: str) -> str:
        """Return no person."""
        return ""

    def now(self) -> datetime:
        """Return the same moment always."""
        return datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class _Work:
    """What one tenant's ledger is to be changed by, admissions aside."""

    kept: dict[str, LedgerEntry] = field(default_factory=dict)
    released: set[tuple[str, int]] = field(default_factory=set)


@dataclass(slots=True)
class _Waiting:
    """Who of one tenant waits, and what was said of them."""

    queue: TenantQueue = field(default_factory=TenantQueue)
    unheard: dict[str, None] = field(default_factory=dict)  #: uids that no cycle has looked at, in order
    positions: dict[str, int] = field(default_factory=dict)  #: as last computed
    told: dict[str, int] = field(default_factory=dict)  #: positions as last told
    ranked_at: float = -1e9  #: loop time
    moved: bool = False  #: since the last refresh


class AdmissionLoop:
    """Collects candidates and releases, plans, writes, and tells who was admitted or must wait."""

    def __init__(
        self, ledgers: Ledgers, metrics: Metrics, on_change: Callable[[str], None], tenants: Tenants | None = None
    ) -> None:
        self._ledgers, self._metrics, self._on_change = ledgers, metrics, on_change
        self._tenants: Tenants = tenants or NoLimits()
        self._work: dict[str, _Work] = defaultdict(_Work)
        self._waiting: dict[str, _Waiting] = defaultdict(_Waiting)
        self._where: dict[str, str] = {}  #: uid -> tenant in whose queue it waits
        self._reasons: dict[str, QueueReason] = {}  #: as last told
        self._dirty: dict[str, None] = {}  #: tenants to look at, in order
        self._in_flight: dict[str, Candidate | None] = {}
        self._fresh: set[tuple[str, int]] = set()  #: admitted by this process, and no Job asked for yet
        self._refresh_timer: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()

    def submit(self, candidate: Candidate) -> None:
        """Let *candidate* wait for admission; the newest of a task counts, whatever tenant it had."""
        uid, waiting = candidate.entry.uid, self._waiting[candidate.tenant]
        if waiting.queue.get(uid) == candidate or self._in_flight.get(uid) == candidate:
            return
        self._drop_candidate(uid)
        waiting.queue.put(candidate)
        waiting.unheard[uid] = None
        self._where[uid] = candidate.tenant
        self._work[candidate.tenant].released.discard((uid, candidate.entry.attempt))
        self._look_at(candidate.tenant)

    def withdraw(self, uid: str, tenant: str) -> None:
        """Forget a task that waits no more."""
        self._reasons.pop(uid, None)
        if self._in_flight.get(uid):
            self._in_flight[uid] = None
        self._drop_candidate(uid)

    def concerns(self, uid: str, tenant: str) -> bool:
        """Return whether a write that admits the task is under way or still to come."""
        return uid in self._in_flight or uid in self._where

    def keep(self, tenant: str, entry: LedgerEntry) -> None:
        """Put the entry of an attempt that lives back into the ledger."""
        self._work[tenant].kept[entry.uid] = entry
        self._work[tenant].released.discard((entry.uid, entry.attempt))
        self._look_at(tenant)

    def release(self, tenant: str, uid: str, attempt: int) -> None:
        """Take an attempt out of the ledger in which it stands, soon; *tenant* counts where it stands in none."""
        tenant = self._ledgers.tenant_of(uid) or tenant
        work = self._work[tenant]
        work.released.add((uid, attempt))
        work.kept.pop(uid, None)
        self._fresh.discard((uid, attempt))
        asyncio.get_running_loop().call_later(RELEASE_DELAY, self._look_at, tenant)

    def take_fresh(self, uid: str, attempt: int) -> bool:
        """Return, once, whether this process admitted the attempt and nobody can have begun it before."""
        key = (uid, attempt)
        if key not in self._fresh:
            return False
        self._fresh.discard(key)
        return True

    def limits_changed(self, tenant: str) -> None:
        """Decide anew on everybody of *tenant*."""
        waiting = self._waiting.get(tenant)
        if waiting:
            waiting.unheard |= {candidate.entry.uid: None for candidate in waiting.queue}
            self._look_at(tenant)

    def held_back(self, uid: str) -> HeldBack | None:
        """Return why a task still waits, if a cycle looked at it and did not admit it."""
        tenant = self._where.get(uid)
        if tenant is None or uid not in self._reasons:
            return None
        candidate = self._waiting[tenant].queue.get(uid)
        return self._explain(tenant, candidate, self._snapshot(tenant)) if candidate else None

    def queued(self, tenant: str) -> tuple[int, datetime | None]:
        """Return how many tasks of *tenant* wait, and since when the one that has waited longest."""
        waiting = self._waiting.get(tenant)
        return (len(waiting.queue), waiting.queue.oldest()) if waiting else (0, None)

    def tenants(self) -> list[str]:
        """Return the tenants of which something waits or waited."""
        return list(self._waiting)

    async def run(self) -> None:
        """Admit for ever; never raises on faults of the API server."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            dirty, self._dirty = list(self._dirty), {}
            for tenant in dirty:
                await self._cycle(tenant)

    def _look_at(self, tenant: str) -> None:
        self._dirty[tenant] = None
        self._wake.set()

    def _drop_candidate(self, uid: str) -> None:
        tenant = self._where.pop(uid, None)
        if tenant is not None:
            waiting = self._waiting[tenant]
            waiting.queue.remove(uid)
            self._moved(waiting)
            for known in (waiting.unheard, waiting.positions, waiting.told):
                known.pop(uid, None)

    async def _cycle(self, tenant: str) -> None:
        """Plan and write once for one ledger; on a fault read it again and come back."""
        work = self._work.pop(tenant, None) or _Work()
        ledger, waiting = self._ledgers.ledger(tenant), self._waiting[tenant]
        if ledger.broken:
            await self._await_repair(tenant, work, ledger)
            return
        limits = self._tenants.limits(tenant)
        waiting.queue.set_max_priority(limits.max_priority)
        entries = with_changes(ledger.entries, added=work.kept.values(), released=work.released)
        snapshot = snapshot_of(limits, entries, self._tenants.user)
        admitted = plan_admissions(waiting.queue, snapshot, now=self._tenants.now())
        added = [*work.kept.values(), *(candidate.entry for candidate in admitted)]
        self._in_flight = {candidate.entry.uid: candidate for candidate in admitted}
        for uid in self._in_flight:
            self._where.pop(uid, None)
            waiting.unheard.pop(uid, None)
        try:
            if await self._ledgers.write(tenant, added=added, released=work.released):
                self._metrics.ledger_written()
        except ApiError as error:
            await self._recover(tenant, work, admitted, error)
            return
        finally:
            self._in_flight = {}
        self._fresh |= {(c.entry.uid, c.entry.attempt) for c in admitted if c.entry.uid not in entries}
        self._tell_admitted(waiting, admitted)
        self._tell_waiting(tenant)

    async def _await_repair(self, tenant: str, work: _Work, ledger: Ledger) -> None:
        """Hold everybody back while a ledger cannot be read, keep what is to be written, and look again later."""
        self._put_back(tenant, work, [])
        self._tell_waiting(tenant)
        asyncio.get_running_loop().call_later(_REPAIR_SECONDS, self._look_at, tenant)
        await self._reload(tenant)

    async def _reload(self, tenant: str) -> bool:
        """Read the ledger again; return whether that succeeded."""
        try:
            await self._ledgers.reload(tenant)
        except ApiError as error:
            log.warning("the ledger was not read; trying again", tenant=tenant, error=str(error))
            return False
        return True

    def _put_back(self, tenant: str, work: _Work, candidates: list[Candidate]) -> None:
        newer, waiting = self._work[tenant], self._waiting[tenant]
        newer.kept = work.kept | newer.kept
        newer.released |= work.released
        for candidate in candidates:
            uid = candidate.entry.uid
            if uid not in self._where:
                waiting.queue.put(candidate)
                waiting.unheard[uid] = None
                self._where[uid] = tenant

    def _tell_admitted(self, waiting: _Waiting, admitted: list[Candidate]) -> None:
        for candidate in admitted:
            uid = candidate.entry.uid
            self._reasons.pop(uid, None)
            waiting.positions.pop(uid, None)
            waiting.told.pop(uid, None)
            self._metrics.admitted(candidate.tenant)
            self._on_change(candidate.key)
        self._moved(waiting)

    def _tell_waiting(self, tenant: str) -> None:
        """Tell those whom a cycle has just looked at for the first time, or whose reason is another one now."""
        waiting = self._waiting[tenant]
        unheard, waiting.unheard = waiting.unheard, {}
        if not unheard:
            return
        self._rank(waiting)
        snapshot = self._snapshot(tenant)
        for uid in unheard:
            candidate = waiting.queue.get(uid)
            if candidate is None:
                continue
            reason, before = self._explain(tenant, candidate, snapshot).reason, self._reasons.get(uid)
            if reason != before:
                self._reasons[uid] = reason
                self._metrics.held_back(tenant, reason)
                self._on_change(candidate.key)

    def _rank(self, waiting: _Waiting) -> None:
        """Compute all places, but not in every cycle: in between a newcomer counts as the last."""
        now = asyncio.get_running_loop().time()
        if now - waiting.ranked_at >= _RANK_SECONDS:
            waiting.positions, waiting.ranked_at = waiting.queue.positions(), now

    def _moved(self, waiting: _Waiting) -> None:
        """Look at the places again, but not soon: an idle queue sets no timer."""
        if len(waiting.queue) and not waiting.moved:
            waiting.moved = True
            if self._refresh_timer is None:
                self._refresh_timer = asyncio.get_running_loop().call_later(REFRESH_SECONDS, self._refresh)

    def _refresh(self) -> None:
        """Tell those whose reason or noticeably whose place has changed, the first in the queues first."""
        self._refresh_timer = None
        for tenant, waiting in self._waiting.items():
            if not waiting.moved:
                continue
            waiting.moved, waiting.ranked_at, snapshot = False, -1e9, self._snapshot(tenant)
            self._rank(waiting)
            budget = REFRESH_WRITES
            for uid, position in waiting.positions.items():
                candidate = waiting.queue.get(uid)
                if candidate and budget and self._changed(tenant, candidate, position, snapshot):
                    budget -= 1
                    self._on_change(candidate.key)

    def _changed(self, tenant: str, candidate: Candidate, position: int, snapshot: Snapshot) -> bool:
        uid, waiting = candidate.entry.uid, self._waiting[tenant]
        reason, before = self._explain(tenant, candidate, snapshot).reason, self._reasons.get(uid)
        moved = moved_noticeably(waiting.told.get(uid), position)
        self._reasons[uid] = reason
        if moved:
            waiting.told[uid] = position
        return moved or reason != before

    def _snapshot(self, tenant: str) -> Snapshot:
        return snapshot_of(self._tenants.limits(tenant), self._ledgers.ledger(tenant).entries, self._tenants.user)

    def _explain(self, tenant: str, candidate: Candidate, snapshot: Snapshot) -> HeldBack:
        ledger, waiting = self._ledgers.ledger(tenant), self._waiting[tenant]
        position = waiting.positions.get(candidate.entry.uid) or len(waiting.queue)
        waiting.told.setdefault(candidate.entry.uid, position)
        if ledger.broken:
            message = f"the ledger {ledger.name} cannot be read: {ledger.broken}"
            return HeldBack(reason=QueueReason.BEHIND_OTHERS, message=message, position=position)
        return why_waiting(candidate, waiting.queue, snapshot, now=self._tenants.now(), position=position)

    async def _recover(self, tenant: str, work: _Work, admitted: list[Candidate], error: ApiError) -> None:
        """Put all back and read the ledger until it is known: the write may have been executed, or another was."""
        self._put_back(tenant, work, [candidate for candidate in self._in_flight.values() if candidate])
        if isinstance(error, Conflict | AlreadyExists):
            self._metrics.ledger_conflicted()
            log.info("the ledger was written by another; reading it again", tenant=tenant)
        else:
            log.warning("the ledger was not written; trying again", tenant=tenant, error=str(error))
            await asyncio.sleep(_RETRY_DELAY)
        while not await self._reload(tenant):  # noqa: ASYNC110 - the API server changes it
            await asyncio.sleep(_RETRY_DELAY)
        for candidate in admitted:
            self._on_change(candidate.key)  # also of tasks that went meanwhile: they may stand in the ledger now
        self._look_at(tenant)
