"""Why a task that stands in the queue waits: the first rule that holds, in the order of the closed list of reasons.

Changes nothing and may be asked at any time; what it says is what the last cycle would say again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from longtask_operator.api.quantity import describe_memory, format_cpu
from longtask_operator.api.reasons import QueueReason
from longtask_operator.core.admission import NO_PLAN, Plan
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.precedence import MAKING_ROOM, ROOM_IS_KEPT, HeldBack, in_order
from longtask_operator.core.queueing import Candidate, TenantQueue
from longtask_operator.core.quota import describe_shortage, exceeds_max_size
from longtask_operator.core.reservation import can_hold, has_waited, head_of, is_kept_from, is_short_of_room
from longtask_operator.core.room import Room, demand_of, growth_of, within
from longtask_operator.core.snapshot import Snapshot
from longtask_operator.core.terms import held_back_by, terms_of

_CLAIMED = "what becomes free is kept for a task to which others give way"


@dataclass(frozen=True, slots=True)
class Scene:
    """What is looked at: a ledger, the queue of one tenant, and what the last plan kept of what becomes free."""

    queue: TenantQueue
    snapshot: Snapshot
    now: datetime
    plan: Plan = NO_PLAN


def why_waiting(candidate: Candidate, scene: Scene, position: int | None = None) -> HeldBack:
    """Return why *candidate*, which the last cycle left in its queue, may not start."""
    snapshot, tenant = scene.snapshot, candidate.tenant
    terms = terms_of(tenant, snapshot.members[tenant].limits, snapshot.room)
    found = held_back_by(terms, candidate.entry, position, user=candidate.user) or _of_the_queue(candidate, scene)
    message = found.message + _room_being_made(candidate, snapshot)
    lasting = (found.message,) if found.lasting is None else found.lasting
    return replace(found, message=message, position=position, lasting=lasting)


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
    if member.limits.unreadable:
        return member.limits.unreadable
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
    if not claim.victims:
        return f"; {ROOM_IS_KEPT}"
    number = f"{len(claim.victims)} attempts give" if len(claim.victims) > 1 else "an attempt gives"
    return f"; {number} {MAKING_ROOM}"


def _of_the_queue(candidate: Candidate, scene: Scene) -> HeldBack:
    """Return the first of the rules that concern who stands in the queue alone."""
    for reason, rule in RULES:
        if candidate.entry.handed_over and reason is not QueueReason.COHORT_EXHAUSTED:
            continue
        if said := rule(candidate, scene):
            message, *lasting = said
            return HeldBack(reason=reason, message=message, lasting=tuple(lasting) or None)
    return HeldBack(reason=QueueReason.BEHIND_OTHERS, message="waits for its turn")


#: What a rule says if it holds: a sentence, then those parts of it that do not change with what others use: or all.
_Said = tuple[str, ...]


def _user_limit(candidate: Candidate, scene: Scene) -> _Said:
    user, member = candidate.user, scene.snapshot.members[candidate.tenant]
    if can_hold(user, member.running, member.limits):
        return ()
    has = member.running.get(user, 0)
    limit = f" and one person may have {member.limits.per_user} at once"
    return (f"{user} has {has} attempt{'s' if has != 1 else ''} running{limit}", limit)


def _quota(candidate: Candidate, scene: Scene) -> _Said:
    tenant, member, held = candidate.tenant, scene.snapshot.members[candidate.tenant], candidate.entry.held
    limits = within(member.limits, scene.snapshot.room.cap(tenant))
    message = describe_shortage(tenant, held, member.usage, limits)
    return (message, message[message.index(" of ") :]) if message else ()


def _cohort(candidate: Candidate, scene: Scene) -> _Said:
    snapshot, handed_over = scene.snapshot, candidate.entry.handed_over
    lacking = snapshot.room.lacking(candidate.tenant, demand_of(candidate.entry.held)) if not handed_over else []
    if lacking:
        return _cohort_is_short(candidate, snapshot, lacking[0])
    if snapshot.count < snapshot.max_entries:
        return ()
    most = " attempts are live, the most that one ledger holds"
    return (f"{snapshot.count}{most}", most)


def _reserved(candidate: Candidate, scene: Scene) -> _Said:
    tenant, snapshot, demand = candidate.tenant, scene.snapshot, demand_of(candidate.entry.held)
    room, member, holder, left = snapshot.room, snapshot.members[tenant], scene.plan.holder, scene.plan.claimed
    others = [claim for claim in snapshot.claims if claim.uid != candidate.entry.uid]
    if others and left and not left.fits(tenant, demand):
        return (_CLAIMED,)
    known, user = [scene.queue.get(claim.uid) for claim in others], candidate.user
    has = member.running.get(user, 0) + sum(one is not None and one.user == user for one in known)
    if not can_hold(user, {user: has}, member.limits):
        return (f"the next attempt of {user} is kept for a task to which others give way",)
    if holder is None or holder is candidate or not is_kept_from(tenant, demand, holder, room):
        holder = head_of(scene.queue, tenant, member.limits, room, member.running)
        if holder is None or holder is candidate or not has_waited(holder, scene.now):
            return ()
        if room.within_cap(tenant, demand_of(holder.entry.held)) and not is_short_of_room(holder, room):
            return ()
    size = holder.entry.size.display
    return (f"what becomes free is kept for {_name(holder, tenant)}, which has waited long and needs {size}",)


def _name(holder: Candidate, tenant: str) -> str:
    """Return whom to name: a task of another tenant is not for this one to know."""
    return holder.key if holder.tenant == tenant else f"a task of tenant {holder.tenant}"


def _cohort_is_short(candidate: Candidate, snapshot: Snapshot, r: int) -> _Said:
    used, nominal = snapshot.room.totals()
    users = ", ".join(f"{tenant} {_amount(r, amount)}" for tenant, amount in snapshot.room.users_of(r)[:3])
    what = ("concurrent tasks", "CPU", "memory")[r]
    needed = "" if r == 0 else f"; this task needs {_amount(r, demand_of(candidate.entry.held)[r])}"
    before = f"cohort {snapshot.cohort} uses {_amount(r, used[r])}"
    quota = f" of {_amount(r, nominal[r])} {what} ("
    after = f") and has none to lend to tenant {candidate.tenant}{needed}"
    if used[r] + demand_of(candidate.entry.held)[r] <= nominal[r]:  # else it looks as if there were room
        after += ": its members keep the rest for themselves by their lendingLimit"
    return (f"{before}{quota}{users or 'by nobody'}{after}", quota, after)


def _amount(r: int, number: int) -> str:
    return (str, format_cpu, describe_memory)[r](number)


_Rule = Callable[[Candidate, Scene], _Said]
RULES: tuple[tuple[QueueReason, _Rule], ...] = in_order(
    {
        QueueReason.USER_LIMIT: _user_limit,
        QueueReason.QUOTA_EXHAUSTED: _quota,
        QueueReason.COHORT_EXHAUSTED: _cohort,
        QueueReason.RESERVED: _reserved,
    }
)
