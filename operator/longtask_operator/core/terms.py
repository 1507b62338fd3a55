"""What a tenant's quota says of a task whatever runs now: that it can never fit, or that nothing of the tenant starts.

It concerns every task that is to run, whether it stands in the queue or waits for something else first. Those whom
Kueue admits take part in stopPolicy and maxSize alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from longtask_operator.api.reasons import QueueReason
from longtask_operator.core.budgets import lasting_of
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.precedence import HeldBack, in_order, precedes
from longtask_operator.core.quota import Limits, exceeds_max_size, never_fits
from longtask_operator.core.room import Room, within


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a tenant may use, and *most* of it: with all that its cohort could lend it."""

    tenant: str
    limits: Limits
    most: Limits


def terms_of(tenant: str, limits: Limits, room: Room) -> Terms:
    """Return the terms of *tenant*; *room* has the accounts of all its cohort, whatever they use."""
    most = within(limits, room.most(tenant))
    if limits.cohort:
        most = replace(most, origin=f"{limits.origin}, with all that cohort {limits.cohort} could lend it,")
    return Terms(tenant=tenant, limits=limits, most=most)


def held_back_by(terms: Terms, entry: LedgerEntry, position: int | None = None) -> HeldBack | None:
    """Return the first of the rules that keeps the attempt in *entry* from starting, or None.

    *position* is its place in the queue, None for a task that does not stand in it.
    """
    for reason, rule in RULES:
        if entry.handed_over and reason not in _OF_KUEUES:
            continue
        if message := rule(terms, entry, position):
            lasting = lasting_of(message) if reason is QueueReason.BUDGET_EXHAUSTED else None
            return HeldBack(reason=reason, message=message, position=position, lasting=lasting)
    return None


def may_precede(reason: QueueReason) -> bool:
    """Whether the quota can have something to say that is shown in place of *reason*."""
    return precedes(RULES[0][0], reason)


def _stop(terms: Terms, entry: LedgerEntry, position: int | None) -> str:
    limits = terms.limits
    if not limits.on_hold:
        return ""
    policy = "HoldAndDrain" if limits.draining else "Hold"
    return limits.unreadable or f"{limits.origin} says stopPolicy {policy}: nothing starts until it is None again"


def _full(terms: Terms, entry: LedgerEntry, position: int | None) -> str:
    most = terms.limits.max_queued
    if most is None or position is None or position <= most:
        return ""
    return f"{most} tasks of tenant {terms.tenant} wait before this one, as many as its queue takes"


_Rule = Callable[[Terms, LedgerEntry, int | None], str]
RULES: tuple[tuple[QueueReason, _Rule], ...] = in_order(
    {
        QueueReason.EXCEEDS_MAX_SIZE: lambda terms, entry, position: exceeds_max_size(entry.size, terms.limits),
        QueueReason.NEVER_FITS: lambda terms, entry, position: never_fits(entry.held, terms.most),
        QueueReason.TENANT_STOPPED: _stop,
        QueueReason.QUEUE_FULL: _full,
        QueueReason.BUDGET_EXHAUSTED: lambda terms, entry, position: terms.limits.spent,
    }
)
_OF_KUEUES = frozenset({QueueReason.EXCEEDS_MAX_SIZE, QueueReason.TENANT_STOPPED})
