"""Which waiting attempts may start now, and why the others may not.

`plan_admissions` is one cycle of one tenant: it takes from the queue whoever fits, first in order
first, and charges each to a copy of the usage. A task at the head that does not fit lets smaller ones
pass, but only for RESERVE_AFTER: then the room that becomes free is kept for it. `why_waiting` answers for one
task at any time and changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from longtask_operator.api.reasons import QueueReason
from longtask_operator.core.ledger import MAX_ENTRIES, Entries
from longtask_operator.core.queueing import Candidate, Line, TenantQueue
from longtask_operator.core.quota import (
    Amounts,
    Limits,
    describe_shortage,
    exceeds_max_size,
    fits,
    never_fits,
    usage_of,
)
from longtask_operator.core.sizing import Size

#: A head of the queue that has not fitted for so long gets what becomes free.
RESERVE_AFTER = timedelta(minutes=10)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What one tenant's decisions rest on; made by `snapshot_of`."""

    limits: Limits
    entries: Entries
    usage: Amounts  #: of the entries
    running: Mapping[str, int]  #: attempts by person
    max_entries: int = MAX_ENTRIES


def snapshot_of(
    limits: Limits, entries: Entries, user_of: Callable[[str], str] = lambda uid: "", *, max_entries: int = MAX_ENTRIES
) -> Snapshot:
    """Return the snapshot of a tenant; *user_of* names the person behind a task's uid, or says an empty string."""
    running = Counter(user_of(uid) for uid in entries) if limits.per_user is not None else Counter[str]()
    return Snapshot(
        limits=limits, entries=entries, usage=usage_of(entries.values()), running=running, max_entries=max_entries
    )


def plan_admissions(queue: TenantQueue, snapshot: Snapshot, *, now: datetime) -> list[Candidate]:
    """Take everyone out of *queue* who may start now and return them in order of admission.

    A task that holds an entry already is admitted anew: it takes no more than it has.
    """
    admitted = [candidate for uid in snapshot.entries if (candidate := queue.get(uid))]
    for candidate in admitted:
        queue.remove(candidate.entry.uid)
    if snapshot.limits.on_hold or snapshot.limits.spent:
        return admitted
    room = _Room(snapshot)
    while (chosen := _next(queue, room, now)) is not None:
        queue.remove(chosen.entry.uid)
        room.charge(chosen)
        admitted.append(chosen)
    return admitted


def why_waiting(
    candidate: Candidate, queue: TenantQueue, snapshot: Snapshot, *, now: datetime, position: int | None = None
) -> HeldBack:
    """Return why *candidate*, which the last cycle left in *queue*, may not start."""
    for rule in (_of_its_size, _of_its_tenant, _of_what_is_used):
        if found := rule(candidate, snapshot, position):
            return replace(found, position=position)
    head = queue.first()
    if head and head is not candidate and _has_reservation(head, candidate.entry.held, snapshot, now):
        message = f"what becomes free is kept for {head.key}, which has waited long and needs {head.entry.size.display}"
        return HeldBack(reason=QueueReason.RESERVED, message=message, position=position)
    return HeldBack(reason=QueueReason.BEHIND_OTHERS, message="waits for its turn", position=position)


def _of_its_size(candidate: Candidate, snapshot: Snapshot, position: int | None) -> HeldBack | None:
    entry, limits = candidate.entry, snapshot.limits
    if message := exceeds_max_size(entry.size, limits):
        return HeldBack(reason=QueueReason.EXCEEDS_MAX_SIZE, message=message)
    if message := never_fits(entry.held, limits):
        return HeldBack(reason=QueueReason.NEVER_FITS, message=message)
    return None


def _of_its_tenant(candidate: Candidate, snapshot: Snapshot, position: int | None) -> HeldBack | None:
    limits = snapshot.limits
    if limits.on_hold:
        message = f"{limits.origin} says stopPolicy Hold: nothing starts until it is None again"
        return HeldBack(reason=QueueReason.TENANT_STOPPED, message=message)
    if limits.max_queued is not None and position is not None and position > limits.max_queued:
        message = (
            f"{limits.max_queued} tasks of tenant {candidate.tenant} wait before this one, as many as its queue takes"
        )
        return HeldBack(reason=QueueReason.QUEUE_FULL, message=message)
    if limits.spent:
        return HeldBack(reason=QueueReason.BUDGET_EXHAUSTED, message=limits.spent)
    return None


def _of_what_is_used(candidate: Candidate, snapshot: Snapshot, position: int | None) -> HeldBack | None:
    held, limits = candidate.entry.held, snapshot.limits
    if _user_is_full(candidate.user, snapshot.running, limits):
        message = f"{candidate.user} has {limits.per_user} attempts running, the most of one person"
        return HeldBack(reason=QueueReason.USER_LIMIT, message=message)
    if message := describe_shortage(candidate.tenant, held, snapshot.usage, limits):
        return HeldBack(reason=QueueReason.QUOTA_EXHAUSTED, message=message)
    if len(snapshot.entries) >= snapshot.max_entries:
        message = f"{len(snapshot.entries)} attempts are live, the most that one ledger holds"
        return HeldBack(reason=QueueReason.COHORT_EXHAUSTED, message=message)
    return None


class _Room:
    """What is still free in one cycle."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.limits, self.usage = snapshot.limits, snapshot.usage
        self.slots = snapshot.max_entries - len(snapshot.entries)
        self.users = Counter(snapshot.running)

    def takes(self, line: Line) -> bool:
        """Whether one more of *line* may start."""
        return (
            self.slots > 0
            and fits(line.held, self.usage, self.limits)
            and not exceeds_max_size(line.size, self.limits)
            and not _user_is_full(line.user, self.users, self.limits)
        )

    def could_take(self, line: Line) -> bool:
        """Whether one of *line* could start in an empty tenant."""
        return fits(line.held, Amounts(), self.limits) and not exceeds_max_size(line.size, self.limits)

    def charge(self, candidate: Candidate) -> None:
        """Count *candidate* as admitted."""
        self.usage, self.slots = self.usage.plus(candidate.entry.held), self.slots - 1
        self.users[candidate.user] += 1


def _next(queue: TenantQueue, room: _Room, now: datetime) -> Candidate | None:
    chosen = queue.first(room.takes)
    if chosen is None:
        return None
    head = queue.first(lambda line: room.could_take(line) and not _user_is_full(line.user, room.users, room.limits))
    if head and head is not chosen and now - head.queued_at >= RESERVE_AFTER:
        return None
    return chosen


def _has_reservation(head: Candidate, held: Size, snapshot: Snapshot, now: datetime) -> bool:
    fits_alone = fits(head.entry.held, Amounts(), snapshot.limits)
    return fits_alone and now - head.queued_at >= RESERVE_AFTER and fits(held, snapshot.usage, snapshot.limits)


def _user_is_full(user: str, running: Mapping[str, int], limits: Limits) -> bool:
    return bool(user) and limits.per_user is not None and running.get(user, 0) >= limits.per_user
