"""Which waiting attempts may start now: one cycle of one ledger, which a lone tenant or a whole cohort shares.

Tenants take turns: those who do not borrow first, then by the least share of decayed usage (`fair_share.py`), then by
the place of whoever is their first. Inside a tenant the first in order that fits starts. A task at the head that does
not fit lets smaller ones pass, but only for RESERVE_AFTER: then what becomes free is kept for it, in its tenant, and
where the whole cohort is short of room nobody else borrows until it has started. Where a tenant asks for it, others
give way to its waiting tasks (`preemption.py`): what they leave is claimed, and taken by nobody else.

Those whom Kueue admits take no part in this: of a TenantQuota only stopPolicy and maxSize keep them from Kueue.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from longtask_operator.core.fair_share import share_of
from longtask_operator.core.preemption import Claim, Future, comes_before
from longtask_operator.core.queueing import Candidate, Line, Place, TenantQueue, place_of
from longtask_operator.core.quota import LOWER_PRIORITY, NEVER, RECLAIM, exceeds_max_size
from longtask_operator.core.reservation import (
    can_hold,
    could_start,
    has_waited,
    head_of,
    is_kept_from,
    is_short_of_room,
)
from longtask_operator.core.room import Room, demand_of
from longtask_operator.core.snapshot import Snapshot, future_of

#: Of each tenant, tasks for which room is made at once. Each costs a look at all live attempts: 10 ms at 10,000.
MAX_CLAIMS = 16
#: The same of all tenants of a ledger: with those who give way they seldom take over 100 kB of it.
MAX_CLAIMS_IN_ALL = 64

Queues = Mapping[str, TenantQueue]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one cycle decides."""

    admitted: tuple[Candidate, ...] = ()
    holder: Candidate | None = None  #: for whom nobody else of the cohort borrows
    claims: tuple[Claim, ...] = ()  #: room that is being made
    claimed: Room | None = None  #: what is free once that is done, where anybody asked for room


NO_PLAN = Plan()


def plan_admissions(queues: Queues, snapshot: Snapshot, *, now: datetime, holder: str = "") -> Plan:
    """Take everyone out of *queues* who may start now; *holder* is the uid of the last plan's holder.

    A task that holds an entry of the same attempt already is admitted anew, unless it wants more than that.
    """
    return _Cycle(queues, snapshot, now).run(holder)


_Turn = tuple[bool, float, Place, str, Candidate]


class _Cycle:
    """One cycle: what is free in it, and whose turn it is."""

    def __init__(self, queues: Queues, snapshot: Snapshot, now: datetime) -> None:
        self.snapshot, self.queues, self.members, self.now = snapshot, queues, snapshot.members, now
        self.room = snapshot.room.copy()
        self.total = self.room.totals()[1]
        self.slots = snapshot.max_entries - snapshot.count
        self.users = {tenant: Counter(member.running) for tenant, member in snapshot.members.items()}
        self.admitted: list[Candidate] = []
        self.active = [tenant for tenant in sorted(queues) if tenant in snapshot.members and len(queues[tenant])]
        self.holder: Candidate | None = None
        self._patient: list[Candidate] | None = None
        self.claims: dict[str, Claim] = {}
        self._promised: Counter[tuple[str, str]] = Counter()  #: claims by tenant and person
        self._future: Future | None = None  #: only where room is being made
        self._asking: dict[str, list[Candidate]] = {}  #: by tenant: who may ask others to give way before its turn
        self._in_vain: set[str] = set()  #: uids that found too few who could give way: they seldom get more in a cycle
        self._asked = 0  #: claims made anew
        self._beside = 0  #: how many were admitted without a claim since the claims were made
        self._reclaimed = self._kept = False  #: whether lent room was asked for, and any kept from somebody

    def run(self, holder: str) -> Plan:
        """Admit until nobody fits any more; *holder* is the uid of the last plan's holder."""
        self._admit_anew()
        self._hand_over()
        self.holder = self._holder_before(holder)
        self._renew_claims(self.snapshot.claims)
        while self._round() or self._claims_changed():
            self.holder = self._holder_before(self.holder.entry.uid) if self.holder else None
        claimed = self._future.room if self._future else None
        claims = tuple(self.claims.values())
        return Plan(admitted=tuple(self.admitted), holder=self.holder, claims=claims, claimed=claimed)

    def _round(self) -> bool:
        """Let all have their turns, then make room; return whether another round could admit somebody.

        Who has started was perhaps what others were kept back for, and what gives way may be more than was asked for.
        """
        admitted, asked, self._patient = len(self.admitted), self._asked, None
        self._kept = self.holder is not None
        self._take_turns()
        for policy in (RECLAIM, LOWER_PRIORITY):
            self._make_room(policy)
        return self._asked > asked or (self._kept and len(self.admitted) > admitted)

    def _take_turns(self) -> None:
        if self.holder and self._takes(self.holder):
            self._admit(self.holder)
        turns = [turn for tenant in self.active if (turn := self._turn(tenant))]
        heapq.heapify(turns)
        while turns:
            borrows, _, _, tenant, candidate = heapq.heappop(turns)
            if borrows and not self._reclaimed:  # nobody borrows what has to come back at once
                self._reclaimed = True
                self._make_room(RECLAIM)
            self._make_room_before(candidate)
            if self._takes(candidate) and not (borrows and self._has_to_leave_it(candidate)):
                self._admit(candidate)
            if turn := self._turn(tenant):
                heapq.heappush(turns, turn)

    def _claims_changed(self) -> bool:
        """Make the claims anew where others took of the room; return whether any changes: then others may start.

        Whoever is needed now instead of another was not told anything yet. The next cycle would do the same, too late.
        """
        if not self.claims or not self._beside:
            return False
        before, self.claims, self._beside = self.claims, {}, 0
        self._promised.clear()
        self._in_vain.clear()
        self._renew_claims(before.values())
        return self.claims != before

    def _renew_claims(self, before: Collection[Claim]) -> None:
        """Take over those of the claims *before* that are still of use, and admit whom there is room for now."""
        if not before:
            return
        anew = {candidate.entry.uid for candidate in self.admitted}
        self._future = future_of(self.snapshot, self.room, self.now)
        for claim in before:  # first those that nothing can be changed of yet: nobody else may ask whom they name
            known = self._claimant(claim) or claim.uid in anew or claim.tenant not in self.members
            if not known and self.snapshot.is_known(claim.uid):
                self.claims[claim.uid] = self._future.keep(claim)
        uids = {claim.uid for claim in before}
        for claim in before:
            candidate = self._claimant(claim)
            first = self._to_whom_it_would_give_way(candidate, uids) if candidate else None
            if candidate and not (first and self._claim(first, claim)):
                self._claim(candidate, claim)
        for candidate in [found for claim in self.claims.values() if (found := self._claimant(claim))]:
            fits = self.slots > 0 and self.room.fits(candidate.tenant, demand_of(candidate.entry.held))
            if fits and not self._still_needs(self.claims[candidate.entry.uid]):
                self._admit(candidate)

    def _to_whom_it_would_give_way(self, claimant: Candidate, but: Container[str]) -> Candidate | None:
        """Return the first of its tenant, besides the uids *but*, to which *claimant* would give way once it runs."""
        tenant, limits = claimant.tenant, self.members[claimant.tenant].limits
        if limits.preemption != LOWER_PRIORITY:
            return None
        few = [one for one in self._first_that_wait(tenant) if comes_before(one, claimant, limits)]
        return next((one for one in few if one.entry.uid not in but and one.entry.uid not in self.claims), None)

    def _still_needs(self, claim: Claim) -> bool:
        """Whether somebody has to give way for *claim* who does not yet: what is free is kept for other claims."""
        live = [member.entries for member in self.members.values()]
        entries = [held[uid] for held in live for uid, _ in claim.victims if uid in held]
        return any((run := self.snapshot.runs(entry)) and not run.leaving for entry in entries)

    def _claimant(self, claim: Claim) -> Candidate | None:
        return self.queues[claim.tenant].get(claim.uid) if claim.tenant in self.queues else None

    def _make_room(self, policy: str) -> None:
        """Claim room for those who still wait and whose tenants let others give way by that *policy*."""
        asking = [t for t in self.active if self.members[t].limits.preemption == policy and not self._is_stopped(t)]
        for tenant in sorted(asking, key=self._share):
            self._ask_for(self._first_few(tenant))

    def _make_room_before(self, candidate: Candidate) -> None:
        """Claim room for those of its tenant to whom *candidate* would have to give way as soon as it runs."""
        tenant, limits = candidate.tenant, self.members[candidate.tenant].limits
        if limits.preemption != LOWER_PRIORITY or self.queues[tenant].first(self._could_start(tenant)) is candidate:
            return
        before = [one for one in self._first_that_wait(tenant) if comes_before(one, candidate, limits)]
        self._ask_for(before, keeps=True)

    def _first_that_wait(self, tenant: str) -> list[Candidate]:
        """Return those of its first few that still wait, as they were when that was first asked in this cycle."""
        if tenant not in self._asking:
            self._asking[tenant] = self._first_few(tenant)
        return [one for one in self._asking[tenant] if self.queues[tenant].get(one.entry.uid) is one]

    def _first_few(self, tenant: str) -> list[Candidate]:
        return self.queues[tenant].first_few(MAX_CLAIMS, self._could_start(tenant))

    def _could_start(self, tenant: str) -> Callable[[Line], bool]:
        return lambda line: could_start(line, tenant, self.members[tenant].limits, self.room, self.users[tenant])

    def _ask_for(self, candidates: Iterable[Candidate], *, keeps: bool = False) -> None:
        """Claim room for *candidates* of one tenant, in their order, up to one that nobody may pass.

        What others leave anyway is claimed too where it *keeps* somebody from what would have to come back at once.
        """
        for candidate in candidates:
            if candidate.entry.uid in self.claims or self._claim(candidate, keeps=keeps):
                continue
            if self._is_not_passed(candidate):
                break

    def _claim(self, candidate: Candidate, before: Claim | None = None, *, keeps: bool = False) -> bool:
        """Claim room for *candidate* if it may start but for the room, and others can be asked to give way."""
        tenant, entry, limits = candidate.tenant, candidate.entry, self.members[candidate.tenant].limits
        if (
            entry.handed_over
            or entry.uid in self._in_vain
            or limits.preemption == NEVER
            or self._is_stopped(tenant)
            or min(self.slots, MAX_CLAIMS_IN_ALL) <= len(self.claims)
            or sum(claim.tenant == tenant for claim in self.claims.values()) >= MAX_CLAIMS
        ):
            return False
        if exceeds_max_size(entry.size, limits) or not self._can_hold(tenant, candidate.user):
            return False
        demand = demand_of(entry.held)
        if self.holder and is_kept_from(tenant, demand, self.holder, self.room):
            return False
        if before is None and limits.preemption == RECLAIM and self.room.borrows(tenant, demand):
            return False  # the usual case of a busy tenant costs no look at what lives
        self._future = self._future or future_of(self.snapshot, self.room, self.now)
        if before is None and self.room.fits(tenant, demand) and self._future.room.fits(tenant, demand):
            return False  # it only waits for its turn
        claim = self._future.claim(candidate, limits, before, keeps=keeps)
        if claim:
            self.claims[entry.uid] = claim
            self._promised[tenant, candidate.user] += 1
            self._asked += before is None
        elif not self._future.room.fits(tenant, demand):
            self._in_vain.add(entry.uid)
        return claim is not None

    def _can_hold(self, tenant: str, user: str) -> bool:
        """Whether one more attempt of *user* may run, beside those for whose tasks room is made."""
        has = self.users[tenant][user] + self._promised[tenant, user] if user else 0
        return can_hold(user, {user: has}, self.members[tenant].limits)

    def _share(self, tenant: str) -> float:
        member, room = self.members[tenant], self.room
        return share_of(member.decayed, room.used(tenant), room.counted(tenant, self.total), member.limits.weight)

    def _admit_anew(self) -> None:
        for tenant in self.active:
            queue, entries = self.queues[tenant], self.members[tenant].entries
            few, many = (queue.uids(), entries) if len(queue) < len(entries) else (list(entries), queue)
            for candidate in [queue.get(uid) for uid in few if uid in many]:
                if candidate and (anew := candidate.admitted_anew(entries[candidate.entry.uid])):
                    queue.remove(candidate.entry.uid)
                    self.admitted.append(anew)

    def _hand_over(self) -> None:
        """Take out those whom Kueue admits, but for what is too large, on hold, or too much for the ledger."""
        for tenant in self.active:
            while self.slots > 0 and (chosen := self.queues[tenant].first(partial(self._goes_to_kueue, tenant))):
                self.queues[tenant].remove(chosen.entry.uid)
                self.slots -= 1
                self.admitted.append(chosen)

    def _goes_to_kueue(self, tenant: str, line: Line) -> bool:
        limits = self.members[tenant].limits
        return line.handed_over and not limits.on_hold and not exceeds_max_size(line.size, limits)

    def _turn(self, tenant: str) -> _Turn | None:
        """Return who of *tenant* is the next that fits, with what decides whose turn it is; None if there is nobody."""
        if self._is_stopped(tenant) or self.slots <= 0:
            return None
        chosen = self.queues[tenant].first(lambda line: self._takes_line(tenant, line))
        if chosen is None or chosen.entry.uid in self.claims or self._is_behind_its_head(chosen):
            return None
        place = place_of(chosen, self.members[tenant].limits.max_priority)
        return (self.room.borrows(tenant, demand_of(chosen.entry.held)), self._share(tenant), place, tenant, chosen)

    def _is_stopped(self, tenant: str) -> bool:
        limits = self.members[tenant].limits
        return limits.on_hold or bool(limits.spent)

    def _takes_line(self, tenant: str, line: Line) -> bool:
        """Whether one more of *line* may start now."""
        limits, demand = self.members[tenant].limits, demand_of(line.held)
        return (
            self.slots > 0
            and not line.handed_over
            and self.room.fits(tenant, demand)
            and (self._future is None or self._future.room.fits(tenant, demand))
            and not exceeds_max_size(line.size, limits)
            and self._can_hold(tenant, line.user)
            and not (self.holder and is_kept_from(tenant, demand, self.holder, self.room))
        )

    def _takes(self, candidate: Candidate) -> bool:
        if self.queues[candidate.tenant].get(candidate.entry.uid) is not candidate:
            return False
        return self._takes_line(candidate.tenant, Line.of(candidate))

    def _admit(self, candidate: Candidate) -> None:
        self.queues[candidate.tenant].remove(candidate.entry.uid)
        self.users[candidate.tenant][candidate.user] += 1
        self.room.add(candidate.tenant, demand_of(candidate.entry.held))
        if self.claims.pop(candidate.entry.uid, None):
            self._promised[candidate.tenant, candidate.user] -= 1
        elif self._future:  # whoever had a claim is counted there
            self._beside += 1
            self._future.room.add(candidate.tenant, demand_of(candidate.entry.held))
        self.slots -= 1
        self.admitted.append(candidate)
        if candidate is self.holder:  # nothing is kept for it any more, however it got its room
            self.holder = None

    def _is_behind_its_head(self, chosen: Candidate) -> bool:
        """Whether *chosen* would pass the head of its queue, which has waited long and gets what becomes free."""
        head = self._head(chosen.tenant)
        behind = head is not None and head is not chosen and self._is_not_passed(head)
        self._kept |= behind
        return behind

    def _head(self, tenant: str) -> Candidate | None:
        return head_of(self.queues[tenant], tenant, self.members[tenant].limits, self.room, self.users[tenant])

    def _is_not_passed(self, head: Candidate) -> bool:
        """Whether *head* has waited long, for what will become free: then others of its tenant wait behind it."""
        if not has_waited(head, self.now):
            return False
        return not self.room.within_cap(head.tenant, demand_of(head.entry.held)) or is_short_of_room(head, self.room)

    def _has_to_leave_it(self, candidate: Candidate) -> bool:
        """Whether what *candidate* would borrow is kept for somebody who has waited long."""
        if self.holder is None:
            waiting = [head for head in self._patients() if is_short_of_room(head, self.room)]
            self.holder = min(waiting, key=lambda head: (head.queued_at, head.key), default=None)
            self._kept |= self.holder is not None
        demand = demand_of(candidate.entry.held)
        return self.holder is not None and is_kept_from(candidate.tenant, demand, self.holder, self.room)

    def _patients(self) -> list[Candidate]:
        """Return the heads of the queues that have waited long."""
        if self._patient is None:
            heads = [self._head(tenant) for tenant in self.active if not self._is_stopped(tenant)]
            self._patient = [head for head in heads if head and has_waited(head, self.now)]
        return [head for head in self._patient if self.queues[head.tenant].get(head.entry.uid) is head]

    def _holder_before(self, uid: str) -> Candidate | None:
        """Return the holder of the last plan, if what it waited for has not changed."""
        for tenant in self.active if uid else ():
            candidate = self.queues[tenant].get(uid)
            if candidate and not candidate.entry.handed_over and not self._is_stopped(tenant):
                limits, entry = self.members[tenant].limits, candidate.entry
                blocked = exceeds_max_size(entry.size, limits)
                if blocked or not can_hold(candidate.user, self.users[tenant], limits):
                    return None
                fits = self.room.fits(tenant, demand_of(entry.held))
                return candidate if fits or is_short_of_room(candidate, self.room) else None
        return None
