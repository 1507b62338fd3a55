"""Hand-over to Kueue: it admits the attempts of tasks with `spec.queueName`, and takes their place away again.

The Job is made suspended and with Kueue's label. Kueue lets it go by unsuspending it, and takes it back by suspending
it, as it does with any Job. Suspended before it had a pod it simply waits: its clocks stand still. Suspended after it
had one, the attempt is over: unsuspended once more the same Job would make a second pod of the same attempt. So it
ends as Preempted, the Job is deleted, which Kueue cannot undo, and the next attempt gets a Job of its own.
"""

from __future__ import annotations

from datetime import datetime

from longtask_operator.api.errors import SpecError
from longtask_operator.api.longtask import LongTaskSpec
from longtask_operator.api.reasons import Cause
from longtask_operator.core.causes import AttemptEnd, ended_before_deletion
from longtask_operator.core.current import CurrentAttempt
from longtask_operator.core.decision import ConfirmSuspended
from longtask_operator.core.observe import JobView

TAKEN_BACK = "Kueue suspended the attempt's Job: it had to make room"


def check_queue(spec: LongTaskSpec, *, allowed: bool) -> None:
    """Raise SpecError if *spec* asks for Kueue where the installation does not allow it."""
    if spec.queue_name and not allowed:
        message = "tasks are not handed to Kueue here; leave it out, or ask an administrator to set kueue.enabled"
        raise SpecError("spec.queueName", f"{message} in the chart's values")


def held_by_kueue(attempt: CurrentAttempt) -> JobView | None:
    """Return the attempt's Job while nothing may start because Kueue has not let it go, else None.

    A Job that was let go is held until its controller has begun with it: only that tells when it was.
    """
    job = attempt.job
    if job is None or not job.queue or had_pod(attempt):
        return None
    return job if job.suspended or job.started is None else None


def began(attempt: CurrentAttempt) -> datetime:
    """Return when the attempt's pod could be made first; of a Job without a pod that Kueue holds, its creation.

    A Job's controller makes the pod before it writes that it began with the Job: till then the pod alone tells.
    """
    job = attempt.job
    if job and not job.queue:
        return job.created
    if job and job.started:
        return job.started
    return attempt.pods[0].created if attempt.pods or job is None else job.created


def had_pod(attempt: CurrentAttempt) -> bool:
    """Return whether a pod of the attempt was ever seen."""
    return bool(attempt.pods or (attempt.recorded and attempt.recorded.pod_uid))


def taken_back(attempt: CurrentAttempt) -> JobView | None:
    """Return the attempt's Job if it is suspended although it had its pod, or was and began anew since."""
    job = attempt.job
    if job is None or not job.queue or job.deleting or job.finished or not had_pod(attempt):
        return None
    return job if job.suspended or _began_anew(attempt, job) else None


def stop_of(attempt: CurrentAttempt) -> Cause | None:
    """Return for which cause the attempt's pod was stopped: as was decided, else Preempted where Kueue did it."""
    if attempt.stop:
        return attempt.stop
    job, pod = attempt.job, attempt.pods[0]
    if job is None or not job.queue or pod.deleted_at is None:
        return None
    if pod.ended and ended_before_deletion(pod, pod.ended):
        return None
    return Cause.PREEMPTED if job.suspended or _began_anew(attempt, job) else None


def said_by(end: AttemptEnd, attempt: CurrentAttempt) -> str:
    """Return the message of an *end* that nobody had decided upon before it came."""
    return TAKEN_BACK if end.cause is Cause.PREEMPTED and attempt.stop is None else end.message


def to_confirm(job: JobView) -> tuple[ConfirmSuspended, ...]:
    """Return what has to be asked before *job* counts as taken back: that it began anew cannot be undone."""
    return (ConfirmSuspended(job=job),) if job.suspended else ()


def _began_anew(attempt: CurrentAttempt, job: JobView) -> bool:
    """Whether *job* was suspended and let go since the attempt's pod, which that deleted, was made."""
    pod = attempt.pods[0] if attempt.pods else None
    return bool(pod and pod.deleted_at and (job.started is None or job.started > pod.created))
