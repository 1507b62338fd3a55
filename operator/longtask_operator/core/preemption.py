"""Who has to give way so that a waiting attempt may start, where its tenant asks for that.

ReclaimWithinCohort (Kueue's reclaimWithinCohort): an attempt within its tenant's nominal quota takes back what the
cohort has lent, from members that hold more than is theirs. LowerPriority (Kueue's withinClusterQueue): an attempt
takes the place of others of its own tenant that have a lower priority and would come after it in the queue. Neither
goes in circles: who gave way is beyond its nominal quota, or comes later in an order that time does not change.

Those whose end loses least compute since their last accepted checkpoint give way first, and whoever is not needed in
the end is spared. The room that they leave is claimed: nobody else may take it. Claims stand in the ledger, and are
made by the same compare-and-swap as admissions, so two operators never make two of them for one attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from longtask_operator.api.quantity import MEBIBYTE
from longtask_operator.core.ledger import Entries, LedgerEntry
from longtask_operator.core.queueing import Candidate, Ranked, place_of
from longtask_operator.core.quota import LOWER_PRIORITY, RECLAIM, Limits
from longtask_operator.core.room import Room, demand_of
from longtask_operator.core.sizing import Size


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is known of a live attempt besides its line in the ledger."""

    key: str  #: namespace/name of its task
    priority: int
    queued_at: datetime
    since: datetime | None = None  #: its last accepted checkpoint, or its start; None: it has not started
    leaving: bool = False  #: its stop, or its end, is recorded
    unreachable: bool = False  #: its node does not answer: no stop would reach it


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Room that is being made for the task *uid* of *tenant*; *victims* (uid, attempt) give way for it."""

    uid: str
    tenant: str
    held: Size
    victims: tuple[tuple[str, int], ...] = ()


Runs = Callable[[LedgerEntry], Run | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Victim:
    """A live attempt that may have to give way."""

    tenant: str
    entry: LedgerEntry
    run: Run

    @property
    def name(self) -> tuple[str, int]:
        """As a claim names it."""
        return (self.entry.uid, self.entry.attempt)


class Future:
    """What is free once all that leaves has left, and those for whom room is made have started."""

    def __init__(self, room: Room, entries: Mapping[str, Entries], runs: Runs, now: datetime) -> None:
        self.room, self._now = room.copy(), now
        self._leaving: set[tuple[str, int]] = set()
        self._staying: dict[str, dict[str, Victim]] = {tenant: {} for tenant in entries}
        self._ordered: list[Victim] | None = None  #: sorted once, where anybody has to give way
        for tenant, held in entries.items():
            for uid, entry in held.items():
                run = runs(entry)
                if entry.handed_over or (run and run.unreachable):  # the one holds nothing, the other could not go
                    continue
                if run is None or run.leaving:  # the line of a task that nobody knows goes soon
                    self._leaving.add((uid, entry.attempt))
                    self.room.add(tenant, demand_of(entry.held), -1)
                else:
                    self._staying[tenant][uid] = Victim(tenant=tenant, entry=entry, run=run)

    def claim(
        self, candidate: Candidate, limits: Limits, before: Claim | None = None, *, keeps: bool = False
    ) -> Claim | None:
        """Return the claim that lets *candidate* start, and count it; None where nobody can be asked to give way.

        It follows *before*: who was to give way already is asked first, and whoever is not needed any more is spared.
        """
        demand = demand_of(candidate.entry.held)
        reclaims = limits.preemption == RECLAIM and not self.room.borrows(candidate.tenant, demand)
        victims: list[Victim] = []
        if not self.room.fits(candidate.tenant, demand):
            pool = self._borrowing(candidate.tenant) if reclaims else self._lower(candidate, limits)
            if asked := before.victims if before else ():
                pool.sort(key=lambda one: one.name not in asked)
            victims = self._needed(candidate, pool, reclaims)
            if not victims:
                return None
        elif not (reclaims or before or keeps):  # what others leave is for whoever's turn it is then
            return None
        return self._counted(candidate, victims, before)

    def keep(self, claim: Claim) -> Claim:
        """Count *claim* as it is, of a task that is not known to wait yet."""
        for tenant, staying in self._staying.items():
            for victim in [one for one in staying.values() if one.name in claim.victims]:
                del staying[victim.entry.uid]
                self.room.add(tenant, demand_of(victim.entry.held), -1)
        self.room.add(claim.tenant, demand_of(claim.held))
        return claim

    def _counted(self, candidate: Candidate, victims: list[Victim], before: Claim | None) -> Claim:
        for victim in victims:
            del self._staying[victim.tenant][victim.entry.uid]
        self.room.add(candidate.tenant, demand_of(candidate.entry.held))
        stopped = self._leaving & set(before.victims if before else ())  # of those before
        names = {*(one.name for one in victims), *stopped}
        held, uid = candidate.entry.held, candidate.entry.uid
        return Claim(uid=uid, tenant=candidate.tenant, held=held, victims=tuple(sorted(names)))

    def _in_order(self) -> list[Victim]:
        """Return all that stay, whose end loses least first."""
        if self._ordered is None:
            every = [one for held in self._staying.values() for one in held.values()]
            self._ordered = sorted(every, key=lambda one: (self._lost(one), one.run.key))
        return [one for one in self._ordered if one.entry.uid in self._staying[one.tenant]]

    def _borrowing(self, tenant: str) -> list[Victim]:
        """Return the attempts of members other than *tenant*; `_needed` asks only those that borrow then."""
        return [one for one in self._in_order() if one.tenant != tenant]

    def _lower(self, candidate: Candidate, limits: Limits) -> list[Victim]:
        """Return the attempts of its own tenant that have a lower priority and come later in the queue's order."""
        if limits.preemption != LOWER_PRIORITY:
            return []
        own = [one for one in self._in_order() if one.tenant == candidate.tenant]
        return [one for one in own if comes_before(candidate, one.run, limits)]

    def _needed(self, candidate: Candidate, pool: list[Victim], reclaims: bool) -> list[Victim]:
        """Return those of *pool*, in its order, without whom *candidate* does not fit, taken out of the room."""
        tenant, demand, taken = candidate.tenant, demand_of(candidate.entry.held), list[Victim]()
        for victim in pool:
            if self.room.fits(tenant, demand):
                break
            lacking = self.room.lacking(tenant, demand)
            if not reclaims or self.room.exceeds(victim.tenant, lacking):
                taken.append(victim)
                self.room.add(victim.tenant, demand_of(victim.entry.held), -1)
        enough = self.room.fits(tenant, demand)
        for victim in reversed(list(taken)):
            self.room.add(victim.tenant, demand_of(victim.entry.held))
            if enough and not self.room.fits(tenant, demand):
                self.room.add(victim.tenant, demand_of(victim.entry.held), -1)
            else:
                taken.remove(victim)
        return taken

    def _lost(self, victim: Victim) -> float:
        """Return the compute that its end loses, in millicore-seconds."""
        since = victim.run.since
        return victim.entry.held.cpu * max(0.0, (self._now - since).total_seconds()) if since else 0.0


def comes_before(one: Ranked, other: Ranked, limits: Limits) -> bool:
    """Whether *other* would give way to *one* of the same tenant: of lower priority, and later in the queue's order."""
    lower = _capped(other.priority, limits) < _capped(one.priority, limits)
    return lower and place_of(one, limits.max_priority) < place_of(other, limits.max_priority)


def _capped(priority: int, limits: Limits) -> int:
    return priority if limits.max_priority is None else min(priority, limits.max_priority)


def format_claims(claims: Iterable[Claim]) -> str:
    """Return *claims* as text, a line `uid tenant milliCPU MiB` each, with `uid/attempt` for each victim behind it."""
    return "".join(
        " ".join(
            [
                *(claim.uid, claim.tenant, str(claim.held.cpu), str(-(-claim.held.memory // MEBIBYTE))),
                *(f"{uid}/{attempt}" for uid, attempt in claim.victims),
            ]
        )
        + "\n"
        for claim in claims
    )


def parse_claims(text: str) -> tuple[Claim, ...]:
    """Return what `format_claims` wrote; nothing where it cannot be read: it is decided anew then."""
    try:
        return tuple(_parse_claim(line.split()) for line in text.splitlines())
    except ValueError:
        return ()


def _parse_claim(fields: list[str]) -> Claim:
    uid, tenant, cpu, memory, *named = fields
    pairs = [name.split("/") for name in named]
    victims = tuple((name, int(attempt)) for name, attempt in pairs)
    return Claim(uid=uid, tenant=tenant, held=Size(cpu=int(cpu), memory=int(memory) * MEBIBYTE), victims=victims)
