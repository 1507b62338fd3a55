"""Conditions that only warn: `Stuck` and `DeadlineAtRisk`, present while True, written when they begin and end.

Stuck is measured against the task itself: silent for ten of its own intervals, five minutes at least; no progress
for ten of its longest steps, ten minutes at least. One without a step yet is measured against the time that it
may take: half its attempt's time-out, an hour at most, ten minutes at least. A program that never reported, or
never named a count, is not stuck: nothing is known of it. What was said once stays until a report, or progress,
says otherwise, so that a restart of the operator does not say it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from longtask_operator.api.reasons import ConditionType, Reason
from longtask_operator.api.status import Condition, LongTaskStatus
from longtask_operator.api.times import format_time, parse_optional_time, parse_time
from longtask_operator.core import record
from longtask_operator.core.conditions import TRUE, Wanted, find_condition, with_conditions
from longtask_operator.core.current import CurrentAttempt, Observed, find_attempt
from longtask_operator.core.late_start import last_start, late_start
from longtask_operator.core.liveness import Watched, stands_still, watch
from longtask_operator.core.signs import Signs

SILENT_AT_LEAST, STILL_AT_LEAST = timedelta(minutes=5), timedelta(minutes=10)
OWN_MULTIPLE = 10
#: A count that was named rises for the first time within this, or half of what the attempt may take.
FIRST_STEP = timedelta(hours=1)
#: An estimate is believed once the attempt ran so long.
EVIDENCE = timedelta(seconds=30)
#: The projected end must be so far beyond the deadline, or before it again, of the time that is left.
MARGIN, LEAST_MARGIN = 0.05, timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Warnings:
    """The conditions that warn now, and when to look again."""

    conditions: tuple[Wanted, ...]
    again_at: datetime | None


def warnings_of(seen: Observed, attempt: CurrentAttempt, status: LongTaskStatus) -> Warnings:
    """Return what there is to warn of in an unfinished task whose status is to be *status*."""
    recorded = find_attempt(status, attempt.number)
    lives = attempt.is_open and not (recorded and recorded.completion_time)
    watched = watch(seen, attempt) if lives else None
    stuck = _stuck(seen, attempt, watched) if lives else None
    risk = _deadline_at_risk(seen, attempt, status) if lives else _too_late(seen, status)
    look_at = _silent_at(watched, seen.report_interval) if lives else _last_start(seen, status)
    again_at = look_at if look_at and look_at > seen.now and not stuck else None
    return Warnings(conditions=tuple(wanted for wanted in (risk, stuck) if wanted), again_at=again_at)


def with_warnings(seen: Observed, status: LongTaskStatus, warnings: Warnings) -> LongTaskStatus:
    """Return *status* with the conditions of *warnings* added; they keep the time at which they began."""
    added = with_conditions(
        seen.task.status.conditions or (), warnings.conditions, generation=seen.task.metadata.generation, now=seen.now
    )
    return status.model_copy(update={"conditions": [*(status.conditions or ()), *added]})


def _stuck(seen: Observed, attempt: CurrentAttempt, watched: Watched | None) -> Wanted | None:
    said = _said(seen.task.status, ConditionType.STUCK)
    if watched is None:  # what was said of a running attempt stays while nothing can be heard
        kept = said and seen.hearing_since is None and _is_about(said, attempt)
        return _again(said) if said and kept else None
    if said and _is_about(said, attempt) and not _is_over(said, watched.signs):
        return _again(said)
    silent_at = _silent_at(watched, seen.report_interval)
    if silent_at and seen.now >= silent_at:
        message = f"attempt {attempt.number} has not reported since {format_time(watched.silent_since)}"
        return Wanted(type=ConditionType.STUCK, status=TRUE, reason=Reason.SILENT, message=message)
    if watched.signs and stands_still(watched, _still_limit(seen, watched.signs)):
        message = f"attempt {attempt.number} reports and has made no progress since {format_time(watched.still_since)}"
        return Wanted(type=ConditionType.STUCK, status=TRUE, reason=Reason.NO_PROGRESS, message=message)
    return None


def _is_about(said: Condition, attempt: CurrentAttempt) -> bool:
    """Whether the condition speaks of this attempt: it began after the container did."""
    started = parse_optional_time(attempt.recorded.start_time) if attempt.recorded else None
    return started is not None and started <= parse_time(said.last_transition_time)


def _is_over(said: Condition, signs: Signs | None) -> bool:
    began = parse_time(said.last_transition_time)
    if signs is None:
        return False
    if said.reason == Reason.SILENT:
        return signs.last_report > began
    return signs.last_progress is not None and signs.last_progress > began


def _silent_at(watched: Watched | None, interval: float) -> datetime | None:
    """Return when a silent attempt counts as stuck; None for one that never reported."""
    if watched is None or watched.signs is None:
        return None
    own = max(watched.signs.interval, timedelta(seconds=interval))
    return watched.silent_since + max(SILENT_AT_LEAST, OWN_MULTIPLE * own)


def _still_limit(seen: Observed, signs: Signs) -> timedelta | None:
    """Return how long reports without progress are normal; None where nothing says what progress would be."""
    if signs.longest_step:
        return max(STILL_AT_LEAST, OWN_MULTIPLE * signs.longest_step)
    if seen.progress is None or seen.progress.done is None:
        return None
    allowed = seen.task.spec.attempt_timeout_seconds
    return max(STILL_AT_LEAST, min(FIRST_STEP, timedelta(seconds=allowed) / 2)) if allowed else FIRST_STEP


def _deadline_at_risk(seen: Observed, attempt: CurrentAttempt, status: LongTaskStatus) -> Wanted | None:
    deadline = record.deadline_of(status, seen.task.spec)
    if deadline is None or seen.now >= deadline:
        return None
    said = _said(seen.task.status, ConditionType.DEADLINE_AT_RISK)
    if said and format_time(deadline) not in said.message:
        said = None
    finish = _projected(seen, attempt, status)
    if finish is None:
        return _again(said) if said and not _is_done(seen, status) else None
    left = deadline - seen.now
    margin = max(LEAST_MARGIN, MARGIN * left)
    if finish - seen.now <= (left - margin if said else left + margin):
        return None
    message = (
        f"at its present rate the attempt ends at {format_time(finish)}, after the deadline {format_time(deadline)}"
    )
    fresh = Wanted(type=ConditionType.DEADLINE_AT_RISK, status=TRUE, reason=Reason.TOO_SLOW, message=message)
    return _again(said) if said and said.reason == Reason.TOO_SLOW else fresh


def _too_late(seen: Observed, status: LongTaskStatus) -> Wanted | None:
    """Return the warning for a task between attempts: of its backoff, which is certain, or of its place in line."""
    deadline = record.deadline_of(status, seen.task.spec)
    if deadline is None or seen.now >= deadline:
        return None
    following = parse_optional_time(status.next_attempt_time)
    if following is None or following < deadline:
        return _queued_too_long(seen, status, deadline)
    message = f"the next attempt starts at {format_time(following)}, not before the deadline {format_time(deadline)}"
    return Wanted(type=ConditionType.DEADLINE_AT_RISK, status=TRUE, reason=Reason.TOO_LATE, message=message)


def _queued_too_long(seen: Observed, status: LongTaskStatus, deadline: datetime) -> Wanted | None:
    said = _said(seen.task.status, ConditionType.DEADLINE_AT_RISK)
    if said and (said.reason != Reason.TOO_LATE or format_time(deadline) not in said.message):
        said = None
    margin = max(LEAST_MARGIN, MARGIN * (deadline - seen.now))
    return late_start(seen, status, deadline, margin, _again(said) if said else None)


def _last_start(seen: Observed, status: LongTaskStatus) -> datetime | None:
    deadline = record.deadline_of(status, seen.task.spec)
    return last_start(seen, status, deadline) if deadline else None


def _projected(seen: Observed, attempt: CurrentAttempt, status: LongTaskStatus) -> datetime | None:
    """Return when the attempt ends at its own rate, once there is evidence for it."""
    progress = seen.progress or status.progress
    started = attempt.pods[0].running_since if attempt.pods else None
    if progress is None or started is None or seen.now - started < EVIDENCE:
        return None
    return parse_optional_time(progress.estimated_finish)


def _is_done(seen: Observed, status: LongTaskStatus) -> bool:
    progress = seen.progress or status.progress
    return progress is None or (progress.total is not None and (progress.done or 0) >= progress.total)


def _said(status: LongTaskStatus, kind: ConditionType) -> Condition | None:
    found = find_condition(status, kind)
    return found if found and found.status == TRUE else None


def _again(said: Condition) -> Wanted:
    return Wanted(type=ConditionType(said.type), status=TRUE, reason=said.reason, message=said.message)
