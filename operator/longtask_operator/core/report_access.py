"""Whether a report may be taken. The ids of the request's path count; the token says who asks.

Only one answer stops a worker: that its attempt is outdated, and the API server has to
confirm that first. Whatever is not known yet is `LATER`: a cold cache harms nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto

from longtask_operator.api.status import Checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportPath:
    """What a report is about, from the request's path."""

    namespace: str
    name: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePod:
    """A pod of ours as last seen."""

    uid: str
    namespace: str
    task_name: str
    task_uid: str
    attempt: int
    is_live: bool  #: not in a terminal phase


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveTask:
    """What a report's answer says of a task."""

    uid: str
    attempt: int  #: the current one
    cancel_requested: bool = False
    deadline: datetime | None = None
    memory_limit_bytes: int | None = None
    memory_alarm_bytes: int | None = None  #: in use, from which the attempt is near its end
    checkpoint_requested: bool = False
    checkpoint: Checkpoint | None = None  #: that stands in the status


class Access(Enum):
    """The decision on one report."""

    TAKE = auto()
    FOREIGN = auto()  #: not this attempt's pod
    NO_TASK = auto()
    OUTDATED = auto()  #: a newer attempt is known here; to be confirmed
    LATER = auto()  #: the pod is not known yet


def decide_access(path: ReportPath, sender_namespace: str, pod: LivePod | None, task: LiveTask | None) -> Access:
    """Return whether the sender may report for *path*; *pod* is the sender's, None while it is not known.

    A pod that is not known may still learn that it is outdated: that is how a worker on a
    lost node, whose pod object is gone, ends.
    """
    if sender_namespace != path.namespace:
        return Access.FOREIGN
    if task is None:
        return Access.NO_TASK
    if pod is not None and _is_of_other(pod, path, task):
        return Access.FOREIGN
    if path.attempt < task.attempt:
        return Access.OUTDATED
    if pod is None:
        return Access.LATER
    return Access.TAKE if pod.is_live else Access.FOREIGN


def _is_of_other(pod: LivePod, path: ReportPath, task: LiveTask) -> bool:
    asked = (path.namespace, path.name, task.uid, path.attempt)
    return (pod.namespace, pod.task_name, pod.task_uid, pod.attempt) != asked
