"""Why a task waits: the first rule that holds, in the order of the closed list of reasons.

Changes nothing and may be asked at any time; what it says is what the last cycle would say again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from longtask_operator.api.quantity import format_cpu, format_memory
from longtask_operator.api.reasons import QueueReason
from longtask_operator.core.admission import NO_PLAN, Plan, Snapshot
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.queueing import Candidate, TenantQueue
from longtask_operator.core.quota import Limits, describe_shortage, exceeds_max_size, never_fits
from longtask_operator.core.reservation import can_hold, has_waited, head_of, is_kept_from, is_short_of_room
from longtask_operator.core.room import UNBOUNDED, Room, Vector, demand_of, growth_of

_CLAIMED = "what becomes free is kept for a task to which others give way"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBack:
    """Why an attempt cannot start now, in a word and in a sentence."""

    reason: QueueReason
    message: str
    position: int | None = None  #: in the tenant's queue, from 1

    @property
    def inadmissible(self) -> bool:
        """Whether no waiting helps while things are as they are."""
        return self.reason in (QueueReason.EXCEEDS_MAX_SIZE, QueueReason.NEVER_FITS)


@dataclass(frozen=True, slots=True)
class Scene:
    """What is looked at: a ledger, the queue of one tenant, and what the last plan kept of what becomes free."""

    queue: TenantQueue
    snapshot: Snapshot
    now: datetime
    plan: Plan = NO_PLAN


def why_waiting(candidate: Candidate, scene: Scene, position: int | None = None) -> HeldBack:
    """Return why *candidate*, which the last cycle left in its queue, may not start."""
    rules = (_of_its_size, _of_its_tenant, _of_what_is_used, _of_reservations)
    for rule in (_before_kueue,) if candidate.entry.handed_over else rules:
        if found := rule(candidate, scene.snapshot, scene, position):
            message = found.message + _room_being_made(candidate, scene.snapshot)
            return replace(found, message=message, position=position)
    return HeldBack(reason=QueueReason.BEHIND_OTHERS, message="waits for its turn", position=position)


def _before_kueue(candidate: Candidate, snapshot: Snapshot, scene: Scene, position: int | None) -> HeldBack | None:
    """Return what keeps a task from Kueue, which then says nothing of its own yet."""
    limits = snapshot.members[candidate.tenant].limits
    if message := exceeds_max_size(candidate.entry.size, limits):
        return HeldBack(reason=QueueReason.EXCEEDS_MAX_SIZE, message=message)
    return _of_a_stop(limits) or _of_the_ledger(snapshot)


def why_it_may_not_grow(
    tenant: str, has: LedgerEntry, wants: LedgerEntry, snapshot: Snapshot, room: Room, claimed: Room
) -> str:
    """Return why a live attempt of *tenant* may not hold *wants* in place of *has*, or an empty string.

    *room* is that of *snapshot* and *claimed* its `claimed_room`, both with what was granted since. What it has
    already counts as its own.
    """
    member = snapshot.members.get(tenant)
    if member is None:
        return f"tenant {tenant} is changing its cohort"
    growth = growth_of(has.held, wants.held)
    if not any(more > 0 for more in growth):
        return ""
    if message := exceeds_max_size(wants.size, member.limits):
        return message
    for r in room.lacking(tenant, growth)[:1]:
        what, more = ("concurrent tasks", "CPU", "memory")[r], _amount(r, growth[r])
        used, cap = room.used(tenant)[r], room.cap(tenant)[r]
        if used + growth[r] > cap:
            return f"tenant {tenant} uses {_amount(r, used)} of {_amount(r, cap)} {what}; this needs {more} more"
        return f"cohort {snapshot.cohort} has no {more} of {what} to lend to tenant {tenant}"
    return "" if claimed.fits(tenant, growth) else _CLAIMED


def _room_being_made(candidate: Candidate, snapshot: Snapshot) -> str:
    """Return what is done to let *candidate* start, as the end of a sentence."""
    claim = next((claim for claim in snapshot.claims if claim.uid == candidate.entry.uid), None)
    if claim is None:
        return ""
    number = f"{len(claim.victims)} attempts give" if len(claim.victims) > 1 else "an attempt gives"
    return f"; {number} way to this one and it starts when the room is free"


def _of_its_size(candidate: Candidate, snapshot: Snapshot, scene: Scene, position: int | None) -> HeldBack | None:
    entry, limits = candidate.entry, snapshot.members[candidate.tenant].limits
    if message := exceeds_max_size(entry.size, limits):
        return HeldBack(reason=QueueReason.EXCEEDS_MAX_SIZE, message=message)
    most = _replaced(limits, snapshot.room.most(candidate.tenant))
    if snapshot.cohort:
        most = replace(most, origin=f"{limits.origin}, with all that cohort {snapshot.cohort} could lend it,")
    if message := never_fits(entry.held, most):
        return HeldBack(reason=QueueReason.NEVER_FITS, message=message)
    return None


def _of_its_tenant(candidate: Candidate, snapshot: Snapshot, scene: Scene, position: int | None) -> HeldBack | None:
    limits = snapshot.members[candidate.tenant].limits
    if stopped := _of_a_stop(limits):
        return stopped
    if limits.max_queued is not None and position is not None and position > limits.max_queued:
        message = (
            f"{limits.max_queued} tasks of tenant {candidate.tenant} wait before this one, as many as its queue takes"
        )
        return HeldBack(reason=QueueReason.QUEUE_FULL, message=message)
    if limits.spent:
        return HeldBack(reason=QueueReason.BUDGET_EXHAUSTED, message=limits.spent)
    return None


def _of_what_is_used(candidate: Candidate, snapshot: Snapshot, scene: Scene, position: int | None) -> HeldBack | None:
    tenant, member, room = candidate.tenant, snapshot.members[candidate.tenant], snapshot.room
    if not can_hold(candidate.user, member.running, member.limits):
        message = f"{candidate.user} has {member.limits.per_user} attempts running, the most of one person"
        return HeldBack(reason=QueueReason.USER_LIMIT, message=message)
    held = candidate.entry.held
    if message := describe_shortage(tenant, held, member.usage, _replaced(member.limits, room.cap(tenant))):
        return HeldBack(reason=QueueReason.QUOTA_EXHAUSTED, message=message)
    if lacking := room.lacking(tenant, demand_of(held)):
        return HeldBack(reason=QueueReason.COHORT_EXHAUSTED, message=_cohort_is_short(candidate, snapshot, lacking[0]))
    return _of_the_ledger(snapshot)


def _of_a_stop(limits: Limits) -> HeldBack | None:
    if not limits.on_hold:
        return None
    if limits.unreadable:
        return HeldBack(reason=QueueReason.TENANT_STOPPED, message=limits.unreadable)
    policy = "HoldAndDrain" if limits.draining else "Hold"
    message = f"{limits.origin} says stopPolicy {policy}: nothing starts until it is None again"
    return HeldBack(reason=QueueReason.TENANT_STOPPED, message=message)


def _of_the_ledger(snapshot: Snapshot) -> HeldBack | None:
    if snapshot.count < snapshot.max_entries:
        return None
    message = f"{snapshot.count} attempts are live, the most that one ledger holds"
    return HeldBack(reason=QueueReason.COHORT_EXHAUSTED, message=message)


def _of_reservations(candidate: Candidate, snapshot: Snapshot, scene: Scene, position: int | None) -> HeldBack | None:
    tenant, room, demand = candidate.tenant, snapshot.room, demand_of(candidate.entry.held)
    member, holder, left = snapshot.members[tenant], scene.plan.holder, scene.plan.claimed
    claimed = any(claim.uid != candidate.entry.uid for claim in snapshot.claims)
    if claimed and left and not left.fits(tenant, demand):
        return HeldBack(reason=QueueReason.RESERVED, message=_CLAIMED)
    if holder is None or holder is candidate or not is_kept_from(tenant, demand, holder, room):
        holder = head_of(scene.queue, tenant, member.limits, room, member.running)
        if holder is None or holder is candidate or not has_waited(holder, scene.now):
            return None
        if room.within_cap(tenant, demand_of(holder.entry.held)) and not is_short_of_room(holder, room):
            return None
    size = holder.entry.size.display
    message = f"what becomes free is kept for {_name(holder, tenant)}, which has waited long and needs {size}"
    return HeldBack(reason=QueueReason.RESERVED, message=message)


def _name(holder: Candidate, tenant: str) -> str:
    """Return whom to name: a task of another tenant is not for this one to know."""
    return holder.key if holder.tenant == tenant else f"a task of tenant {holder.tenant}"


def _cohort_is_short(candidate: Candidate, snapshot: Snapshot, r: int) -> str:
    used, nominal = snapshot.room.totals()
    users = ", ".join(f"{tenant} {_amount(r, amount)}" for tenant, amount in snapshot.room.users_of(r)[:3])
    needed = "" if r == 0 else f"; this task needs {_amount(r, demand_of(candidate.entry.held)[r])}"
    what = ("concurrent tasks", "CPU", "memory")[r]
    return (
        f"cohort {snapshot.cohort} uses {_amount(r, used[r])} of {_amount(r, nominal[r])} {what} "
        f"({users or 'by nobody'}) and has none to lend to tenant {candidate.tenant}{needed}"
    )


def _amount(r: int, number: int) -> str:
    return (str, format_cpu, format_memory)[r](number)


def _replaced(limits: Limits, amounts: Vector) -> Limits:
    """Return *limits* with other amounts; what is not limited stays so."""
    concurrency, cpu, memory = (None if amount >= UNBOUNDED else amount for amount in amounts)
    return replace(limits, concurrency=concurrency, cpu=cpu, memory=memory)
