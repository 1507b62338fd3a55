"""What a worker may still do between the decision to stop its attempt and SIGTERM, by the cause of the stop.

A cancelled worker is told by the answer to its report and may end by itself. One that is stopped only to go
on later is asked for a checkpoint. Both need a worker that reports, and have a bound that counts from the
recorded `stopTime`: a restart of the operator neither forgets the wait nor begins it anew. No worker is told
of what does not stand in the status: whoever ends by itself is charged for it where nothing says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from longtask_operator.api.longtask import LongTaskSpec
from longtask_operator.api.reasons import Cause
from longtask_operator.api.status import Attempt, LongTaskStatus
from longtask_operator.api.times import parse_optional_time, parse_time
from longtask_operator.core.current import CurrentAttempt, Observed, find_attempt

#: Stopped only to go on later: asked for a checkpoint first.
CHECKPOINT_FIRST = frozenset({Cause.SUSPENDED, Cause.PREEMPTED})
#: Told by the answer to its report, and left to end by itself.
TOLD_FIRST = frozenset({Cause.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class StopWaits:
    """How long a worker that reports may go on once its stop was decided."""

    checkpoint: timedelta = timedelta(seconds=30)
    cancel: timedelta = timedelta(seconds=10)


def wait_before_stop(
    seen: Observed, attempt: CurrentAttempt, status: LongTaskStatus, waits: StopWaits
) -> datetime | None:
    """Return until when *attempt* is waited for, None where it is stopped now.

    *status* is the one about to be written: it holds the stop, and a checkpoint that was accepted just now.
    """
    limit = _limit(status, seen.task.spec, waits)
    if limit is None or seen.now >= limit or not _listens(seen, attempt) or _answered_now(seen, attempt, status):
        return None
    return limit


def wants_checkpoint(status: LongTaskStatus, spec: LongTaskSpec, waits: StopWaits, now: datetime) -> bool:
    """Return whether the newest attempt is only waited for to save a checkpoint."""
    limit = _limit(status, spec, waits)
    return bool(limit and now < limit and status.attempts and status.attempts[-1].cause in CHECKPOINT_FIRST)


def told_to_end(status: LongTaskStatus, number: int, spec: LongTaskSpec, waits: StopWaits, now: datetime) -> bool:
    """Return whether the worker of attempt *number* hears that it is to end, and is not waited for to save first."""
    recorded = find_attempt(status, number)
    if recorded is None or not recorded.cause:
        return False
    if recorded.completion_time is not None:
        return bool(spec.cancel)
    return not wants_checkpoint(status, spec, waits, now)


def _limit(status: LongTaskStatus, spec: LongTaskSpec, waits: StopWaits) -> datetime | None:
    """Return until when the worker of the newest attempt may go on at most, None where its cause gives it nothing."""
    newest = status.attempts[-1] if status.attempts else None
    decided = parse_optional_time(newest.stop_time) if newest and newest.completion_time is None else None
    if newest is None or decided is None:
        return None
    if newest.cause in TOLD_FIRST:
        return decided + waits.cancel
    if newest.cause not in CHECKPOINT_FIRST or spec.checkpoint is None or _answered(status, newest):
        return None
    return decided + waits.checkpoint


def _listens(seen: Observed, attempt: CurrentAttempt) -> bool:
    """Whether the worker runs, reports by itself, and was not stopped yet."""
    deleted = any(pod.deleted_at for pod in attempt.pods) or bool(attempt.job and attempt.job.deleting)
    runs = any(pod.running_since for pod in attempt.pods)
    reported = attempt.recorded is not None and seen.task.status.progress is not None
    reports = (seen.progress is not None or reported) and not seen.task.spec.progress_file
    return runs and reports and not deleted


def _answered_now(seen: Observed, attempt: CurrentAttempt, status: LongTaskStatus) -> bool:
    """Whether this very reconcile accepts the checkpoint that was asked for before."""
    before = attempt.recorded
    asked = before is not None and before.stop_time is not None and before.cause in CHECKPOINT_FIRST
    return asked and attempt.stop in CHECKPOINT_FIRST and status.checkpoint != seen.task.status.checkpoint


def _answered(status: LongTaskStatus, attempt: Attempt) -> bool:
    """Whether a checkpoint was accepted after the stop was recorded: it is dated a second later at least."""
    saved, asked = status.checkpoint, parse_optional_time(attempt.stop_time)
    return bool(saved and asked and saved.attempt == attempt.number and parse_time(saved.time) > asked)
