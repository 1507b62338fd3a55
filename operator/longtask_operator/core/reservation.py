"""Who of those that wait could start at all, and for whom what becomes free is kept: a head that has waited long.

That counts from the beginning of its run, as its place does, whatever ran meanwhile: returns to the queue would
begin anew each time, and one that has many could be passed for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from longtask_operator.core.queueing import Candidate, Line, TenantQueue
from longtask_operator.core.quota import Limits, exceeds_max_size
from longtask_operator.core.room import Room, Vector, demand_of

#: A head of the queue that does not fit gets what becomes free once its run is so old.
RESERVE_AFTER = timedelta(minutes=10)


def can_hold(user: str, running: Mapping[str, int], limits: Limits) -> bool:
    """Whether one more attempt of *user* may run; tasks of no person always may."""
    return not user or limits.per_user is None or running.get(user, 0) < limits.per_user


def head_of(queue: TenantQueue, tenant: str, limits: Limits, room: Room, users: Mapping[str, int]) -> Candidate | None:
    """Return the first in order that could start and that giving back would help, or None.

    Whom it would not help waits for what is others' own: it must not stand before those whom it would.
    """

    def helps(line: Line) -> bool:
        return could_start(line, tenant, limits, room, users) and room.fits_after_returns(tenant, demand_of(line.held))

    return queue.first(helps)


def could_start(line: Line, tenant: str, limits: Limits, room: Room, users: Mapping[str, int]) -> bool:
    """Whether one of *line* could ever start, and no limit of its person holds it back."""
    return (
        not line.handed_over
        and room.could_fit(tenant, demand_of(line.held))
        and not exceeds_max_size(line.size, limits)
        and can_hold(line.user, users, limits)
    )


def has_waited(candidate: Candidate, now: datetime) -> bool:
    """Whether the run of *candidate* is so old that smaller ones may no longer pass it."""
    return now - candidate.queued_at >= RESERVE_AFTER


def is_short_of_room(candidate: Candidate, room: Room) -> bool:
    """Whether the cohort, not its own tenant, is what *candidate* waits for, and giving back would help."""
    demand = demand_of(candidate.entry.held)
    return (
        not room.fits(candidate.tenant, demand)
        and room.within_cap(candidate.tenant, demand)
        and room.fits_after_returns(candidate.tenant, demand)
    )


def is_kept_from(tenant: str, demand: Vector, holder: Candidate, room: Room) -> bool:
    """Whether what that takes is kept for *holder*: by others what they would borrow, by its own tenant all."""
    if tenant == holder.tenant:
        return demand_of(holder.entry.held) != demand
    return room.borrows(tenant, demand)
