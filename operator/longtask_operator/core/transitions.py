"""What changed between two statuses, as facts for Events, logs and metrics.

All three are derived from the same list, after the status was written: whoever counts
never counts a change that did not land.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from longtask_operator.api.phases import TERMINAL, Phase
from longtask_operator.api.reasons import ConditionType, EventReason, QueueReason
from longtask_operator.api.status import Attempt, LongTaskStatus
from longtask_operator.core.conditions import find_condition
from longtask_operator.core.current import find_attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstSeen:
    """The task has its first status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted:
    """The task container of an attempt runs."""

    attempt: Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded:
    """An attempt ended; *retried* if another may follow."""

    attempt: Attempt
    retried: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptResized:
    """A running attempt has another size than *before*."""

    attempt: Attempt
    before: Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeRefused:
    """A running attempt ran short of memory and was not resized: *message* begins with the outcome in a word."""

    attempt: Attempt
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished:
    """The run ended in a terminal phase."""

    phase: Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class WarningBegan:
    """A condition that only warns became True, or the node of the attempt does not answer any more."""

    reason: EventReason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseChanged:
    """The phase differs and is not terminal."""

    phase: Phase
    before: str


Transition = (
    FirstSeen
    | AttemptStarted
    | AttemptResized
    | ResizeRefused
    | AttemptEnded
    | RunFinished
    | WarningBegan
    | PhaseChanged
)

#: Conditions that only warn, with their Events.
_WARNINGS = {
    ConditionType.STUCK: EventReason.STUCK,
    ConditionType.DEADLINE_AT_RISK: EventReason.DEADLINE_AT_RISK,
}


def transitions(before: LongTaskStatus, after: LongTaskStatus) -> list[Transition]:
    """Return what changed from *before* to *after*, in the order in which it happened."""
    found: list[Transition] = [] if before.run is not None else [FirstSeen()]
    finished = after.phase in TERMINAL
    for attempt in after.attempts or ():
        known = find_attempt(before, attempt.number)
        if attempt.start_time and not (known and known.start_time):
            found.append(AttemptStarted(attempt=attempt))
        if known and attempt.resize_time != known.resize_time:
            found.append(AttemptResized(attempt=attempt, before=known))
        if attempt.resize_refused and not (known and known.resize_refused):
            found.append(ResizeRefused(attempt=attempt, message=attempt.resize_refused))
        if attempt.completion_time and not (known and known.completion_time):
            found.append(AttemptEnded(attempt=attempt, retried=not finished))
    if after.phase and after.phase != before.phase:
        phase = Phase(after.phase)
        found.append(RunFinished(phase=phase) if finished else PhaseChanged(phase=phase, before=before.phase or ""))
    return found + list(_warnings(before, after))


def _warnings(before: LongTaskStatus, after: LongTaskStatus) -> Iterator[WarningBegan]:
    for kind, reason in _WARNINGS.items():
        said, condition = find_condition(before, kind), find_condition(after, kind)
        if condition and (said is None or said.reason != condition.reason):
            yield WarningBegan(reason=reason, message=condition.message)
    if after.reason == QueueReason.NODE_UNREACHABLE != before.reason:
        succeeded = find_condition(after, ConditionType.SUCCEEDED)
        yield WarningBegan(reason=EventReason.NODE_UNREACHABLE, message=succeeded.message if succeeded else "")
