"""What the end of an attempt means for its task: done, another attempt, or failed."""

from __future__ import annotations

from longtask_operator.api.errors import SpecError
from longtask_operator.api.reasons import Cause, QueueReason
from longtask_operator.api.status import Attempt, LongTaskStatus, Progress
from longtask_operator.api.times import format_time
from longtask_operator.core import lifecycle, record
from longtask_operator.core.attempt_size import choice_after_oom, size_of_attempt, sizing_of
from longtask_operator.core.causes import AttemptEnd
from longtask_operator.core.checkpoints import accept, last_word
from longtask_operator.core.current import Observed, find_attempt
from longtask_operator.core.decision import Decision
from longtask_operator.core.growth import why_it_cannot_grow
from longtask_operator.core.history import in_mebibytes
from longtask_operator.core.policy import Policy
from longtask_operator.core.precedence import HeldBack
from longtask_operator.core.progress import final_progress
from longtask_operator.core.retry import Action, GiveUp, RetryAt, action_of, decide_ignored, decide_retry
from longtask_operator.core.usage import with_usage
from longtask_operator.core.waits import why_shown, with_wait


def end_attempt(seen: Observed, attempt: Attempt, status: LongTaskStatus, end: AttemptEnd, policy: Policy) -> Decision:
    """Return the decision that records *end* of *attempt*.

    Pods and the ledger are let go of by the next reconcile, which finds the end recorded.
    """
    action = action_of(end.cause, end.exit_code, seen.task.spec.retry)
    if seen.peak_memory and any(pod.attempt == attempt.number for pod in seen.pods):
        attempt = attempt.model_copy(update={"peak_memory": in_mebibytes(seen.peak_memory)})
    status = record.with_end(status, attempt, end, now=seen.now, ignored=action == "Ignore")
    status = with_usage(status, find_attempt(status, attempt.number) or attempt, seen.cpu_seconds_used)
    status = status.model_copy(update={"progress": _last_progress(seen, status, attempt.number, end)})
    status = accept(status, seen.task, attempt, (seen.offered, last_word(end.outcome, attempt)), seen.now)
    generation = seen.task.metadata.generation
    if end.cause is Cause.COMPLETED:
        status = status.model_copy(update={"result": end.outcome.result if end.outcome else None})
        situation = lifecycle.succeeded(f"attempt {attempt.number} completed")
        return Decision(status=record.finish(status, situation, generation=generation, now=seen.now), again_at=seen.now)
    if end.cause is Cause.CANCELLED:
        situation = lifecycle.cancelled(status)
        return Decision(status=record.finish(status, situation, generation=generation, now=seen.now), again_at=seen.now)
    if end.cause is Cause.OUT_OF_MEMORY:
        return _after_oom(seen, attempt, status, end, policy)
    return _after_failure(seen, attempt, status, end, _what_follows(seen, status, end, action), policy)


def _after_oom(seen: Observed, attempt: Attempt, status: LongTaskStatus, end: AttemptEnd, policy: Policy) -> Decision:
    """Return the decision after an out-of-memory kill: the next attempt is larger; the same size again helps nobody."""
    answer, size = _what_follows(seen, status, end, "Retry"), size_of_attempt(attempt)
    resources = seen.task.spec.resources
    if isinstance(answer, GiveUp) or size is None:
        return _after_failure(seen, attempt, status, end, answer, policy)
    try:
        larger = choice_after_oom(size, attempt.number, resources, policy.ladder)
    except SpecError:  # a ceiling that nobody can read: the wait for admission says so
        return _after_failure(seen, attempt, status, end, answer, policy)
    if larger is None:
        message = why_it_cannot_grow(size, resources, policy.ladder)
        return _after_failure(seen, attempt, status, end, GiveUp(message=message, out_of_budget=True), policy)
    status = status.model_copy(update={"sizing": sizing_of(larger, resources)})
    return _after_failure(seen, attempt, status, end, answer, policy)


def _after_failure(
    seen: Observed,
    attempt: Attempt,
    status: LongTaskStatus,
    end: AttemptEnd,
    answer: RetryAt | GiveUp,
    policy: Policy,
) -> Decision:
    generation = seen.task.metadata.generation
    if end.cause is Cause.SUSPENDED:
        situation = lifecycle.waiting(QueueReason.SUSPENDED, "spec.suspend is true")
        status = lifecycle.with_situation(status, situation, generation=generation, now=seen.now)
        return Decision(status=status, again_at=seen.now)
    if isinstance(answer, GiveUp):
        said = f"{record.describe_end(find_attempt(status, attempt.number) or attempt)}; {answer.message}"
        situation = lifecycle.failed(end.cause, said, dead_lettered=answer.out_of_budget)
        status = status.model_copy(update={"dead_lettered": answer.out_of_budget})
        return Decision(status=record.finish(status, situation, generation=generation, now=seen.now), again_at=seen.now)
    status = status.model_copy(update={"next_attempt_time": format_time(answer.not_before)})
    backoff = HeldBack(reason=QueueReason.BACKOFF, message=record.describe_backoff(status))
    return Decision(status=with_wait(seen, status, why_shown(seen, status, backoff, policy)), again_at=seen.now)


def _what_follows(seen: Observed, status: LongTaskStatus, end: AttemptEnd, action: Action) -> RetryAt | GiveUp:
    retry, counts = seen.task.spec.retry, record.counts_by_cause(status)
    ignored = record.ignored_of(status)
    if action == "Fail":
        return GiveUp(message=f"spec.retry.rules says Fail for exit code {end.exit_code}", out_of_budget=False)
    if action == "Ignore":
        return decide_ignored(ignored, counts, retry, now=seen.now, jitter=seen.jitter)
    return decide_retry(end.cause, counts, retry, now=seen.now, jitter=seen.jitter, ignored=ignored)


def _last_progress(seen: Observed, status: LongTaskStatus, number: int, end: AttemptEnd) -> Progress | None:
    """Return the progress to keep: the worker's last word, from a termination message, its report or the mirror.

    The mirror is of an older attempt where this one ended before it was ever shown.
    """
    known = seen.progress or (status.progress if find_attempt(seen.task.status, number) else None)
    return final_progress(known, *end.counted) if end.counted else known
