"""What the cluster refuses is a wait, not a failure: quotas on pods, Pod Security, LimitRanges, policies, webhooks.

A refusal may concern the Job, or only its pod: then the Job stands without one, and only Events say why. Its
controller would try on and could start the pod at any moment, so the attempt is given up: in the status first, then its
Job is deleted like that of any attempt that is over. The wait holds no quota and keeps its place; each further one
is twice as long. A number that had a Job is not used again, and no budget is charged.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from longtask_operator.api.reasons import QueueReason
from longtask_operator.api.status import LongTaskStatus
from longtask_operator.core.current import CurrentAttempt, Observed
from longtask_operator.core.decision import AskWhyNoPod, ConfirmGone, Decision, ReleaseEntry
from longtask_operator.core.handover import began
from longtask_operator.core.policy import Policy
from longtask_operator.core.precedence import HeldBack
from longtask_operator.core.refusal import Refusal, says_the_same
from longtask_operator.core.release import leftovers_of
from longtask_operator.core.waits import why_shown, with_wait

#: A Job without a pod for so long may have been refused one; asked again at twice the age, at most so far apart.
ASK_AFTER, ASK_LAST = timedelta(seconds=2), timedelta(seconds=60)
#: A time-out is no refusal, and the Job's controller tries again. One that lasts, as with a webhook that does not
#: answer, is as good as one: the attempt would hold its quota for nothing, and be charged for never having started.
FAULT_LASTS = timedelta(seconds=30)


def give_up_refused(seen: Observed, attempt: CurrentAttempt, status: LongTaskStatus, policy: Policy) -> Decision | None:
    """Return what gives up an *attempt* whose pod the cluster refused, or None where it did not or a pod came."""
    refusal = seen.refusal
    if refusal is None or not refusal.of_pod or refusal.attempt != attempt.number or attempt.pods or attempt.stop:
        return None
    given_up = _shown(seen, _without(status, attempt.number), refusal, policy)
    # A pod may have come after what was said of earlier tries, or of one that took too long to be answered.
    confirm = ConfirmGone.of(seen.task, attempt.number)
    return Decision(first=(confirm,), status=given_up, then=leftovers_of(seen), again_at=refusal.until)


def wait_refused(seen: Observed, status: LongTaskStatus, waiting: Decision, policy: Policy) -> Decision | None:
    """Return the wait of a task that the cluster refused, or None when it is over."""
    refusal = seen.refusal
    if refusal is None or not is_held_back(seen):
        return None
    again_at = min(refusal.until, waiting.again_at or refusal.until)
    shown = replace(waiting, status=_shown(seen, status, refusal, policy), again_at=again_at)
    release = next((action for action in waiting.then if isinstance(action, ReleaseEntry)), None)
    if release is None or not refusal.of_pod:
        return shown
    return replace(shown, first=(ConfirmGone.of(seen.task, release.attempt),))


def is_held_back(seen: Observed) -> bool:
    """Return whether nothing may be asked for now; another spec may be taken where the last one was refused."""
    refusal = seen.refusal
    return refusal is not None and refusal.generation == seen.task.metadata.generation and seen.now < refusal.until


def is_over(seen: Observed, status: LongTaskStatus | None) -> bool:
    """Return whether the refusal may be forgotten: a later pod came, or the task ended."""
    refusal = seen.refusal
    came = refusal is not None and any(pod.attempt >= refusal.attempt for pod in seen.pods)
    return came or (status or seen.task.status).completion_time is not None


def ask_why(seen: Observed, attempt: CurrentAttempt) -> tuple[tuple[AskWhyNoPod, ...], datetime | None]:
    """Return the question why the Job of *attempt* has no pod, where it is due, and when it is due next.

    The moments follow from the time since it could have one alone, so that nothing has to be remembered.
    """
    if attempt.job is None or attempt.pods or attempt.job.deleting or attempt.job.suspended:
        return (), None
    begun, age = began(attempt), seen.now - began(attempt)
    if age < ASK_AFTER:
        return (), begun + ASK_AFTER
    return (AskWhyNoPod(job=attempt.job, faults_too=age >= FAULT_LASTS),), seen.now + min(age, ASK_LAST)


def _without(status: LongTaskStatus, number: int) -> LongTaskStatus:
    """Return *status* with attempt *number* given up: nothing of it ever ran, so it has no place in the history."""
    known = [attempt for attempt in status.attempts or () if attempt.number != number]
    return status.model_copy(update={"attempts": known or None, "attempt": max(status.attempt or 0, number)})


def _shown(seen: Observed, status: LongTaskStatus, refusal: Refusal, policy: Policy) -> LongTaskStatus:
    """Return *status* as that of a task that waits; what was said of the same refusal before stays."""
    return with_wait(seen, status, why_shown(seen, status, why_refused(status, refusal), policy))


def why_refused(status: LongTaskStatus, refusal: Refusal) -> HeldBack:
    """Return what is said of *refusal*: the words that *status* has for the same one, or its own."""
    said, message = status.queue, refusal.message
    if said and said.reason == QueueReason.REFUSED_BY_CLUSTER and says_the_same(said.message, message):
        message = said.message
    return HeldBack(reason=QueueReason.REFUSED_BY_CLUSTER, message=message)
