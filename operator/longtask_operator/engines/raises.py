"""Which live attempts that ask for more get it: those that fit, into what is free now and into what is claimed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.ledger_layout import Tenants
from longtask_operator.core.room import growth_of
from longtask_operator.core.snapshot import Snapshot, claimed_room
from longtask_operator.core.why_waiting import why_it_may_not_grow
from longtask_operator.engines.ledger_work import Raise


def granted(
    raises: Mapping[str, Raise],
    entries: Tenants,
    snapshot: Snapshot,
    now: datetime,
    tenant_of: Callable[[str], str | None],
) -> list[tuple[str, LedgerEntry]]:
    """Return those of *raises*, by uid, that fit, one after the other; the others are told why they do not."""
    found: list[tuple[str, LedgerEntry]] = []
    room, claimed = snapshot.room.copy(), claimed_room(snapshot, now)
    for uid, wanted in raises.items():
        tenant = tenant_of(uid) or ""
        current = entries.get(tenant, {}).get(uid)
        if current is None or current.attempt != wanted.entry.attempt or wanted.answer.done():
            continue
        wanted.why = why_it_may_not_grow(tenant, current, wanted.entry, snapshot, room, claimed)
        if not wanted.why:
            for one in (room, claimed):
                one.add(tenant, growth_of(current.held, wanted.entry.held))
            found.append((tenant, wanted.entry))
    return found
