"""What the status says of a task that is to run and holds no attempt: of all that keeps it waiting the first reason.

What it waits for itself (a backoff, another task with its key, the pod of its last attempt) and what the quota says
of it are judged apart; here they meet.
"""

from __future__ import annotations

from datetime import datetime

from longtask_operator.api.errors import SpecError
from longtask_operator.api.identity import person_of
from longtask_operator.api.reasons import ConditionType, QueueReason
from longtask_operator.api.status import LongTaskStatus, Queue, StartEstimate
from longtask_operator.core import lifecycle
from longtask_operator.core.attempt_size import choose_size
from longtask_operator.core.budgets import is_overdue
from longtask_operator.core.conditions import is_true
from longtask_operator.core.current import Observed
from longtask_operator.core.estimate import believed_until, estimate_start, prolonged
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.policy import Policy
from longtask_operator.core.precedence import HeldBack, first_of
from longtask_operator.core.queueing import moved_noticeably
from longtask_operator.core.sizing import Size
from longtask_operator.core.terms import RULES, held_back_by, may_precede

_OF_THE_QUOTA = frozenset(str(reason) for reason, _ in RULES)
#: What a status says of where a task stands; all else is a record.
_TELLING = ("observed_generation", "phase", "reason", "conditions", "queue")


def next_entry(seen: Observed, number: int, size: Size) -> LedgerEntry:
    """Return what the ledger will hold for attempt *number* of *size*."""
    meta, spec = seen.task.metadata, seen.task.spec
    return LedgerEntry(
        uid=meta.uid,
        attempt=number,
        generation=meta.generation,
        size=size,
        sidecar=bool(spec.progress_file),
        handed_over=bool(spec.queue_name),
    )


def why_shown(seen: Observed, status: LongTaskStatus, own: HeldBack, policy: Policy) -> HeldBack:
    """Return what is shown of a task that waits for *own*: that, or what its tenant's quota says, if that comes first.

    *status* is what the size of its next attempt rests on.
    """
    if seen.terms is None or not may_precede(own.reason):
        return own
    try:
        size = choose_size(seen.task.spec.resources, status, policy.ladder, seen.suggestion).size
    except SpecError:  # whoever looks at the task next says so
        return own
    entry, user = next_entry(seen, (status.attempt or 0) + 1, size), person_of(seen.task.metadata.annotations)
    return first_of(own, held_back_by(seen.terms, entry, user=user))


def with_wait(seen: Observed, status: LongTaskStatus, why: HeldBack) -> LongTaskStatus:
    """Return *status* of a task that waits for *why*; what was said stays while only its numbers differ a little."""
    said, message, position = status.queue, why.message, why.position
    estimate = estimate_start(why.reason, position, seen.pace, now=seen.now)
    if said and not _has_expired(said, seen.now):
        if stays_said(said, why):
            message, position, estimate = said.message, said.position, _estimate_beside(said, estimate, seen.now)
        elif position is None and why.was_said(said.reason, said.message):
            message = said.message
    situation = lifecycle.waiting(why.reason, message, position=position, estimate=estimate)
    return lifecycle.with_situation(status, situation, generation=seen.task.metadata.generation, now=seen.now)


def stays_said(said: Queue, why: HeldBack) -> bool:
    """Whether a task that waits for *why* still shows what was *said*: it differs in numbers, and those little."""
    if why.position is None or moved_noticeably(said.position, why.position):
        return False
    return why.was_said(said.reason, said.message)


def _estimate_beside(said: Queue, estimate: StartEstimate | None, now: datetime) -> StartEstimate | None:
    """Return what stands beside a place that stays: as it was said, until it is proved wrong."""
    shown = said.estimated_start
    if shown is None or estimate is None or now < believed_until(shown):
        return shown
    return prolonged(estimate, shown, now)


def _has_expired(said: Queue, now: datetime) -> bool:
    """Whether what was said names a moment for its end, and that has passed: what ran on has spent more."""
    return said.reason == QueueReason.BUDGET_EXHAUSTED and is_overdue(said.message, now)


def may_be_told_later(before: LongTaskStatus, after: LongTaskStatus) -> bool:
    """Whether *after* may be written in its turn: it says what a quota says, whose change may concern thousands.

    That a task can never fit is said at once.
    """
    reasons = {before.queue.reason if before.queue else "", after.queue.reason if after.queue else ""}
    if not reasons & _OF_THE_QUOTA or is_true(after, ConditionType.STALLED):
        return False
    return told_as(after, before) == before


def told_as(status: LongTaskStatus, other: LongTaskStatus) -> LongTaskStatus:
    """Return *status*, of which is said what *other* says of where a task stands."""
    return status.model_copy(update={name: getattr(other, name) for name in _TELLING})
