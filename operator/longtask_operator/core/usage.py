"""What a task has used so far: reserved amounts times time, over all its attempts and runs.

An attempt is charged in the write that records its end, for the time its task container ran; one that was resized
also in the write that records that, for the time until then. That is
what a bill would say; what a tenant's quota and budgets count is longer, from admission until no pod is left.
"""

from __future__ import annotations

import math
from datetime import datetime

from longtask_operator.api.quantity import GIBIBYTE, parse_cpu, parse_memory
from longtask_operator.api.status import Attempt, LongTaskStatus, TaskUsage
from longtask_operator.api.times import parse_time


def with_usage(status: LongTaskStatus, ended: Attempt, cpu_seconds_used: float | None) -> LongTaskStatus:
    """Return *status* with what the *ended* attempt used added to `usage`; one that never ran adds nothing.

    *cpu_seconds_used* is what its worker reported last, None if it did not. Each attempt counts in whole
    seconds, rounded up.
    """
    if not (ended.start_time and ended.completion_time and ended.cpu and ended.memory):
        return status
    status = with_reserved(status, ended, parse_time(ended.completion_time))
    before = status.usage or TaskUsage()
    usage = before.model_copy(update={"cpu_seconds_used": _sum(before.cpu_seconds_used, cpu_seconds_used)})
    return status.model_copy(update={"usage": usage})


def with_reserved(status: LongTaskStatus, attempt: Attempt, until: datetime) -> LongTaskStatus:
    """Return *status* with what *attempt* reserved at its size added, since it has that size and *until* then."""
    since = attempt.resize_time or attempt.start_time
    if not (since and attempt.cpu and attempt.memory):
        return status
    seconds = max(0.0, (until - parse_time(since)).total_seconds())
    before = status.usage or TaskUsage()
    update = {
        "cpu_seconds": (before.cpu_seconds or 0) + math.ceil(seconds * parse_cpu(attempt.cpu) / 1000),
        "memory_gib_seconds": (before.memory_gib_seconds or 0)
        + math.ceil(seconds * parse_memory(attempt.memory) / GIBIBYTE),
    }
    return status.model_copy(update={"usage": before.model_copy(update=update)})


def _sum(before: int | None, used: float | None) -> int | None:
    return before if used is None else (before or 0) + math.ceil(used)
