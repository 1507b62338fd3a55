"""An open attempt: what its Job and pods ask for, from its Job's creation to its recorded end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from longtask_operator.api.longtask import LongTaskSpec
from longtask_operator.api.phases import Phase
from longtask_operator.api.quantity import format_cpu, format_memory, parse_cpu, parse_memory
from longtask_operator.api.reasons import Cause, Reason
from longtask_operator.api.status import Attempt, LongTaskStatus
from longtask_operator.api.times import format_time
from longtask_operator.core import ending, lifecycle, record
from longtask_operator.core.causes import AttemptEnd, classify_pod, lost
from longtask_operator.core.current import CurrentAttempt, Observed
from longtask_operator.core.decision import Action, ConfirmGone, CreateJob, Decision, KeepEntry, StopJob, StopPod
from longtask_operator.core.jobs import job_name
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.sizing import Size, source_of

DEFAULT_START_TIMEOUT = 600
#: A start quicker than this is not worth a write of its own.
QUIET_START = timedelta(seconds=2)

STOPPING: Mapping[Cause, str] = {
    Cause.CANCELLED: "spec.cancel is true",
    Cause.SUSPENDED: "spec.suspend is true",
    Cause.DEADLINE: "deadlineSeconds passed",
    Cause.NEVER_STARTED: "startTimeoutSeconds passed",
}


def steer(seen: Observed, attempt: CurrentAttempt, status: LongTaskStatus) -> Decision | None:
    """Return what the open *attempt* asks for, or None where nothing of it exists and nothing may be started."""
    end = _end_of(attempt)
    if end:
        recorded = _attempt_record(seen, attempt, status)
        sized = _with_attempt_and_size(seen, status, recorded, attempt)
        decision = ending.end_attempt(seen, recorded, sized, end)
        return decision if attempt.pods else replace(decision, first=(_confirm_gone(seen, attempt),))
    if not attempt.job and not attempt.pods:
        return _create(seen, attempt, status)
    wanted = _stop_wanted(seen, attempt, status)
    if wanted:
        return _stop(seen, attempt, status, wanted)
    return _mirror(seen, attempt, status)


def _end_of(attempt: CurrentAttempt) -> AttemptEnd | None:
    """Return how the attempt ended, or None while it lives or has not begun."""
    if attempt.pods:
        return classify_pod(attempt.pods[0], attempt.stop) if attempt.pods[0].is_over else None
    if attempt.job and not attempt.job.finished:
        return None
    if attempt.stop:
        return AttemptEnd(cause=attempt.stop, message="stopped before it ran")
    if attempt.job:
        return lost(f"the Job ended without a pod: {attempt.job.message}")
    if attempt.recorded:
        return lost("the pod is gone and did not say how it ended")
    return None


def _confirm_gone(seen: Observed, attempt: CurrentAttempt) -> ConfirmGone:
    meta = seen.task.metadata
    return ConfirmGone(namespace=meta.namespace, task_uid=meta.uid, attempt=attempt.number)


def _create(seen: Observed, attempt: CurrentAttempt, status: LongTaskStatus) -> Decision | None:
    """Create the Job of an admitted attempt, unless the spec changed or says otherwise since."""
    spec, entry = seen.task.spec, attempt.entry
    deadline = record.deadline_of(status, spec)
    if entry is None or seen.tenant is None or spec.cancel or spec.suspend or (deadline and seen.now >= deadline):
        return None
    if entry.generation != seen.task.metadata.generation:
        return None
    create = CreateJob(entry=entry, tenant=seen.tenant, run=status.run or 1, deadline=deadline)
    if seen.held_back is None:
        return Decision(first=(create,), again_at=deadline)
    situation = lifecycle.waiting(seen.held_back.reason, seen.held_back.message)
    status = lifecycle.with_situation(status, situation, generation=entry.generation, now=seen.now)
    return Decision(first=(create,), status=status, again_at=deadline)


def _stop_wanted(seen: Observed, attempt: CurrentAttempt, status: LongTaskStatus) -> Cause | None:
    """Return why the attempt has to end. What was decided stays, but a cancellation is for good."""
    spec = seen.task.spec
    if spec.cancel and attempt.stop is not Cause.DEADLINE:
        return Cause.CANCELLED
    if attempt.stop:
        return attempt.stop
    deadline = record.deadline_of(status, spec)
    if deadline and seen.now >= deadline:
        return Cause.DEADLINE
    if spec.suspend:
        return Cause.SUSPENDED
    if _has_started(attempt):
        return None
    return Cause.NEVER_STARTED if seen.now >= _start_limit(attempt, spec) else None


def _stop(seen: Observed, attempt: CurrentAttempt, status: LongTaskStatus, cause: Cause) -> Decision:
    """Record why, then stop: what was recorded survives a crash, and explains the exit that follows."""
    why = next((pod.waiting for pod in attempt.pods if pod.waiting), "")
    recorded = _attempt_record(seen, attempt, status)
    said = STOPPING.get(cause, f"it is to end by {cause}")
    if recorded.cause != cause:
        message = f"{said}: {why}" if why else said
        recorded = recorded.model_copy(update={"cause": str(cause), "message": message[:1024]})
    reason, phase = (Reason.CANCELLING, Phase.CANCELLING) if cause is Cause.CANCELLED else (cause, Phase.RUNNING)
    if phase is Phase.RUNNING and not recorded.start_time:
        phase = Phase.STARTING
    status = record.with_attempt(status, recorded)
    situation = lifecycle.active(phase, reason, f"{said}; the attempt is being stopped")
    status = lifecycle.with_situation(status, situation, generation=seen.task.metadata.generation, now=seen.now)
    return Decision(first=_kept(seen, attempt), status=status, then=_stops(attempt))


def _stops(attempt: CurrentAttempt) -> tuple[Action, ...]:
    if attempt.job:
        return () if attempt.job.deleting else (StopJob(job=attempt.job),)
    return tuple(StopPod(pod=pod) for pod in attempt.pods if not pod.deleted_at and not pod.is_terminal)


def _mirror(seen: Observed, attempt: CurrentAttempt, status: LongTaskStatus) -> Decision:
    """Show an attempt that starts or runs."""
    recorded = _attempt_record(seen, attempt, status)
    deadline = record.deadline_of(status, seen.task.spec)
    if not _has_started(attempt):
        return _mirror_start(seen, attempt, status, recorded, deadline)
    status = _with_attempt_and_size(seen, status, recorded, attempt)
    update: dict[str, object] = {"next_attempt_time": None, "start_time": status.start_time or recorded.start_time}
    if attempt.recorded is None or seen.mirror_due or status.progress is None:
        update["progress"] = seen.progress
    situation = lifecycle.active(Phase.RUNNING, Reason.RUNNING, f"attempt {attempt.number} runs")
    status = lifecycle.with_situation(
        status.model_copy(update=update), situation, generation=seen.task.metadata.generation, now=seen.now
    )
    return Decision(first=_kept(seen, attempt), status=status, again_at=deadline)


def _mirror_start(
    seen: Observed, attempt: CurrentAttempt, status: LongTaskStatus, recorded: Attempt, deadline: datetime | None
) -> Decision:
    limit = _start_limit(attempt, seen.task.spec)
    noticed = _began(attempt) + QUIET_START
    limits = [moment for moment in (limit, deadline) if moment]
    if seen.now < noticed:
        return Decision(first=_kept(seen, attempt), again_at=min(noticed, *limits))
    why = next((pod.waiting for pod in attempt.pods if pod.waiting), "")
    message = f"attempt {attempt.number} starts" + (f": {why}" if why else "")
    reason = why.partition(":")[0] if why else Reason.STARTING
    status = _with_attempt_and_size(seen, status, recorded, attempt)
    status = status.model_copy(update={"next_attempt_time": None, "progress": None})
    situation = lifecycle.active(Phase.STARTING, reason, message)
    status = lifecycle.with_situation(status, situation, generation=seen.task.metadata.generation, now=seen.now)
    return Decision(first=_kept(seen, attempt), status=status, again_at=min(limits))


def _attempt_record(seen: Observed, attempt: CurrentAttempt, status: LongTaskStatus) -> Attempt:
    """Return what is known of *attempt*, as it stands or will stand in the status."""
    meta, pod, size = seen.task.metadata, attempt.pods[0] if attempt.pods else None, _size_of(attempt)
    before = attempt.recorded or Attempt(
        number=attempt.number,
        run=attempt.job.run if attempt.job else status.run or 1,
        generation=_generation_of(attempt, meta.generation),
        job_name=job_name(meta.name, meta.uid, attempt.number),
    )
    known: dict[str, str | None] = {}
    if size:
        known |= {"cpu": format_cpu(size.cpu), "memory": format_memory(size.memory)}
    if pod:
        started = pod.running_since or (pod.ended.started if pod.ended else None)
        known |= {"pod_name": pod.name, "pod_uid": pod.uid, "node_name": pod.node}
        known |= {"start_time": before.start_time or (format_time(started) if started else None)}
    return before.model_copy(update=known)


def _with_attempt_and_size(
    seen: Observed, status: LongTaskStatus, recorded: Attempt, attempt: CurrentAttempt
) -> LongTaskStatus:
    status, size, source = record.with_attempt(status, recorded), _size_of(attempt), source_of(seen.task.spec.resources)
    return record.with_sizing(status, size, source) if size else status


def _size_of(attempt: CurrentAttempt) -> Size | None:
    if attempt.entry:
        return attempt.entry.size
    if attempt.recorded and attempt.recorded.cpu and attempt.recorded.memory:
        return Size(cpu=parse_cpu(attempt.recorded.cpu), memory=parse_memory(attempt.recorded.memory))
    return None


def _generation_of(attempt: CurrentAttempt, default: int) -> int:
    if attempt.job:
        return attempt.job.generation
    return attempt.entry.generation if attempt.entry else default


def _kept(seen: Observed, attempt: CurrentAttempt) -> tuple[Action, ...]:
    """Return the action that puts a living attempt back into the ledger, where it is missing or differs."""
    entry, generation = attempt.entry, _generation_of(attempt, seen.task.metadata.generation)
    size = _size_of(attempt)
    if size is None or (entry and entry.generation == generation):
        return ()
    kept = LedgerEntry(
        uid=seen.task.metadata.uid,
        attempt=attempt.number,
        generation=generation,
        size=size,
        sidecar=bool(seen.task.spec.progress_file),
    )
    return (KeepEntry(entry=kept, tenant=seen.task.status.tenant or seen.tenant or ""),)


def _has_started(attempt: CurrentAttempt) -> bool:
    return any(pod.running_since or pod.ended for pod in attempt.pods) or bool(
        attempt.recorded and attempt.recorded.start_time
    )


def _began(attempt: CurrentAttempt) -> datetime:
    """Return when the attempt's Job, or failing that its pod, was created."""
    if attempt.job:
        return attempt.job.created
    return attempt.pods[0].created


def _start_limit(attempt: CurrentAttempt, spec: LongTaskSpec) -> datetime:
    return _began(attempt) + timedelta(seconds=spec.start_timeout_seconds or DEFAULT_START_TIMEOUT)
