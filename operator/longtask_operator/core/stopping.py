"""When an open attempt has to end, and how it is stopped.

The cause is recorded first: it survives a crash of the operator, and explains the exit that follows. Then the
worker gets what `stop_waits` gives it; after that its Job is deleted: SIGTERM, the grace period, SIGKILL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from longtask_operator.api.phases import Phase
from longtask_operator.api.reasons import Cause, Reason
from longtask_operator.api.status import LongTaskStatus
from longtask_operator.api.times import format_time
from longtask_operator.core import lifecycle, record
from longtask_operator.core.checkpoints import accept
from longtask_operator.core.current import CurrentAttempt, Observed
from longtask_operator.core.decision import (
    Action,
    ConfirmEvicted,
    ConfirmHearing,
    ConfirmNode,
    ConfirmPod,
    Decision,
    StopJob,
    StopPod,
)
from longtask_operator.core.handover import TAKEN_BACK, held_by_kueue, taken_back, to_confirm
from longtask_operator.core.liveness import judge_life
from longtask_operator.core.node_loss import describe_loss, forced, next_look
from longtask_operator.core.open_attempt import describe, has_started, kept, with_resize
from longtask_operator.core.policy import Policy
from longtask_operator.core.start_limits import start_limit
from longtask_operator.core.stop_waits import StopWaits, wait_before_stop

STOPPING: Mapping[Cause, str] = {
    Cause.CANCELLED: "spec.cancel is true",
    Cause.SUSPENDED: "spec.suspend is true",
    Cause.DEADLINE: "deadlineSeconds passed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """An attempt has to end by *cause*; *said* is the sentence that people read."""

    cause: Cause
    said: str
    first: tuple[Action, ...] = ()  #: what must be made sure of before


def stop_wanted(seen: Observed, attempt: CurrentAttempt, status: LongTaskStatus, policy: Policy) -> Stop | None:
    """Return why the attempt has to end. What was decided stays, but a cancellation is for good."""
    spec = seen.task.spec
    if spec.cancel and attempt.stop is not Cause.DEADLINE:
        return _requested(Cause.CANCELLED)
    if attempt.stop:
        return _requested(attempt.stop)
    deadline = record.deadline_of(status, spec)
    if deadline and seen.now >= deadline:
        return _requested(Cause.DEADLINE)
    if spec.suspend:
        return _requested(Cause.SUSPENDED)
    if gives_way := _gives_way(seen, attempt):
        return gives_way
    if given_up := _given_up(seen, attempt):
        return given_up
    if replaced := _replaced(attempt):
        return replaced
    if held_by_kueue(attempt):
        return None
    if has_started(attempt):
        return _lifeless(seen, attempt)
    return _not_started(seen, attempt, policy)


def _not_started(seen: Observed, attempt: CurrentAttempt, policy: Policy) -> Stop | None:
    limit = start_limit(seen, attempt, policy.start_limits)
    if seen.now < limit.at:
        return None
    first = tuple(ConfirmPod(pod=pod) for pod in attempt.pods[:1])  # it may have begun a moment ago
    return Stop(cause=Cause.NEVER_STARTED, said=limit.said, first=first)


def _gives_way(seen: Observed, attempt: CurrentAttempt) -> Stop | None:
    """Return the stop of an attempt whose place goes to others: Kueue took it back, or the operator evicts it."""
    if job := taken_back(attempt):
        return Stop(cause=Cause.PREEMPTED, said=TAKEN_BACK, first=to_confirm(job))
    if seen.evicted:
        return Stop(cause=Cause.PREEMPTED, said=seen.evicted, first=(confirm_evicted(seen, attempt),))
    return None


def confirm_evicted(seen: Observed, attempt: CurrentAttempt) -> ConfirmEvicted:
    """Return the question whether *attempt* still has to give way."""
    return ConfirmEvicted(task_uid=seen.task.metadata.uid, attempt=attempt.number, tenant=seen.tenant or "")


def _given_up(seen: Observed, attempt: CurrentAttempt) -> Stop | None:
    """Return the stop of an attempt whose node is lost and need not be waited for any longer."""
    retry, pods = seen.task.spec.retry, attempt.pods
    if not pods or not forced(pods[:1], retry, seen.now):
        return None
    said = f"node {pods[0].node} did not answer any more; the pod was given up (retry.onNodeLoss: Replace)"
    return Stop(cause=Cause.LOST, said=said, first=(ConfirmPod(pod=pods[0]),))


def _replaced(attempt: CurrentAttempt) -> Stop | None:
    """Return the stop of an attempt whose pod is gone without a word while its Job started over: that is not ours."""
    known, pods = attempt.recorded, attempt.pods
    if known is None or known.pod_uid is None or not pods or any(pod.uid == known.pod_uid for pod in pods):
        return None
    said = f"pod {known.pod_name} is gone without a word, and its Job made another one"
    return Stop(cause=Cause.LOST, said=said, first=(ConfirmPod(pod=pods[0], gone=known.pod_uid),))


def _lifeless(seen: Observed, attempt: CurrentAttempt) -> Stop | None:
    verdict = judge_life(seen, attempt)
    if verdict is None:
        return None
    watched = verdict.watched
    confirm = ConfirmPod(pod=watched.pod, silent=True, heard=seen.heard)
    if verdict.cause is not Cause.HEARTBEAT_LOST:
        return Stop(cause=verdict.cause, said=verdict.said, first=(confirm,))
    node = (ConfirmNode(node=watched.pod.node, moment=verdict.due),) if watched.pod.node else ()
    return Stop(cause=verdict.cause, said=verdict.said, first=(*node, ConfirmHearing(), confirm))


def _requested(cause: Cause) -> Stop:
    return Stop(cause=cause, said=STOPPING.get(cause, f"it is to end by {cause}"))


def stop_attempt(
    seen: Observed, attempt: CurrentAttempt, status: LongTaskStatus, stop: Stop, waits: StopWaits
) -> Decision:
    """Record why, then stop, where its worker had what it is given before."""
    why = next((pod.waiting for pod in attempt.pods if pod.waiting), "")
    recorded, cause, said = describe(seen, attempt, status), stop.cause, stop.said
    status = with_resize(seen, status, recorded)
    if recorded.cause != cause:
        message = f"{said}: {why}" if why else said
        update = {"cause": str(cause), "message": message[:1024], "stop_time": format_time(seen.now)}
        recorded = recorded.model_copy(update=update)
    said = recorded.message or said
    reason, phase = (Reason.CANCELLING, Phase.CANCELLING) if cause is Cause.CANCELLED else (cause, Phase.RUNNING)
    if phase is Phase.RUNNING and not recorded.start_time:
        phase = Phase.STARTING
    if attempt.recorded is None:  # what stands there is of an older attempt
        status = status.model_copy(update={"progress": seen.progress})
    status = accept(record.with_attempt(status, recorded), seen.task, recorded, (seen.offered,), seen.now)
    retry, now = seen.task.spec.retry, seen.now
    loss = describe_loss(attempt.pods, retry, now)
    message = f"{said}; the attempt is being stopped" + (f"; {loss}" if loss else "")
    situation = lifecycle.active(phase, reason, message)
    status = lifecycle.with_situation(status, situation, generation=seen.task.metadata.generation, now=now)
    if until := wait_before_stop(seen, attempt, status, waits):
        return Decision(first=(*stop.first, *kept(seen, attempt)), status=status, again_at=until)
    return Decision(
        first=(*stop.first, *kept(seen, attempt)),
        status=status,
        then=(*_stops(attempt), *forced(attempt.pods, retry, now)),
        again_at=next_look(attempt.pods, retry, now),
    )


def _stops(attempt: CurrentAttempt) -> tuple[Action, ...]:
    if attempt.job:
        return () if attempt.job.deleting else (StopJob(job=attempt.job),)
    return tuple(StopPod(pod=pod) for pod in attempt.pods if not pod.deleted_at and not pod.is_terminal)
