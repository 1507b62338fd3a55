"""Letting go: of attempts whose end is recorded, and of everything of a task that is gone.

A ledger entry is released last, when no live pod remains and no Job can start one.
"""

from __future__ import annotations

from collections.abc import Sequence

from longtask_operator.api.reasons import Cause
from longtask_operator.core.current import Observed, find_attempt
from longtask_operator.core.decision import Action, ReleaseEntry, ReleasePod, StopJob, StopPod
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.observe import JobView, PodView


def release_children(
    jobs: Sequence[JobView], pods: Sequence[PodView], entry: LedgerEntry | None, tenant: str
) -> tuple[Action, ...]:
    """Return the actions that let go of a task that is being deleted or gone: stop what lives, then release."""
    actions: list[Action] = [StopJob(job=job) for job in jobs if not job.deleting]
    actions += [StopPod(pod=pod) for pod in pods if not pod.is_terminal and not pod.deleted_at]
    actions += [ReleasePod(pod=pod) for pod in pods if pod.held]
    gone = not jobs and all(pod.is_terminal for pod in pods)
    return (*actions, *(_release_entry(entry, tenant) if gone else ()))


def leftovers_of(seen: Observed, *, spared: int | None = None) -> tuple[Action, ...]:
    """Return what still has to be let go of: all attempts but the one of number *spared*, whose entry stays too."""
    jobs = [job for job in seen.jobs if job.attempt != spared]
    pods = [pod for pod in seen.pods if pod.attempt != spared]
    live = [pod for pod in pods if not pod.is_terminal]
    controlled = {job.attempt for job in jobs}
    running_on = [job for job in jobs if not _is_done(job, seen)]
    actions: list[Action] = [ReleasePod(pod=pod) for pod in pods if pod.held]
    actions += [StopJob(job=job) for job in running_on]
    actions += [StopPod(pod=pod) for pod in live if pod.attempt not in controlled and not pod.deleted_at]
    release = _release_entry(seen.entry, seen.tenant or "") if spared is None and not live and not running_on else ()
    return (*actions, *release)


def _is_done(job: JobView, seen: Observed) -> bool:
    """Whether *job* starts no pod any more: with one pod over it ends by itself, a second later.

    One that Kueue took back does not, and whoever unsuspends it again gets a second pod.
    """
    if job.finished or job.deleting:
        return True
    ended = find_attempt(seen.task.status, job.attempt)
    taken_back = job.suspended or bool(job.queue and ended and ended.cause == Cause.PREEMPTED)
    return not taken_back and any(pod.attempt == job.attempt and pod.is_over for pod in seen.pods)


def _release_entry(entry: LedgerEntry | None, tenant: str) -> tuple[Action, ...]:
    return (ReleaseEntry(uid=entry.uid, attempt=entry.attempt, tenant=tenant),) if entry else ()
