"""Why an attempt ended, from what its pod really says.

The task container alone decides, its exit code first: exit 0 is Completed even when the
kernel killed a child process for memory (kubernetes#131530), and 137 alone is not an
out-of-memory kill. A pod that is gone without a terminal phase is Lost. An eviction is a Disruption, unless the
program exceeded a limit of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from longtask_operator.api.reasons import Cause
from longtask_operator.core.disk import EVICTED, overflow_of
from longtask_operator.core.observe import Ended, PodView
from longtask_operator.core.outcome import Outcome, log_tail, parse_outcome, parse_progress_line

#: What the kubelet says of a pod that this node cannot run as it is, and that the next one could not either.
REFUSALS = frozenset({"AppArmor", "PodOSNotSupported", "PodOSSelectorNodeLabelDoesNotMatch", "SysctlForbidden"})

#: So long after the end of a container its kubelet may need to let go of the pod; a second as a rule, seen with 1.36.
_LETS_GO_WITHIN = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnd:
    """How an attempt ended."""

    cause: Cause
    exit_code: int | None = None
    message: str = ""
    log_tail: str | None = None
    outcome: Outcome | None = None
    counted: tuple[int, int | None] | None = None  #: done and total, as the worker or our sidecar said last
    started: datetime | None = None
    finished: datetime | None = None


def classify_pod(pod: PodView, stop: Cause | None) -> AttemptEnd:
    """Return how the attempt of *pod*, which is over, ended.

    *stop* is the cause for which the operator had decided to end the attempt, if it had. Exit 0
    outlives such a decision only if the work was done: the worker left an outcome, or the
    container ended before the pod's deletion began.
    """
    ended = pod.ended
    if ended is None and pod.abandoned and pod.running_since:
        return lost("the pod was force-deleted and did not say how it ended")
    if ended is None:
        return _without_container(pod, stop)
    outcome = parse_outcome(ended.message)
    end = AttemptEnd(
        cause=_cause_of_exit(pod, ended, outcome, stop),
        exit_code=ended.exit_code,
        outcome=outcome,
        counted=_counted(outcome, pod),
        log_tail=outcome.log_tail if outcome else log_tail(ended.message),
        started=ended.started,
        finished=ended.finished,
    )
    return replace(end, message=_message_of(end, pod, ended, outcome))


def lost(message: str) -> AttemptEnd:
    """Return the end of an attempt whose pod is gone without having said how it ended."""
    return AttemptEnd(cause=Cause.LOST, message=message)


def _counted(outcome: Outcome | None, pod: PodView) -> tuple[int, int | None] | None:
    if outcome and outcome.done is not None:
        return outcome.done, outcome.total
    return parse_progress_line(pod.sidecar_message)


def _without_container(pod: PodView, stop: Cause | None) -> AttemptEnd:
    if stop:
        return AttemptEnd(cause=stop, message="stopped before the task container started")
    if pod.reason == "DeadlineExceeded":
        return AttemptEnd(cause=Cause.ATTEMPT_TIMEOUT, message=pod.message or "attemptTimeoutSeconds passed")
    if overflow := overflow_of(pod):
        return AttemptEnd(cause=Cause.APPLICATION, message=overflow)
    if pod.disruption or pod.reason == EVICTED:
        return AttemptEnd(cause=Cause.DISRUPTION, message=pod.message or f"the pod was disrupted: {pod.disruption}")
    if pod.deleted_at:
        return AttemptEnd(
            cause=Cause.DISRUPTION, message="the pod was deleted before its container could say how it ends"
        )
    if pod.end_unknown:
        return lost("the node does not know how the task container ended")
    if pod.reason:
        return _refused(pod)
    return AttemptEnd(
        cause=Cause.NEVER_STARTED, message=pod.message or pod.waiting or "the task container never started"
    )


def _refused(pod: PodView) -> AttemptEnd:
    """Return the end of a pod that its node did not take, or did not keep: OutOfcpu, NodeAffinity, NodeShutdown, ….

    The scheduler chose a node that could not run it after all. That is the cluster's fault, not the program's, and
    another node may take it; unless the pod itself asks for what no node gives.
    """
    cause = Cause.REJECTED if pod.reason in REFUSALS else Cause.DISRUPTION
    return AttemptEnd(cause=cause, message=f"refused by node {pod.node}: {pod.reason}: {pod.message}".rstrip(": "))


def _cause_of_exit(pod: PodView, ended: Ended, outcome: Outcome | None, stop: Cause | None) -> Cause:
    if ended.exit_code == 0 and (stop is None or outcome or ended_before_deletion(pod, ended)):
        return Cause.COMPLETED
    if outcome and outcome.permanent:
        return Cause.PERMANENT
    if stop:
        return stop
    if pod.reason == "DeadlineExceeded":
        return Cause.ATTEMPT_TIMEOUT
    if ended.reason == "OOMKilled":
        return Cause.OUT_OF_MEMORY
    if ended.reason in ("StartError", "ContainerCannotRun"):
        return Cause.NEVER_STARTED
    if pod.disruption or pod.reason == EVICTED:
        return Cause.APPLICATION if overflow_of(pod) else Cause.DISRUPTION
    if pod.deleted_at and not ended_before_deletion(pod, ended):
        return Cause.DISRUPTION
    return Cause.APPLICATION


def ended_before_deletion(pod: PodView, ended: Ended) -> bool:
    """Return whether the container had certainly ended when the pod's deletion began (ADR 29).

    Times on the wire have whole seconds. A deletion without grace may be the kubelet's own, by which it lets
    go of a pod that it has ended: when the one before it was asked for nobody knows any more.
    """
    if pod.deleted_at is None or ended.finished is None:
        return pod.deleted_at is None
    before = timedelta(seconds=pod.grace_seconds) if pod.grace_seconds else _LETS_GO_WITHIN
    return ended.finished < pod.deleted_at - before


def _message_of(end: AttemptEnd, pod: PodView, ended: Ended, outcome: Outcome | None) -> str:
    if end.cause is Cause.APPLICATION and (overflow := overflow_of(pod)):
        return overflow
    if end.cause in (Cause.ATTEMPT_TIMEOUT, Cause.DISRUPTION) and (said := _said_by_the_cluster(pod, ended)):
        return said
    if outcome and outcome.message:
        return outcome.message
    if end.cause is Cause.COMPLETED:
        return ""
    if end.cause in (Cause.ATTEMPT_TIMEOUT, Cause.DISRUPTION):
        return f"the pod was deleted, exit code {ended.exit_code}"
    if end.cause is Cause.OUT_OF_MEMORY:
        return "the task container used more than its memory"
    if end.cause is Cause.NEVER_STARTED:
        return ended.message[:1024] or ended.reason
    return f"exit code {ended.exit_code}"


def _said_by_the_cluster(pod: PodView, ended: Ended) -> str:
    """Return why the cluster ended the pod; the last words of a worker, `terminated (SIGTERM)`, only echo that."""
    why = pod.disruption or pod.reason
    return pod.message or (f"{why}, exit code {ended.exit_code}" if why else "")
