"""What a reconcile wants done, as values. `engines/apply.py` carries them out in the order of the fields."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from longtask_operator.api.longtask import LongTask
from longtask_operator.api.status import LongTaskStatus
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.observe import JobView, PodView
from longtask_operator.core.queueing import Candidate
from longtask_operator.core.sizing import Size


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateJob:
    """Create the Job of the attempt in *entry*, unless it is there."""

    entry: LedgerEntry
    tenant: str
    run: int
    deadline: datetime | None  #: of the run, for the worker to know


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmGone:
    """Ask the API server whether really no pod of the attempt is there; with one, nothing else may be done.

    The cache of pods may be behind that of Jobs, and a vanished Job is not a vanished pod.
    """

    namespace: str
    task_uid: str
    attempt: int

    @classmethod
    def of(cls, task: LongTask, attempt: int) -> ConfirmGone:
        """Return the question about *task*'s attempt of that number."""
        return cls(namespace=task.metadata.namespace, task_uid=task.metadata.uid, attempt=attempt)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmUnbegun:
    """Ask the API server whether really neither Job nor pod of the attempt is there; else nothing else may be done.

    The answer to the creation of the Job may have been lost, and the news of it may be under way.
    """

    namespace: str
    task_name: str
    task_uid: str
    attempt: int

    @classmethod
    def of(cls, task: LongTask, attempt: int) -> ConfirmUnbegun:
        """Return the question about *task*'s attempt of that number."""
        meta = task.metadata
        return cls(namespace=meta.namespace, task_name=meta.name, task_uid=meta.uid, attempt=attempt)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmPod:
    """Ask the API server whether the pod still is as it was seen; if not, nothing else may be done.

    Where what is decided rests on its reports, also whether it has not reported since; where it rests on the
    absence of another, also whether that one is *gone*.
    """

    pod: PodView
    gone: str | None = None  #: uid of the other pod of its attempt
    silent: bool = False
    heard: datetime | None = None  #: when it reported last, None: not to this leader


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmHearing:
    """Probe the report channel; unless a report could have come all the time, nothing else may be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmNode:
    """Ask the node's Lease whether it lived after *moment*; until it says so nothing else may be done."""

    node: str
    moment: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmSuspended:
    """Ask the API server whether the Job is suspended now; if not, nothing else may be done.

    The cache of Jobs may be behind that of pods: a Job that was just let go looks as if it were taken back.
    """

    job: JobView


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmEvicted:
    """Ask the ledger whether the attempt still has to give way; if not, nothing else may be done.

    Another operator may have dropped the claim that this one knows of.
    """

    task_uid: str
    attempt: int
    tenant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepEntry:
    """Put *entry* into the ledger: its attempt lives and the ledger does not hold it."""

    entry: LedgerEntry
    tenant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizePod:
    """Raise the attempt's entry to *entry* if the quota allows it, then ask the node for that size in place."""

    pod: PodView
    entry: LedgerEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoResize:
    """Ask no longer for more than *size*: the node does not give it."""

    pod: PodView
    size: Size


@dataclass(frozen=True, slots=True, kw_only=True)
class LowerEntry:
    """Give back what a raise had reserved, once the API server confirms that the pod asks for no more than *entry*."""

    pod: PodView
    entry: LedgerEntry
    tenant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StopJob:
    """Delete the Job; its pods are stopped with their grace."""

    job: JobView


@dataclass(frozen=True, slots=True, kw_only=True)
class StopPod:
    """Delete a pod that lives although its Job is gone."""

    pod: PodView


@dataclass(frozen=True, slots=True, kw_only=True)
class ForceDeletePod:
    """Delete a pod without grace: its node does not answer."""

    pod: PodView


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasePod:
    """Take our finalizer off the pod: its outcome is recorded."""

    pod: PodView


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseEntry:
    """Take the attempt out of the ledger: no live pod of it remains."""

    uid: str
    attempt: int
    tenant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AskWhyNoPod:
    """Ask the API server why the Job has no pod; a refusal ends the decision."""

    job: JobView
    faults_too: bool = False  #: whether a fault that keeps its controller from making one counts as a refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteTask:
    """Delete the LongTask: its TTL has passed."""


#: What must be so, asked again before anything is taken away.
Confirmation = (
    ConfirmGone | ConfirmUnbegun | ConfirmPod | ConfirmHearing | ConfirmNode | ConfirmSuspended | ConfirmEvicted
)

Action = (
    AskWhyNoPod
    | Confirmation
    | CreateJob
    | KeepEntry
    | ResizePod
    | UndoResize
    | LowerEntry
    | StopJob
    | StopPod
    | ForceDeletePod
    | ReleasePod
    | ReleaseEntry
    | DeleteTask
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """An Event for people."""

    reason: str
    message: str
    warning: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The result of one reconcile."""

    #: Before the status is written: each may be repeated.
    first: tuple[Action, ...] = ()
    #: The status as it should stand; None leaves it.
    status: LongTaskStatus | None = None
    #: The status only tells people where things stand: while many change at once it may be written later, or never,
    #: if things have moved on by then.
    can_wait: bool = False
    #: After the status was written: they rely on it.
    then: tuple[Action, ...] = ()
    #: Waits for admission.
    candidate: Candidate | None = None
    #: When to look again if nothing happens before.
    again_at: datetime | None = None
    #: From when on a report may show that the attempt stands still: look when one comes, not at the next write.
    still_at: datetime | None = None
    notices: tuple[Notice, ...] = ()


def earliest(*moments: datetime | None) -> datetime | None:
    """Return the earliest of those that are there, or None."""
    return min((moment for moment in moments if moment is not None), default=None)
