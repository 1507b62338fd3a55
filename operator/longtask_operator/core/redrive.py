"""Runs: the first begins with the LongTask, each further one with a redrive of a finished task.

The value of `spec.redrive` at first sight starts nothing. A change while the task is
unfinished is recorded and ignored. An empty value never counts, so that taking the field
out of a manifest and putting it back starts nothing.
"""

from __future__ import annotations

from longtask_operator.api.longtask import LongTask
from longtask_operator.api.names import ANNOTATION_CREATED_BY
from longtask_operator.api.reasons import ConditionType, EventReason
from longtask_operator.api.status import LongTaskStatus
from longtask_operator.api.times import format_time
from longtask_operator.core import lifecycle
from longtask_operator.core.checkpoints import after_redrive
from longtask_operator.core.conditions import is_true
from longtask_operator.core.current import Observed
from longtask_operator.core.decision import Notice

#: What a new run starts without; history, attempt numbers and totals stay.
_FRESH_RUN = {
    "attempt_counts": None,
    "completion_time": None,
    "dead_lettered": None,
    "duplicate_of": None,
    "next_attempt_time": None,
    "progress": None,
    "result": None,
    "start_time": None,
}


def begin_run(seen: Observed) -> tuple[LongTaskStatus, tuple[Notice, ...]]:
    """Return the status at the begin of this reconcile: initialised, and with a new run where one is asked for."""
    status, redrive = seen.task.status, seen.task.spec.redrive or ""
    if status.run is None:
        return _first_run(seen, status, redrive), ()
    if is_redriven(seen.task):
        notice = Notice(reason=EventReason.REDRIVEN, message=f"run {status.run + 1} begins: redrive {redrive!r}")
        return _next_run(seen, status, redrive), (notice,)
    if not redrive or redrive == (status.last_redrive or ""):
        return _with_tenant(seen, status), ()
    message = f"redrive {redrive!r} is ignored: the run has not finished; set another value when it has"
    notice = Notice(reason=EventReason.REDRIVE_IGNORED, message=message, warning=True)
    return status.model_copy(update={"last_redrive": redrive}), (notice,)


def is_redriven(task: LongTask) -> bool:
    """Return whether *task* has finished and a new run of it is asked for."""
    redrive = task.spec.redrive or ""
    return redrive not in ("", task.status.last_redrive) and is_true(task.status, ConditionType.FINISHED)


def _first_run(seen: Observed, status: LongTaskStatus, redrive: str) -> LongTaskStatus:
    meta = seen.task.metadata
    started = {
        "run": 1,
        "attempt": status.attempt or 0,
        "last_redrive": redrive or None,
        "run_start_time": meta.creation_timestamp,
        "created_by": (meta.annotations.get(ANNOTATION_CREATED_BY) or "")[:512] or None,
    }
    return _with_tenant(seen, status.model_copy(update=started))


def _with_tenant(seen: Observed, status: LongTaskStatus) -> LongTaskStatus:
    """Record the tenant once: what a task has used stays on the account of the tenant it ran for."""
    if status.tenant or not seen.tenant:
        return status
    return status.model_copy(update={"tenant": seen.tenant})


def _next_run(seen: Observed, status: LongTaskStatus, redrive: str) -> LongTaskStatus:
    started = {
        "run": (status.run or 1) + 1,
        "last_redrive": redrive,
        "run_start_time": format_time(seen.now),
        "checkpoint": after_redrive(seen.task),
    }
    status = status.model_copy(update=_FRESH_RUN | started | {"conditions": None})
    return lifecycle.with_situation(status, lifecycle.begun(), generation=seen.task.metadata.generation, now=seen.now)
