"""What the decisions of one ledger rest on: all who share it, what they hold, and for whom room is being made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from longtask_operator.core.fair_share import NOTHING, Use
from longtask_operator.core.ledger import MAX_ENTRIES, Entries
from longtask_operator.core.preemption import Claim, Future, Runs
from longtask_operator.core.quota import NO_AMOUNTS, Amounts, Limits, usage_of
from longtask_operator.core.room import Room


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One tenant of a ledger; made by `member_of`."""

    limits: Limits
    entries: Entries = field(default_factory=dict)
    usage: Amounts  #: of the entries
    running: Mapping[str, int] = field(default_factory=dict)  #: attempts by person
    decayed: Use = NOTHING


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One ledger, and all who share it, whether something of them waits or not."""

    members: Mapping[str, Member]
    cohort: str = ""
    strays: Amounts = NO_AMOUNTS  #: what stands in the ledger and belongs to no member
    max_entries: int = MAX_ENTRIES
    claims: tuple[Claim, ...] = ()  #: as the last plan left them
    runs: Runs = lambda entry: None
    is_known: Callable[[str], bool] = lambda uid: False  #: whether a task that is in no queue may still come to one

    @cached_property
    def room(self) -> Room:
        """What is taken and what is free; copy it before changing it."""
        return Room({tenant: (member.limits, member.usage) for tenant, member in self.members.items()}, self.strays)

    @property
    def count(self) -> int:
        """How many attempts are live."""
        return self.strays.concurrency + sum(len(member.entries) for member in self.members.values())


def member_of(
    limits: Limits,
    entries: Entries,
    user_of: Callable[[str], str] = lambda uid: "",
    *,
    usage: Amounts | None = None,
    decayed: Use = NOTHING,
) -> Member:
    """Return a member; *user_of* names the person behind a task's uid, or says an empty string."""
    counted = [uid for uid, entry in entries.items() if not entry.handed_over] if limits.per_user is not None else []
    running = Counter(user_of(uid) for uid in counted)
    usage = usage or usage_of(entries.values())
    return Member(limits=limits, entries=entries, usage=usage, running=running, decayed=decayed)


def future_of(snapshot: Snapshot, room: Room, now: datetime) -> Future:
    """Return what is free once all that leaves has left, before anybody's claim."""
    return Future(room, {tenant: member.entries for tenant, member in snapshot.members.items()}, snapshot.runs, now)


def claimed_room(snapshot: Snapshot, now: datetime) -> Room:
    """Return what is free once all that leaves has left and all those have started for whom room is made."""
    future = future_of(snapshot, snapshot.room, now)
    for claim in snapshot.claims:
        if claim.tenant in snapshot.members:
            future.keep(claim)
    return future.room
