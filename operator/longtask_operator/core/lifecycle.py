"""The status of a LongTask in each situation: phase, reason and conditions, as one table.

A status is computed from facts alone. Phase and reason are for display; the conditions
are what programs wait for. kstatus reads Ready and Stalled, `kubectl wait` reads Finished.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from longtask_operator.api.phases import Phase
from longtask_operator.api.reasons import Cause, ConditionType, QueueReason, Reason
from longtask_operator.api.status import LongTaskStatus, Queue, StartEstimate
from longtask_operator.api.times import format_time
from longtask_operator.core.conditions import FALSE, TRUE, UNKNOWN, Wanted, find_condition, with_conditions
from longtask_operator.core.precedence import INADMISSIBLE

T = ConditionType


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Where a task stands, in the words of the status."""

    phase: Phase
    reason: str
    conditions: tuple[Wanted, ...]
    queue: Queue | None = None  #: of a task that waits for admission


def waiting(
    reason: QueueReason,
    message: str,
    *,
    position: int | None = None,
    estimate: StartEstimate | None = None,
) -> Situation:
    """Return the situation of a task that waits for admission."""
    tail: tuple[Wanted, ...] = (_ready(),)
    if reason in INADMISSIBLE:
        succeeded = Wanted(type=T.SUCCEEDED, status=UNKNOWN, reason=Reason.INADMISSIBLE, message=message)
        tail = (
            Wanted(type=T.READY, status=FALSE, reason=reason, message=message),
            Wanted(type=T.STALLED, status=TRUE, reason=reason, message=message),
        )
    else:
        succeeded = Wanted(type=T.SUCCEEDED, status=UNKNOWN, reason=_waiting_word(reason), message=message)
    admitted = Wanted(type=T.ADMITTED, status=FALSE, reason=reason, message=message)
    return Situation(
        phase=_waiting_phase(reason),
        reason=reason,
        conditions=(admitted, succeeded, _unfinished(), *tail),
        queue=Queue(reason=reason, message=message[:1024], position=position, estimated_start=estimate),
    )


def begun() -> Situation:
    """Return the situation of a new run of which is not known yet whether it has to wait, nor for what."""
    message = "a new run begins"
    admitted = Wanted(type=T.ADMITTED, status=FALSE, reason=Reason.QUEUED, message=message)
    succeeded = Wanted(type=T.SUCCEEDED, status=UNKNOWN, reason=Reason.QUEUED, message=message)
    conditions = (admitted, succeeded, _unfinished(), _ready())
    return Situation(phase=Phase.QUEUED, reason=Reason.QUEUED, conditions=conditions)


def active(phase: Phase, reason: str, message: str) -> Situation:
    """Return the situation of a task whose attempt starts, runs or is being stopped."""
    admitted = Wanted(type=T.ADMITTED, status=TRUE, reason=Reason.ADMITTED, message="a place in the quota is reserved")
    succeeded = Wanted(type=T.SUCCEEDED, status=UNKNOWN, reason=reason, message=message)
    return Situation(phase=phase, reason=reason, conditions=(admitted, succeeded, _unfinished(), _ready()))


def succeeded(message: str) -> Situation:
    """Return the situation of a completed task."""
    return Situation(
        phase=Phase.SUCCEEDED,
        reason=Cause.COMPLETED,
        conditions=(
            _was_admitted(),
            Wanted(type=T.SUCCEEDED, status=TRUE, reason=Cause.COMPLETED, message=message),
            Wanted(type=T.FINISHED, status=TRUE, reason=Cause.COMPLETED, message=message),
            Wanted(type=T.READY, status=TRUE, reason=Reason.FINISHED, message=message),
        ),
    )


def failed(
    cause: Cause, message: str, *, waited: LongTaskStatus | None = None, dead_lettered: bool = False
) -> Situation:
    """Return the situation of a task that failed by *cause*: by its last attempt, or while it *waited*.

    It is *dead_lettered* if a budget ran out.
    """
    letter = (Wanted(type=T.DEAD_LETTERED, status=TRUE, reason=cause, message=message),) if dead_lettered else ()
    return Situation(
        phase=Phase.FAILED,
        reason=cause,
        conditions=(
            _as_it_was(waited) if waited else _was_admitted(),
            Wanted(type=T.SUCCEEDED, status=FALSE, reason=cause, message=message),
            Wanted(type=T.FINISHED, status=TRUE, reason=cause, message=message),
            Wanted(type=T.READY, status=FALSE, reason=cause, message=message),
            Wanted(type=T.STALLED, status=TRUE, reason=cause, message=message),
            *letter,
        ),
    )


def cancelled(before: LongTaskStatus) -> Situation:
    """Return the situation of a cancelled task, which is a regular end and therefore Ready."""
    message = "cancelled by spec.cancel"
    return Situation(
        phase=Phase.CANCELLED,
        reason=Cause.CANCELLED,
        conditions=(
            _as_it_was(before),
            Wanted(type=T.SUCCEEDED, status=FALSE, reason=Cause.CANCELLED, message=message),
            Wanted(type=T.FINISHED, status=TRUE, reason=Cause.CANCELLED, message=message),
            Wanted(type=T.READY, status=TRUE, reason=Reason.FINISHED, message=message),
        ),
    )


def with_situation(status: LongTaskStatus, situation: Situation, *, generation: int, now: datetime) -> LongTaskStatus:
    """Return *status* with the phase, reason, conditions and queue of *situation*."""
    since = (status.queue and status.queue.since) or format_time(now)
    conditions = with_conditions(status.conditions or (), situation.conditions, generation=generation, now=now)
    return status.model_copy(
        update={
            "observed_generation": generation,
            "phase": str(situation.phase),
            "reason": str(situation.reason),
            "conditions": conditions,
            "queue": situation.queue and situation.queue.model_copy(update={"since": since}),
        }
    )


def _ready() -> Wanted:
    return Wanted(type=T.READY, status=TRUE, reason=Reason.ACCEPTED, message="the task is accepted and looked after")


def _unfinished() -> Wanted:
    return Wanted(type=T.FINISHED, status=FALSE, reason=Reason.UNFINISHED, message="the run has not ended")


def _was_admitted() -> Wanted:
    return Wanted(type=T.ADMITTED, status=TRUE, reason=Reason.ADMITTED, message="a place in the quota was reserved")


def _as_it_was(before: LongTaskStatus) -> Wanted:
    condition = find_condition(before, T.ADMITTED)
    if condition is None:
        return Wanted(type=T.ADMITTED, status=FALSE, reason=Reason.QUEUED, message="ended before it was admitted")
    return Wanted(type=T.ADMITTED, status=condition.status, reason=condition.reason, message=condition.message)


def _waiting_word(reason: QueueReason) -> str:
    """Return the reason of Succeeded=Unknown for a waiting task."""
    return reason if reason in (QueueReason.BACKOFF, QueueReason.SUSPENDED) else Reason.QUEUED


def _waiting_phase(reason: QueueReason) -> Phase:
    return {QueueReason.BACKOFF: Phase.BACKOFF, QueueReason.SUSPENDED: Phase.SUSPENDED}.get(reason, Phase.QUEUED)
