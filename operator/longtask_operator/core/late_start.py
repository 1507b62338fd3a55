"""Whether a task in the queue will start too late: so late that even a quick attempt would end after its deadline.

The deadline's clock runs while a task waits. What is said rests on the estimate that the status shows and on what
attempts of the tenant took, so it is a guess as they are; without an estimate nothing is said.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from longtask_operator.api.reasons import ConditionType, Reason
from longtask_operator.api.status import LongTaskStatus
from longtask_operator.api.times import format_time, parse_time
from longtask_operator.core.conditions import TRUE, Wanted
from longtask_operator.core.current import Observed


def earliest_start(seen: Observed, status: LongTaskStatus) -> datetime | None:
    """Return when the task may start at the earliest, as its status is to show, or None where that is not known."""
    shown = status.queue.estimated_start if status.queue else None
    return max(parse_time(shown.earliest), seen.now) if shown else None


def late_start(
    seen: Observed, status: LongTaskStatus, deadline: datetime, margin: timedelta, said: Wanted | None
) -> Wanted | None:
    """Return the warning that a quick attempt of the waiting task would end after *deadline*, None if it would not.

    What was *said* of this deadline stays, word for word, until that attempt would end *margin* before it.
    """
    start = earliest_start(seen, status)
    if start is None:
        return None
    if seen.pace is None:
        return said
    quick = timedelta(seconds=seen.pace.quick)
    if start + quick < (deadline - margin if said else deadline):
        return None
    message = (
        f"it may start at {format_time(start)} at the earliest, and quick attempts of this tenant take "
        f"{round(seen.pace.quick)} s: that is after the deadline {format_time(deadline)}"
    )
    return said or Wanted(type=ConditionType.DEADLINE_AT_RISK, status=TRUE, reason=Reason.TOO_LATE, message=message)


def last_start(seen: Observed, status: LongTaskStatus, deadline: datetime) -> datetime | None:
    """Return from when on a waiting task starts too late, wherever it stands in the queue, or None if nobody knows."""
    if seen.pace is None or earliest_start(seen, status) is None:
        return None
    return deadline - timedelta(seconds=seen.pace.quick)
