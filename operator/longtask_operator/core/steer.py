"""An open attempt: what its Job and pods ask for, from its Job's creation to its recorded end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from longtask_operator.api.phases import Phase
from longtask_operator.api.reasons import Cause, QueueReason, Reason
from longtask_operator.api.status import Attempt, LongTaskStatus
from longtask_operator.core import ending, lifecycle, record
from longtask_operator.core.causes import AttemptEnd, classify_pod, lost
from longtask_operator.core.checkpoints import accept
from longtask_operator.core.current import CurrentAttempt, Observed
from longtask_operator.core.decision import Action, ConfirmGone, CreateJob, Decision, earliest
from longtask_operator.core.duplicates import judge
from longtask_operator.core.handover import began, held_by_kueue, said_by, stop_of, taken_back, to_confirm
from longtask_operator.core.liveness import judged_next, still_at
from longtask_operator.core.node_loss import describe_loss, next_look
from longtask_operator.core.observe import JobView
from longtask_operator.core.open_attempt import describe, has_started, kept, with_attempt_and_size
from longtask_operator.core.policy import Policy
from longtask_operator.core.refusals import ask_why, give_up_refused, is_held_back
from longtask_operator.core.resizing import resize_step
from longtask_operator.core.start_limits import start_limit, wait_shown, word_of
from longtask_operator.core.stopping import stop_attempt, stop_wanted

#: A start quicker than this is not worth a write of its own.
QUIET_START = timedelta(seconds=2)


def steer(seen: Observed, attempt: CurrentAttempt, status: LongTaskStatus, policy: Policy) -> Decision | None:
    """Return what the open *attempt* asks for, or None where nothing of it exists and nothing may be started."""
    if given_up := give_up_refused(seen, attempt, status, policy):
        return given_up
    end = _end_of(attempt)
    if end:
        recorded = describe(seen, attempt, status, end.outcome)
        sized = with_attempt_and_size(seen, status, recorded, policy.ladder)
        decision = ending.end_attempt(seen, recorded, sized, end, policy)
        return replace(decision, first=_made_sure_of(seen, attempt, end))
    if not attempt.job and not attempt.pods:
        return _create(seen, attempt, status, policy)
    wanted = stop_wanted(seen, attempt, status, policy)
    if wanted:
        return stop_attempt(seen, attempt, status, wanted, policy.stop_waits)
    return _mirror(seen, attempt, status, policy)


def _end_of(attempt: CurrentAttempt) -> AttemptEnd | None:
    """Return how the attempt ended, or None while it lives or has not begun."""
    if attempt.pods:
        if not attempt.pods[0].is_over:
            return None
        end = classify_pod(attempt.pods[0], stop_of(attempt))
        return replace(end, message=said_by(end, attempt))
    if attempt.job and not attempt.job.finished:
        return None
    if attempt.stop:
        return AttemptEnd(cause=attempt.stop, message="stopped before it ran")
    if attempt.job:
        return lost(f"the Job ended without a pod: {attempt.job.message}")
    if attempt.recorded:
        return lost("the pod is gone and did not say how it ended")
    return None


def _made_sure_of(seen: Observed, attempt: CurrentAttempt, end: AttemptEnd) -> tuple[Action, ...]:
    """Return what has to be made sure of before *end* is recorded: what a cache may not know yet."""
    if not attempt.pods:
        return (ConfirmGone.of(seen.task, attempt.number),)
    if end.cause is Cause.PREEMPTED and attempt.stop is None and (job := taken_back(attempt)):
        return to_confirm(job)
    return ()


def _create(seen: Observed, attempt: CurrentAttempt, status: LongTaskStatus, policy: Policy) -> Decision | None:
    """Create the Job of an admitted attempt, unless the spec changed or says otherwise since."""
    spec, entry = seen.task.spec, attempt.entry
    deadline = record.deadline_of(status, spec)
    if entry is None or seen.tenant is None or spec.cancel or spec.suspend or (deadline and seen.now >= deadline):
        return None
    if seen.evicted or entry.generation != seen.task.metadata.generation or judge(seen.rivals) or is_held_back(seen):
        return None
    if entry.handed_over != bool(spec.queue_name) or (entry.handed_over and not policy.kueue):
        return None
    create = CreateJob(entry=entry, tenant=seen.tenant, run=status.run or 1, deadline=deadline)
    return Decision(first=(create,), again_at=deadline)


def _mirror(seen: Observed, attempt: CurrentAttempt, status: LongTaskStatus, policy: Policy) -> Decision:
    """Show an attempt that starts or runs."""
    recorded = describe(seen, attempt, status)
    deadline = record.deadline_of(status, seen.task.spec)
    if job := held_by_kueue(attempt):
        return _mirror_held(seen, attempt, status, job, policy)
    if not has_started(attempt):
        return _mirror_start(seen, attempt, status, recorded, policy)
    resize = resize_step(seen, attempt, recorded, policy)
    recorded = recorded.model_copy(update={"resize_refused": resize.refused}) if resize.refused else recorded
    status = with_attempt_and_size(seen, status, recorded, policy.ladder)
    update: dict[str, object] = {"next_attempt_time": None, "start_time": status.start_time or recorded.start_time}
    if attempt.recorded is None or seen.mirror_due or status.progress is None:
        update["progress"] = seen.progress
        status = accept(status.model_copy(update=update), seen.task, recorded, (seen.offered,), seen.now)
    retry, now = seen.task.spec.retry, seen.now
    loss = describe_loss(attempt.pods, retry, now)
    reason = QueueReason.NODE_UNREACHABLE if loss else Reason.RUNNING
    situation = lifecycle.active(Phase.RUNNING, reason, loss or f"attempt {attempt.number} runs")
    status = lifecycle.with_situation(
        status.model_copy(update=update), situation, generation=seen.task.metadata.generation, now=now
    )
    again_at = earliest(deadline, judged_next(seen, attempt), next_look(attempt.pods, retry, now), resize.again_at)
    return Decision(
        first=(*kept(seen, attempt), *resize.first),
        status=status,
        can_wait=not loss and _has_just_begun(seen, attempt),
        then=resize.then,
        again_at=again_at,
        still_at=still_at(seen, attempt),
    )


def _has_just_begun(seen: Observed, attempt: CurrentAttempt) -> bool:
    """Return whether there is nothing to show of an attempt but that it runs: a soon end says that too."""
    is_shown = attempt.recorded is not None and attempt.recorded.start_time is not None
    return not (is_shown or seen.progress or seen.offered)


def _mirror_held(
    seen: Observed, attempt: CurrentAttempt, status: LongTaskStatus, job: JobView, policy: Policy
) -> Decision:
    """Show an attempt that waits for Kueue, which may let it go at once."""
    noticed, deadline = job.created + QUIET_START, record.deadline_of(status, seen.task.spec)
    if seen.now < noticed:
        return Decision(first=kept(seen, attempt), again_at=earliest(noticed, deadline))
    status = with_attempt_and_size(seen, status, describe(seen, attempt, status), policy.ladder)
    status = status.model_copy(update={"next_attempt_time": None, "progress": None})
    message = f"waits in queue {job.queue} of Kueue, which has not admitted Job {job.name} yet"
    situation = lifecycle.waiting(QueueReason.BEHIND_OTHERS, message)
    status = lifecycle.with_situation(status, situation, generation=seen.task.metadata.generation, now=seen.now)
    return Decision(first=kept(seen, attempt), status=status, again_at=deadline)


def _mirror_start(
    seen: Observed, attempt: CurrentAttempt, status: LongTaskStatus, recorded: Attempt, policy: Policy
) -> Decision:
    limit = start_limit(seen, attempt, policy.start_limits).at
    noticed, deadline = began(attempt) + QUIET_START, record.deadline_of(status, seen.task.spec)
    questions, ask_again = ask_why(seen, attempt)
    limits = [moment for moment in (limit, deadline, ask_again) if moment]
    if seen.now < noticed:
        return Decision(first=kept(seen, attempt), again_at=min(noticed, *limits))
    why = wait_shown(status, next((pod.waiting for pod in attempt.pods if pod.waiting), ""))
    message = f"attempt {attempt.number} starts" + (f": {why}" if why else "")
    reason = word_of(why) or Reason.STARTING
    status = with_attempt_and_size(seen, status, recorded, policy.ladder)
    status = status.model_copy(update={"next_attempt_time": None, "progress": None})
    situation = lifecycle.active(Phase.STARTING, reason, message)
    status = lifecycle.with_situation(status, situation, generation=seen.task.metadata.generation, now=seen.now)
    first = (*kept(seen, attempt), *questions)
    return Decision(first=first, status=status, can_wait=not why, again_at=min(limits))
