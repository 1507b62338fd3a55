"""What follows an attempt that did not complete.

Each cause has its own budget, so that a flaky node never uses up the retries meant
for the program. A budget of n means: the attempt number n+1 that ends by that cause
fails the task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from longtask_operator.api.longtask import Backoff, Retry, RetryLimits
from longtask_operator.api.reasons import Cause

#: Attempts that may end by a cause and still be followed by another; a cause not listed is never retried.
DEFAULT_LIMITS: Mapping[Cause, int] = {
    Cause.APPLICATION: 3,
    Cause.ATTEMPT_TIMEOUT: 3,
    Cause.OUT_OF_MEMORY: 5,
    Cause.HEARTBEAT_LOST: 3,
    Cause.NO_PROGRESS: 3,
    Cause.NEVER_STARTED: 3,
    Cause.LOST: 5,
    Cause.DISRUPTION: 20,
    Cause.PREEMPTED: 20,
}

#: Ended on request: no failure, no backoff, no budget.
REQUESTED_STOPS = frozenset({Cause.CANCELLED, Cause.SUSPENDED})

INITIAL_SECONDS, FACTOR, MAX_SECONDS, JITTER_PERCENT = 10, 2, 600, 20
_MAX_DOUBLINGS = 40  #: beyond this any wait is over every cap


#: Attempts of a run that a rule may leave uncounted.
MAX_IGNORED = 100

Action = Literal["Retry", "Fail", "Ignore"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryAt:
    """Another attempt follows, not before *not_before*."""

    not_before: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """No attempt follows; *message* says why."""

    message: str
    out_of_budget: bool  #: there was a budget and it is used up


def limit_of(cause: Cause, retry: Retry | None) -> int:
    """Return the budget of *cause*: from the spec, else the default; 0 for causes that are never retried."""
    limits = (retry and retry.limits) or RetryLimits()
    asked = {
        Cause.APPLICATION: limits.application,
        Cause.ATTEMPT_TIMEOUT: limits.attempt_timeout,
        Cause.OUT_OF_MEMORY: limits.out_of_memory,
        Cause.HEARTBEAT_LOST: limits.heartbeat_lost,
        Cause.NO_PROGRESS: limits.no_progress,
        Cause.NEVER_STARTED: limits.never_started,
        Cause.LOST: limits.lost,
        Cause.DISRUPTION: limits.disruption,
        Cause.PREEMPTED: limits.preempted,
    }.get(cause)
    return DEFAULT_LIMITS.get(cause, 0) if asked is None else asked


def action_of(cause: Cause, exit_code: int | None, retry: Retry | None) -> Action:
    """Return what the rules say of an attempt that ended by *cause*; without a rule for it, Retry.

    Rules speak of the program's own end. What the cluster did to it has its cause and its budget,
    whatever exit code came of it.
    """
    if cause is not Cause.APPLICATION or exit_code is None:
        return "Retry"
    rules = (retry and retry.rules) or ()
    return next((rule.action for rule in rules if exit_code in rule.exit_codes), "Retry")


def decide_ignored(
    ignored: int, counts: Mapping[Cause, int], retry: Retry | None, *, now: datetime, jitter: float
) -> RetryAt | GiveUp:
    """Decide what follows an attempt that a rule leaves uncounted, the *ignored*-th of its run."""
    if ignored > MAX_IGNORED:
        message = f"{ignored} attempts were ignored by spec.retry.rules; {MAX_IGNORED} may be"
        return GiveUp(message=message, out_of_budget=True)
    wait = backoff_after(_failures(counts, ignored), retry.backoff if retry else None, jitter)
    return RetryAt(not_before=now + wait)


def backoff_after(failures: int, backoff: Backoff | None, jitter: float) -> timedelta:
    """Return the wait after the *failures*-th failed attempt of a run, counted from 1.

    *jitter* is a number in [0, 1) drawn by the caller; 0.5 gives the wait without jitter,
    `initialSeconds * factor^(failures - 1)`, capped at `maxSeconds` before the jitter.
    """
    backoff = backoff or Backoff()
    initial = _or_default(backoff.initial_seconds, INITIAL_SECONDS)
    factor = _or_default(backoff.factor, FACTOR)
    cap = _or_default(backoff.max_seconds, MAX_SECONDS)
    percent = _or_default(backoff.jitter_percent, JITTER_PERCENT)
    wait = min(float(cap), initial * float(factor) ** min(failures - 1, _MAX_DOUBLINGS))
    return timedelta(seconds=wait * (1 + (2 * jitter - 1) * percent / 100))


def decide_retry(
    cause: Cause, counts: Mapping[Cause, int], retry: Retry | None, *, now: datetime, jitter: float, ignored: int = 0
) -> RetryAt | GiveUp:
    """Decide what follows an attempt that ended by *cause* at *now*.

    *counts* are the ended attempts of this run by cause, the one just ended included; those that rules
    *ignored* count for the backoff alone.
    """
    limit, used = limit_of(cause, retry), counts.get(cause, 0)
    if limit == 0:
        # A budget of 0 runs out at the first failure, so that 0 and 1 differ in the number alone.
        return GiveUp(message=_no_budget(cause), out_of_budget=cause in DEFAULT_LIMITS)
    if used > limit:
        message = f"{used} attempts ended by {cause}; {limit} retries were allowed"
        return GiveUp(message=message, out_of_budget=True)
    failures = max(1, _failures(counts, ignored))
    return RetryAt(not_before=now + backoff_after(failures, retry.backoff if retry else None, jitter))


def _no_budget(cause: Cause) -> str:
    return f"no retries were allowed for {cause}" if cause in DEFAULT_LIMITS else f"{cause} is not retried"


def _failures(counts: Mapping[Cause, int], ignored: int) -> int:
    return ignored + sum(count for name, count in counts.items() if name not in REQUESTED_STOPS)


def _or_default(value: int | None, default: int) -> int:
    return default if value is None else value
