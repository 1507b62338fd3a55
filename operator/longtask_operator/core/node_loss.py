"""A pod whose node does not answer any more: what shows it, and when waiting for it ends.

Nobody can say whether its container still runs, so nothing is started beside it. `retry.onNodeLoss: Wait` waits
for the node, or for whoever deletes it. `Replace` deletes the pod by force after `nodeLossTimeoutSeconds`; if the
container lives on, it is fenced: the API server names a newer attempt.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from longtask_operator.api.longtask import Retry
from longtask_operator.api.times import format_time
from longtask_operator.core.decision import Action, ForceDeletePod
from longtask_operator.core.observe import PodView

DEFAULT_TIMEOUT = 600
#: A kubelet that lives has ended a pod so long after its grace.
OVERDUE = timedelta(seconds=60)


def lost_since(pod: PodView, now: datetime) -> datetime | None:
    """Return since when the node of *pod* has not answered, or None while it does.

    Its own words: the cluster took back its readiness though its containers were ready, or nobody ended
    it a minute after its grace.
    """
    if pod.is_terminal or pod.node is None or _is_forced(pod):
        return None
    if pod.node_lost_at:
        return pod.node_lost_at
    return pod.deleted_at if pod.deleted_at and now >= pod.deleted_at + OVERDUE else None


def replaced_at(pod: PodView, retry: Retry | None, now: datetime) -> datetime | None:
    """Return when the pod is to be deleted by force, or None where it is waited for."""
    since = lost_since(pod, now)
    if since is None or retry is None or retry.on_node_loss != "Replace":
        return None
    return since + timedelta(seconds=_timeout(retry))


def forced(pods: tuple[PodView, ...], retry: Retry | None, now: datetime) -> tuple[Action, ...]:
    """Return the deletions by force that are due."""
    moments = [(pod, replaced_at(pod, retry, now)) for pod in pods]
    return tuple(ForceDeletePod(pod=pod) for pod, moment in moments if moment and now >= moment)


def next_look(pods: tuple[PodView, ...], retry: Retry | None, now: datetime) -> datetime | None:
    """Return when, without any event, a pod will count as lost or is to be replaced; None if never."""
    moments = [moment for pod in pods if (moment := replaced_at(pod, retry, now))]
    moments += [pod.deleted_at + OVERDUE for pod in pods if pod.deleted_at and not pod.is_terminal]
    return min((moment for moment in moments if moment > now), default=None)


def describe_loss(pods: tuple[PodView, ...], retry: Retry | None, now: datetime) -> str:
    """Return in a sentence that a pod's node does not answer and what will be done; empty while all answer."""
    for pod in pods:
        if since := lost_since(pod, now):
            said = f"node {pod.node} of pod {pod.name} has not answered since {format_time(since)}"
            moment = replaced_at(pod, retry, now)
            if moment:
                return f"{said}; at {format_time(moment)} it is given up (retry.onNodeLoss: Replace)"
            return f"{said}; waiting for it, as nobody knows whether its container runs (retry.onNodeLoss: Wait)"
    return ""


def _timeout(retry: Retry) -> int:
    return DEFAULT_TIMEOUT if retry.node_loss_timeout_seconds is None else retry.node_loss_timeout_seconds


def _is_forced(pod: PodView) -> bool:
    return pod.deleted_at is not None and pod.grace_seconds == 0
