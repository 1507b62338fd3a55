"""Which attempt is the current one, and what is known of it.

The number of the current attempt is the highest that status, ledger, Jobs or pods name.
It is open until its end stands in the status. One of an earlier run that the status never showed is none of this run's:
an operator that led at the same time began it when that run had ended for this one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from longtask_operator.api.longtask import LongTask
from longtask_operator.api.reasons import Cause
from longtask_operator.api.status import Attempt, LongTaskStatus, Progress
from longtask_operator.core.attempt_size import Suggestion
from longtask_operator.core.checkpoints import Offer, Resumed
from longtask_operator.core.duplicates import Rivals
from longtask_operator.core.estimate import Pace
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.live_growth import ResizeTrouble
from longtask_operator.core.observe import JobView, PodView
from longtask_operator.core.precedence import HeldBack
from longtask_operator.core.refusal import Refusal
from longtask_operator.core.signs import Signs
from longtask_operator.core.terms import Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything that one reconcile looks at, read once."""

    task: LongTask
    tenant: str | None  #: None: the namespace has none, and its name is not for it to use
    entry: LedgerEntry | None  #: of this task's uid
    jobs: tuple[JobView, ...]  #: controlled by this very LongTask
    pods: tuple[PodView, ...]
    progress: Progress | None = None  #: from the latest report of the current attempt's pod
    suggestion: Suggestion | None = None  #: of a size to begin with, for a task that asks for none
    memory_used: int | None = None  #: bytes, as the current attempt's worker reported last
    resize_trouble: ResizeTrouble | None = None  #: why the current attempt's pod was not resized when that was tried
    peak_memory: int | None = None  #: the most bytes that the current attempt's worker reported
    cpu_seconds_used: float | None = None  #: as the current attempt's worker reported last
    mirror_due: bool = False  #: whether the progress may be written now for its own sake
    offered: Offer | None = None  #: checkpoint that the newest pod reported last
    resumed: Resumed | None = None  #: what the newest pod said that it went on from
    evicted: str = ""  #: why its attempt has to give way, in a sentence
    held_back: HeldBack | None = None  #: why admission does not let it start
    terms: Terms | None = None  #: of its tenant's quota, of a task that may have to wait
    refusal: Refusal | None = None  #: the last of the cluster, while nothing came after it
    rivals: Rivals | None = None  #: who shares its idempotency key
    pace: Pace | None = None  #: of the tenant, for whoever is held back
    waiting_since: datetime | None = None  #: since when it waits for admission
    signs: Signs | None = None  #: of life, of the newest attempt's pod; None: it never reported
    heard: datetime | None = None  #: when that pod last reported to this leader
    report_interval: float = 5.0  #: seconds between reports that workers are asked for
    hearing_since: datetime | None = None  #: since when reports come through without a gap; None: they do not now
    watching_since: datetime | None = None  #: since when this operator sees the cluster without a gap, if it says
    now: datetime
    jitter: float  #: in [0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentAttempt:
    """The newest attempt; *number* is 0 before the first."""

    number: int
    run: int  #: of the task
    newest_known: int  #: number of the newest attempt that the status counts
    recorded: Attempt | None  #: what the status says of it
    entry: LedgerEntry | None
    job: JobView | None
    pods: tuple[PodView, ...]  #: the one that decides comes first

    @property
    def is_open(self) -> bool:
        """Whether its end is not recorded yet, nor was it given up before anything of it was seen."""
        if self.recorded:
            return self.recorded.completion_time is None
        return self.number > self.newest_known and not self.is_from_before

    @property
    def is_from_before(self) -> bool:
        """Whether its Job is of an earlier run, and it is not counted yet."""
        return self.number > self.newest_known and self.job is not None and self.job.run < self.run

    @property
    def stop(self) -> Cause | None:
        """The cause for which it is being ended, if that was decided; a word of a newer operator decides nothing."""
        recorded = self.recorded
        if recorded is None or recorded.completion_time is not None or recorded.cause not in set(Cause):
            return None
        return Cause(recorded.cause)


def current_attempt(seen: Observed) -> CurrentAttempt:
    """Return the newest attempt of the task."""
    status = seen.task.status
    numbers = [status.attempt or 0, seen.entry.attempt if seen.entry else 0]
    number = max([*numbers, *(job.attempt for job in seen.jobs), *(pod.attempt for pod in seen.pods)])
    recorded = find_attempt(status, number)
    return CurrentAttempt(
        number=number,
        run=status.run or 1,
        newest_known=status.attempt or 0,
        recorded=recorded,
        entry=seen.entry if seen.entry and seen.entry.attempt == number else None,
        job=next((job for job in seen.jobs if job.attempt == number), None),
        pods=_deciding_first((pod for pod in seen.pods if pod.attempt == number), recorded),
    )


def find_attempt(status: LongTaskStatus, number: int) -> Attempt | None:
    """Return the recorded attempt of that number, or None."""
    return next((attempt for attempt in status.attempts or () if attempt.number == number), None)


def _deciding_first(pods: Iterable[PodView], recorded: Attempt | None) -> tuple[PodView, ...]:
    """Order pods of one attempt: the recorded one, then one that succeeded, then the oldest.

    The Job controller may start two pods for one Job (kubernetes#120790).
    """
    uid = recorded.pod_uid if recorded else None
    return tuple(sorted(pods, key=lambda pod: (pod.uid != uid, pod.phase != "Succeeded", pod.created, pod.uid)))
