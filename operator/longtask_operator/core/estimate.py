"""When a waiting task may start: a range, from how long the tenant's last attempts took and how many run at once.

With n attempts at once one of them ends every n-th part of an attempt's time, and each end lets one more start.
The early end of the range takes a quick attempt (lower quartile), the late end a slow one (ninth decile) and
nobody who is about to end. It is a guess from the past, so it names its basis; without enough of a past there is none.
A guess whose late end has passed is made anew, with a range twice as long: so that is seldom, however long it waits.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from longtask_operator.api.reasons import QueueReason
from longtask_operator.api.status import StartEstimate
from longtask_operator.api.times import format_time, parse_time

#: Attempts that an estimate looks back on, and how few are too few.
MOST_SAMPLES, LEAST_SAMPLES = 40, 5
#: Reasons that end by others' ends; the other waits end by a decision, or have a time of their own.
_ENDS_WITH_OTHERS = frozenset(
    {QueueReason.QUOTA_EXHAUSTED, QueueReason.COHORT_EXHAUSTED, QueueReason.RESERVED, QueueReason.BEHIND_OTHERS}
)
_LONGEST = timedelta(days=365)
#: What did not come true is said anew so long after its late end: nothing is written more often.
_COARSE = timedelta(seconds=60)
_LATE = "; an earlier estimate has passed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast a tenant's attempts come and go."""

    quick: float  #: seconds of an attempt, lower quartile
    slow: float  #: the same, ninth decile
    samples: int
    live: int  #: attempts at once now


def pace_of(seconds: Collection[float], live: int) -> Pace | None:
    """Return the pace of a tenant whose last attempts took *seconds*, or None if they are too few or nothing runs."""
    if len(seconds) < LEAST_SAMPLES or live < 1:
        return None
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return Pace(quick=ordered[last // 4], slow=ordered[math.ceil(last * 0.9)], samples=len(ordered), live=live)


def estimate_start(
    reason: QueueReason, position: int | None, pace: Pace | None, *, now: datetime
) -> StartEstimate | None:
    """Return when the task at *position* (from 1) may start, or None where nothing can be said."""
    if pace is None or position is None or reason not in _ENDS_WITH_OTHERS:
        return None
    earliest = max(0.0, (position / pace.live - 1) * pace.quick)
    latest = max(earliest, math.ceil(position / pace.live) * pace.slow)
    if latest > _LONGEST.total_seconds():
        return None
    return StartEstimate(
        earliest=format_time(now + timedelta(seconds=earliest)),
        latest=format_time(now + timedelta(seconds=latest)),
        basis=f"last {pace.samples} attempts of this tenant, {pace.live} at once",
    )


def believed_until(said: StartEstimate) -> datetime:
    """Return from when on something else is to be said than *said* to a task that waits on at its place."""
    return parse_time(said.latest) + _COARSE


def prolonged(estimate: StartEstimate, said: StartEstimate, now: datetime) -> StartEstimate:
    """Return *estimate* of a task that was to have started by now: its range is twice as long as what was *said*."""
    length = 2 * (parse_time(said.latest) - parse_time(said.earliest))
    latest = min(max(parse_time(estimate.latest), now + max(length, _COARSE)), now + _LONGEST)
    return estimate.model_copy(update={"latest": format_time(latest), "basis": f"{estimate.basis}{_LATE}"})
