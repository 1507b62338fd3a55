"""What should be so for one LongTask: the table of contents of the core.

`reconcile` starts from what the cluster says now and depends on no event having been
seen. Run again on its own result it wants nothing more. The order of an attempt is
ledger entry, Job, status; of its end: status, pod finalizer, ledger. A crash between any
two is repaired by the same rules that handle the normal case.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from longtask_operator.api.errors import SpecError
from longtask_operator.api.identity import person_of
from longtask_operator.api.reasons import Cause, ConditionType, EventReason, QueueReason
from longtask_operator.api.status import LongTaskStatus
from longtask_operator.api.times import parse_optional_time, parse_time
from longtask_operator.core import lifecycle, record
from longtask_operator.core.attempt_size import choose_size
from longtask_operator.core.conditions import is_true
from longtask_operator.core.current import CurrentAttempt, Observed, current_attempt
from longtask_operator.core.decision import (
    Action,
    ConfirmUnbegun,
    Decision,
    DeleteTask,
    Notice,
    ReleaseEntry,
    earliest,
)
from longtask_operator.core.duplicates import LOOK_AGAIN, Yields, ended_apart, judge, named, take_over
from longtask_operator.core.environment import check_environment
from longtask_operator.core.estimate import believed_until
from longtask_operator.core.handover import check_queue
from longtask_operator.core.node_loss import describe_loss, forced, lost_since, next_look
from longtask_operator.core.observe import PodView
from longtask_operator.core.policy import Policy
from longtask_operator.core.precedence import HeldBack, first_of, precedes
from longtask_operator.core.queueing import Candidate
from longtask_operator.core.redrive import begin_run
from longtask_operator.core.refusals import is_held_back, wait_refused, why_refused
from longtask_operator.core.release import leftovers_of, release_children
from longtask_operator.core.retention import expires_at, is_tracked
from longtask_operator.core.sizing import Size
from longtask_operator.core.steer import steer
from longtask_operator.core.stopping import confirm_evicted
from longtask_operator.core.waits import may_be_told_later, next_entry, told_as, why_shown, with_wait
from longtask_operator.core.warnings import warnings_of, with_warnings

#: A wait for admission, or for the end of a pod after a backoff, that is shorter than this is not worth a write.
QUIET_WAIT = timedelta(seconds=2)
#: How long letting go of a finished task's attempts usually takes at most.
LETTING_GO = timedelta(seconds=5)


def reconcile(seen: Observed, policy: Policy) -> Decision:
    """Return what is to be done for the task in *seen*."""
    if seen.task.metadata.deletion_timestamp:
        return Decision(then=release_children(seen.jobs, seen.pods, seen.entry, seen.tenant or ""))
    status, notices = begin_run(seen)
    if status.run != (seen.task.status.run or 1):
        begun = _begun(seen, status, policy)
        return replace(begun, notices=(*notices, *begun.notices))
    attempt = current_attempt(seen)
    if attempt.is_from_before:  # counted before anything of it goes: what remains is no attempt that is yet to begin
        return Decision(status=_counted(status, attempt), notices=notices, again_at=seen.now)
    if status.duplicate_of and not is_true(status, ConditionType.FINISHED) and not judge(seen.rivals):
        status = status.model_copy(update={"duplicate_of": None})
    decision = None
    if attempt.is_open and not is_true(status, ConditionType.FINISHED):
        decision = steer(seen, attempt, status, policy)
    if decision is None:
        decision = _made_sure(seen, attempt, _next_step(seen, attempt, status, policy))
    else:
        older = leftovers_of(seen, spared=attempt.number)
        decision = replace(decision, then=(*older, *decision.then))
    return _warned(seen, attempt, replace(decision, notices=(*notices, *decision.notices)))


def _begun(seen: Observed, status: LongTaskStatus, policy: Policy) -> Decision:
    """Return what writes *status* of a new run before anything else, with the wait that the next look will show.

    What has to be heard from others first, from the queue or from who shares its key, is not guessed.
    """
    task = seen.task.model_copy(update={"status": status})
    ahead = replace(seen, task=task, rivals=None, held_back=None, waiting_since=None)
    found = _next_step(ahead, current_attempt(ahead), status, policy)
    waits = found.status and found.status.queue and QueueReason(found.status.queue.reason)
    if found.status is None or not waits or (seen.rivals and not precedes(waits, QueueReason.KEY_CONFLICT)):
        return Decision(status=status, again_at=seen.now)
    return Decision(status=told_as(status, found.status), notices=found.notices, again_at=seen.now)


def _counted(status: LongTaskStatus, attempt: CurrentAttempt) -> LongTaskStatus:
    """Return *status* with the number of *attempt*, which is never used again."""
    return status.model_copy(update={"attempt": attempt.number})


def _made_sure(seen: Observed, attempt: CurrentAttempt, decision: Decision) -> Decision:
    """Return *decision*; what takes entry or number from an open *attempt* that began nothing asks whether it did."""
    entry, status, candidate = attempt.entry, decision.status, decision.candidate
    if entry is None or not attempt.is_open or is_held_back(seen):  # of what was refused it is known
        return decision
    taken = bool(status and status.attempt == attempt.number) or any(isinstance(a, ReleaseEntry) for a in decision.then)
    if not taken and (candidate is None or candidate.entry.generation == entry.generation):
        return decision
    return replace(decision, first=(ConfirmUnbegun.of(seen.task, attempt.number), *decision.first))


def _warned(seen: Observed, attempt: CurrentAttempt, decision: Decision) -> Decision:
    """Return *decision* with the conditions that only warn, while the run goes on."""
    if decision.status is None or is_true(decision.status, ConditionType.FINISHED):
        return decision
    warnings = warnings_of(seen, attempt, decision.status)
    status = with_warnings(seen, decision.status, warnings)
    return replace(decision, status=status, again_at=earliest(decision.again_at, warnings.again_at))


def _next_step(seen: Observed, attempt: CurrentAttempt, status: LongTaskStatus, policy: Policy) -> Decision:
    """Decide what follows when no attempt is open."""
    leftovers = leftovers_of(seen)
    # A Job may still be on its way to an attempt that the run ends before.
    given_up = _counted(status, attempt)
    if is_true(status, ConditionType.FINISHED):
        return _settled(seen, given_up, leftovers)
    spec, generation, now = seen.task.spec, seen.task.metadata.generation, seen.now
    deadline = record.deadline_of(status, spec)
    if spec.cancel or (deadline and now >= deadline):
        status = ended_apart(status, judge(seen.rivals), generation=generation, now=now)
        given_up = _counted(status, attempt)
    if spec.cancel:
        return _ended(record.finish(given_up, lifecycle.cancelled(status), generation=generation, now=now), leftovers)
    if deadline and now >= deadline:
        message = f"deadlineSeconds ({spec.deadline_seconds}) passed"
        situation = lifecycle.failed(Cause.DEADLINE, message, waited=status)
        return _ended(record.finish(given_up, situation, generation=generation, now=now), leftovers)
    return _wait(seen, attempt, status, policy, leftovers=leftovers, deadline=deadline)


def _wait(
    seen: Observed,
    attempt: CurrentAttempt,
    status: LongTaskStatus,
    policy: Policy,
    *,
    leftovers: tuple[Action, ...],
    deadline: datetime | None,
) -> Decision:
    """Return the decision for a task that is to run but holds no attempt now."""
    not_before = parse_optional_time(status.next_attempt_time)
    waiting, yields = Decision(then=leftovers, again_at=deadline), judge(seen.rivals)
    if yields and yields.to.is_going:
        waiting = replace(waiting, again_at=earliest(deadline, seen.now + LOOK_AGAIN))
    if seen.task.spec.suspend:
        return _waits(seen, status, waiting, policy, QueueReason.SUSPENDED, "spec.suspend is true")
    try:
        size = _admissible(seen, status, policy)
    except SpecError as error:
        notice = Notice(reason=EventReason.INVALID, message=str(error), warning=True)
        decision = _waits(seen, status, waiting, policy, QueueReason.INVALID, str(error))
        return replace(decision, notices=(notice,) if status.reason != QueueReason.INVALID else ())
    if yields:
        return _yield(seen, attempt, status, waiting, yields, policy)
    if not_before and seen.now < not_before:
        decision = _waits(seen, status, waiting, policy, QueueReason.BACKOFF, record.describe_backoff(status))
        return replace(decision, again_at=min(not_before, deadline or not_before))
    if live := tuple(pod for pod in seen.pods if not pod.is_terminal):
        said_from = (not_before or seen.now) + QUIET_WAIT
        if not_before and seen.now < said_from:
            return replace(waiting, again_at=earliest(said_from, deadline))
        return _releasing(seen, status, waiting, live, policy)
    if still := wait_refused(seen, status, waiting, policy):
        return still
    if attempt.is_open and (why := seen.evicted or _outgrown(seen, attempt, size)):
        return _give_up(seen, attempt, status, waiting, why, policy)
    waiting = _sparing(seen, attempt, waiting)
    return _await_sizes(seen, status, policy, waiting) or _queue(seen, attempt, status, size, waiting, policy)


def _outgrown(seen: Observed, attempt: CurrentAttempt, size: Size) -> str:
    """Say why an entry that started nothing is of no use: its task asks for more by now; empty if it is."""
    entry, generation = attempt.entry, seen.task.metadata.generation
    if entry is None or entry.handed_over or entry.generation == generation:
        return ""
    wanted = replace(entry, size=size, sidecar=bool(seen.task.spec.progress_file))
    asks = "spec.resources asks for more than attempt {} was admitted with; it queues for that"
    return asks.format(attempt.number) if wanted.outgrows(entry) else ""


def _sparing(seen: Observed, attempt: CurrentAttempt, waiting: Decision) -> Decision:
    """Return *waiting* with an entry that started nothing: it is admitted anew with today's spec, not released."""
    return replace(waiting, then=leftovers_of(seen, spared=attempt.number)) if attempt.is_open else waiting


def _await_sizes(seen: Observed, status: LongTaskStatus, policy: Policy, waiting: Decision) -> Decision | None:
    """Return the decision while the sizes of the inputs are asked for, or None: a late answer is not awaited."""
    asked = seen.suggestion.asked if seen.suggestion else None
    if asked is None or seen.now >= asked + policy.input_wait:
        return None
    if seen.now < asked + QUIET_WAIT:
        return replace(waiting, again_at=earliest(waiting.again_at, asked + min(QUIET_WAIT, policy.input_wait)))
    decision = _waits(seen, status, waiting, policy, QueueReason.BEHIND_OTHERS, "the sizes of its inputs are asked for")
    return replace(decision, again_at=earliest(waiting.again_at, asked + policy.input_wait))


def _give_up(
    seen: Observed, attempt: CurrentAttempt, status: LongTaskStatus, waiting: Decision, why: str, policy: Policy
) -> Decision:
    """Give up an attempt that was admitted and has begun nothing; its number is never used again."""
    given_up = _counted(status, attempt)
    decision = _waits(seen, given_up, waiting, policy, QueueReason.BEHIND_OTHERS, why)
    return replace(decision, first=(confirm_evicted(seen, attempt),) if seen.evicted else ())


def _yield(
    seen: Observed,
    attempt: CurrentAttempt,
    status: LongTaskStatus,
    waiting: Decision,
    yields: Yields,
    policy: Policy,
) -> Decision:
    """Wait for the outcome of the task that has the same idempotency key, or take it over."""
    if taken := take_over(status, yields):
        status, situation = taken
        status = _counted(status, attempt)
        status = record.finish(status, situation, generation=seen.task.metadata.generation, now=seen.now)
        return replace(waiting, status=status, again_at=seen.now)
    status = status.model_copy(update={"duplicate_of": None if yields.conflicts else named(yields.to)})
    return _waits(seen, status, waiting, policy, yields.reason, yields.message)


def _releasing(
    seen: Observed, status: LongTaskStatus, waiting: Decision, live: tuple[PodView, ...], policy: Policy
) -> Decision:
    """Wait for pods of earlier attempts, and give up those whose node is lost where the spec says so."""
    retry, now = seen.task.spec.retry, seen.now
    found = []
    if loss := describe_loss(live, retry, now):
        found.append(HeldBack(reason=QueueReason.NODE_UNREACHABLE, message=loss))
    if not all(lost_since(pod, now) for pod in live):
        message = "the pod of the previous attempt still lives"
        found.append(HeldBack(reason=QueueReason.RELEASING_PREVIOUS, message=message))
    if seen.refusal and is_held_back(seen):
        found.append(why_refused(status, seen.refusal))
    decision = _waits_for(seen, status, waiting, policy, first_of(*found))
    again_at = earliest(waiting.again_at, next_look(live, retry, now))
    return replace(decision, then=(*waiting.then, *forced(live, retry, now)), again_at=again_at)


def _queue(
    seen: Observed, attempt: CurrentAttempt, status: LongTaskStatus, size: Size, waiting: Decision, policy: Policy
) -> Decision:
    task = seen.task
    entry = next_entry(seen, attempt.number if attempt.is_open else attempt.number + 1, size)
    candidate = Candidate(
        key=f"{task.metadata.namespace}/{task.metadata.name}",
        tenant=seen.tenant or "",
        priority=task.spec.priority or 0,
        queued_at=parse_time(status.run_start_time or task.metadata.creation_timestamp),
        entry=entry,
        user=person_of(task.metadata.annotations),
    )
    waiting = replace(waiting, candidate=candidate)
    if seen.held_back:
        return _held_back(seen, status, waiting, seen.held_back, policy)
    due = (seen.waiting_since or seen.now) + QUIET_WAIT
    if seen.now < due:
        return replace(waiting, again_at=min(due, waiting.again_at or due))
    behind = HeldBack(reason=QueueReason.BEHIND_OTHERS, message="waits for its turn")
    return _held_back(seen, status, waiting, behind, policy)


def _held_back(
    seen: Observed, status: LongTaskStatus, waiting: Decision, held_back: HeldBack, policy: Policy
) -> Decision:
    """Show why admission holds the task back."""
    why = why_shown(seen, status, held_back, policy)
    status = with_wait(seen, status, why)
    shown = status.queue.estimated_start if status.queue else None
    if shown and (until := believed_until(shown)) > seen.now:
        waiting = replace(waiting, again_at=earliest(waiting.again_at, until))
    return replace(waiting, status=status, can_wait=not why.inadmissible)


def _waits(
    seen: Observed, status: LongTaskStatus, decision: Decision, policy: Policy, reason: QueueReason, message: str
) -> Decision:
    """Return *decision* of a task that waits for something besides its turn in the queue."""
    return _waits_for(seen, status, decision, policy, HeldBack(reason=reason, message=message))


def _waits_for(seen: Observed, status: LongTaskStatus, decision: Decision, policy: Policy, own: HeldBack) -> Decision:
    status = with_wait(seen, status, why_shown(seen, status, own, policy))
    return replace(decision, status=status, can_wait=may_be_told_later(seen.task.status, status))


def _admissible(seen: Observed, status: LongTaskStatus, policy: Policy) -> Size:
    """Return the size of the next attempt. Raises SpecError where the task cannot start as it is."""
    if seen.tenant is None:
        without = f"namespace {seen.task.metadata.namespace} has no label longtask.dev/tenant"
        advice = "and its own name is no tenant that it may have; ask an administrator to set the label"
        raise SpecError("metadata.namespace", f"{without}, {advice}")
    if not seen.task.spec.image:
        raise SpecError("spec.image", "is needed: the container image to run")
    check_environment(seen.task)
    check_queue(seen.task.spec, allowed=policy.kueue)
    return choose_size(seen.task.spec.resources, status, policy.ladder, seen.suggestion).size


def _settled(seen: Observed, status: LongTaskStatus, leftovers: tuple[Action, ...]) -> Decision:
    """Return the decision for a finished task: observe a new generation, let go, delete after the TTL."""
    meta, ttl = seen.task.metadata, seen.task.spec.ttl_seconds_after_finished
    observed = status.model_copy(update={"observed_generation": meta.generation})
    if status.dead_lettered:  # it is kept until somebody has looked at it
        return Decision(status=observed, then=leftovers)
    expiry = expires_at(parse_time(status.completion_time or meta.creation_timestamp), ttl)
    if expiry is None:
        return Decision(status=observed, then=leftovers)
    if leftovers:
        # Nothing tells when the ledger has let go, so look again.
        return Decision(status=observed, then=leftovers, again_at=max(expiry, seen.now + LETTING_GO))
    if is_tracked(meta.labels, meta.annotations):
        return Decision(status=observed, notices=_ttl_ignored(seen))
    if seen.now >= expiry:
        if seen.rivals and seen.rivals.is_awaited:  # without this one the other would run it again
            return Decision(status=observed, again_at=seen.now + LOOK_AGAIN)
        return Decision(status=observed, then=(DeleteTask(),))
    return Decision(status=observed, again_at=expiry)


def _ttl_ignored(seen: Observed) -> tuple[Notice, ...]:
    if seen.task.status.observed_generation == seen.task.metadata.generation:
        return ()
    message = "ttlSecondsAfterFinished is ignored: a GitOps tool tracks this object and would create it anew"
    return (Notice(reason=EventReason.TTL_IGNORED, message=message, warning=True),)


def _ended(status: LongTaskStatus, leftovers: tuple[Action, ...]) -> Decision:
    return Decision(status=status, then=leftovers)
