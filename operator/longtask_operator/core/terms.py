"""What a tenant's quota says of a task whatever runs now: that it can never fit, or that nothing of the tenant starts.

It concerns every task that is to run, whether it stands in the queue or waits for something else first. Those whom
Kueue admits take part in stopPolicy and maxSize alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

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


class _Asked(NamedTuple):
    """Of what the rules are asked."""

    entry: LedgerEntry
    position: int | None
    user: str


def held_back_by(terms: Terms, entry: LedgerEntry, position: int | None = None, *, user: str = "") -> HeldBack | None:
    """Return the first of the rules that keeps the attempt in *entry* from starting, or None.

    *position* is its place in the queue, None for a task that does not stand in it. *user* is the person whom it
    counts for, if any.
    """
    asked = _Asked(entry, position, user)
    for reason, rule in RULES:
        if entry.handed_over and reason not in _OF_KUEUES:
            continue
        if message := rule(terms, asked):
            lasting = lasting_of(message) if reason is QueueReason.BUDGET_EXHAUSTED else None
            return HeldBack(reason=reason, message=message, position=position, lasting=lasting)
    return None


def may_precede(reason: QueueReason) -> bool:
    """Whether the quota can have something to say that is shown in place of *reason*."""
    return precedes(RULES[0][0], reason)


def _never_fits(terms: Terms, asked: _Asked) -> str:
    if message := never_fits(asked.entry.held, terms.most):
        return message
    if not asked.user or terms.limits.per_user != 0:
        return ""
    limits = f"{terms.limits.origin} allows no attempts of any person: perUser.maxConcurrency is 0"
    return f"the task counts for {asked.user} and {limits}"


def _stop(terms: Terms, asked: _Asked) -> str:
    limits = terms.limits
    if not limits.on_hold:
        return ""
    policy = "HoldAndDrain" if limits.draining else "Hold"
    return limits.unreadable or f"{limits.origin} says stopPolicy {policy}: nothing starts until it is None again"


def _full(terms: Terms, asked: _Asked) -> str:
    most = terms.limits.max_queued
    if most is None or asked.position is None or asked.position <= most:
        return ""
    limits = f"{terms.limits.origin} lets {most} task{'' if most == 1 else 's'} wait"
    return f"{limits}, and as many or more come before this one, which keeps its place"


_Rule = Callable[[Terms, _Asked], str]
RULES: tuple[tuple[QueueReason, _Rule], ...] = in_order(
    {
        QueueReason.EXCEEDS_MAX_SIZE: lambda terms, asked: exceeds_max_size(asked.entry.size, terms.limits),
        QueueReason.NEVER_FITS: _never_fits,
        QueueReason.TENANT_STOPPED: _stop,
        QueueReason.QUEUE_FULL: _full,
        QueueReason.BUDGET_EXHAUSTED: lambda terms, asked: terms.limits.spent,
    }
)
_OF_KUEUES = frozenset({QueueReason.EXCEEDS_MAX_SIZE, QueueReason.TENANT_STOPPED})
