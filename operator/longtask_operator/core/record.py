"""Writing attempts and ends into the status: history bounded, counts exact."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from longtask_operator.api.longtask import LongTaskSpec
from longtask_operator.api.reasons import Cause
from longtask_operator.api.status import Attempt, LongTaskStatus
from longtask_operator.api.times import format_time, parse_time
from longtask_operator.core.causes import AttemptEnd
from longtask_operator.core.lifecycle import Situation, with_situation

MAX_ATTEMPTS_KEPT = 10
LOG_TAILS_KEPT = 2
#: Key of `attemptCounts` for attempts that a rule leaves uncounted.
IGNORED = "ignored"


def with_attempt(status: LongTaskStatus, attempt: Attempt) -> LongTaskStatus:
    """Return *status* with *attempt* put in or replaced by number, and as the newest where it is."""
    others = [known for known in status.attempts or () if known.number != attempt.number]
    kept = sorted([*others, attempt], key=lambda known: known.number)[-MAX_ATTEMPTS_KEPT:]
    trimmed = [
        known.model_copy(update={"log_tail": None}) if known.log_tail else known for known in kept[:-LOG_TAILS_KEPT]
    ]
    return status.model_copy(
        update={
            "attempts": [*trimmed, *kept[-LOG_TAILS_KEPT:]],
            "attempt": max(status.attempt or 0, attempt.number),
            "job_name": attempt.job_name,
        }
    )


def with_end(
    status: LongTaskStatus, attempt: Attempt, end: AttemptEnd, *, now: datetime, ignored: bool = False
) -> LongTaskStatus:
    """Return *status* with *attempt* ended by *end* and counted once; why it was stopped stays its message.

    An *ignored* one is counted as such in this run, and by its cause in all runs.
    """
    update: dict[str, Any] = {
        "cause": str(end.cause),
        "completion_time": format_time(end.finished or now),
        "exit_code": end.exit_code,
        "message": (attempt.message if attempt.cause == end.cause else None) or end.message[:1024] or None,
        "log_tail": end.log_tail,
    }
    if end.started and not attempt.start_time:
        update["start_time"] = format_time(end.started)
    ended = attempt.model_copy(update=update)
    status = with_attempt(status, ended)
    return status.model_copy(
        update={
            "attempt_counts": _counted(status.attempt_counts, IGNORED if ignored else _key(end.cause)),
            "attempt_totals": _counted(status.attempt_totals, _key(end.cause)),
            "start_time": status.start_time or ended.start_time,
        }
    )


def finish(status: LongTaskStatus, situation: Situation, *, generation: int, now: datetime) -> LongTaskStatus:
    """Return *status* of a run that ends now in *situation*."""
    status = with_situation(status, situation, generation=generation, now=now)
    return status.model_copy(update={"completion_time": format_time(now), "next_attempt_time": None})


def deadline_of(status: LongTaskStatus, spec: LongTaskSpec) -> datetime | None:
    """Return when this run must have ended, waits included, or None."""
    if spec.deadline_seconds is None or status.run_start_time is None:
        return None
    return parse_time(status.run_start_time) + timedelta(seconds=spec.deadline_seconds)


def describe_backoff(status: LongTaskStatus) -> str:
    """Return how the newest attempt ended and when the next one starts: the same words whenever it is asked."""
    following = f"the next attempt starts at {status.next_attempt_time}"
    newest = status.attempts[-1] if status.attempts else None
    return f"{describe_end(newest)}; {following}" if newest and newest.cause else following


def describe_end(attempt: Attempt) -> str:
    """Return how *attempt*, which has ended and is in the record, came to its end."""
    return f"attempt {attempt.number} ended by {attempt.cause}: {attempt.message or ''}".rstrip(": ")


def counts_by_cause(status: LongTaskStatus) -> dict[Cause, int]:
    """Return how many attempts of this run ended by each cause."""
    counts = status.attempt_counts or {}
    return {cause: counts[_key(cause)] for cause in Cause if _key(cause) in counts}


def ignored_of(status: LongTaskStatus) -> int:
    """Return how many attempts of this run a rule left uncounted."""
    return (status.attempt_counts or {}).get(IGNORED, 0)


def _counted(counts: Mapping[str, int] | None, key: str) -> dict[str, int]:
    counts = counts or {}
    return {**counts, key: counts.get(key, 0) + 1}


def _key(cause: Cause) -> str:
    """Return *cause* as a key of `attemptCounts`: in camelCase."""
    return cause[0].lower() + cause[1:]
