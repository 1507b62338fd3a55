"""Signs of life of one attempt: when it reported, when its work went on, how long its own steps take.

A sign is what the main program does: the count rises, the total or the stage changes; without a count,
the stage or the message. A report alone says that the process lives, not that it works.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

from longtask_operator.api.status import Progress
from longtask_operator.api.times import format_time, parse_optional_time
from longtask_operator.core.progress import MergedReport

T = TypeVar("T", datetime, timedelta)

#: Reports further apart than this, and than three times as usual, left a gap that measures nothing.
_GAP = timedelta(seconds=60)
_GAP_FACTOR = 3
NOTHING = timedelta()


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """Signs of life of the attempt's pod, times as the leader's clock has them."""

    pod_uid: str
    first_report: datetime  #: since when its reports are known without a restart of ours between
    last_report: datetime
    reports: int = 1  #: taken since then
    last_progress: datetime | None = None  #: None: none was seen; the first report is no progress
    longest_step: timedelta = NOTHING  #: longest time from one progress to the next, without gaps in the reports

    @property
    def interval(self) -> timedelta:
        """Mean time between reports, nothing before the second."""
        return (self.last_report - self.first_report) / (self.reports - 1) if self.reports > 1 else NOTHING


def first_signs(pod_uid: str, received: datetime) -> Signs:
    """Return the signs of a pod's first report."""
    return Signs(pod_uid=pod_uid, first_report=received, last_report=received)


def next_signs(signs: Signs, before: MergedReport, after: MergedReport | None, received: datetime) -> Signs:
    """Return *signs* after one more report, which made *after* of *before*; None if it was stale, which is life too."""
    heard = replace(signs, last_report=max(signs.last_report, received), reports=signs.reports + 1)
    if after is None or _work(before) == _work(after):
        return heard
    step = received - (signs.last_progress or signs.first_report)
    if received - signs.last_report > max(_GAP, _GAP_FACTOR * signs.interval):
        step = NOTHING
    return replace(heard, last_progress=received, longest_step=max(signs.longest_step, step))


def recalled(signs: Signs | None, pod_uid: str, mirrored: Progress | None, done: int | None) -> Signs | None:
    """Return *signs* of this leader joined with what the status says of the same attempt; None if there is neither.

    *done* is the count now: above the mirrored one, work went on while nobody looked.
    """
    last = parse_optional_time(mirrored.last_report_time) if mirrored else None
    if mirrored is None or last is None:
        return signs
    progress = parse_optional_time(mirrored.last_progress_time)
    longest = timedelta(seconds=mirrored.longest_step_seconds or 0)
    if signs is None:
        return Signs(pod_uid=pod_uid, first_report=last, last_report=last, last_progress=progress, longest_step=longest)
    went_on = signs.first_report if done is not None and done > (mirrored.done or 0) else None
    return replace(
        signs,
        last_progress=latest(signs.last_progress, went_on, progress),
        longest_step=max(signs.longest_step, longest),
    )


def with_signs(progress: Progress, signs: Signs) -> Progress:
    """Return *progress* with what a restart of the operator must not forget."""
    return progress.model_copy(
        update={
            "last_progress_time": format_time(signs.last_progress) if signs.last_progress else None,
            "longest_step_seconds": round(signs.longest_step.total_seconds()) or None,
        }
    )


def latest(*moments: T | None) -> T | None:
    """Return the latest of those that are there, or None."""
    return max((moment for moment in moments if moment is not None), default=None)


def _work(report: MergedReport) -> tuple[object, ...]:
    if report.done is None:
        return (report.stage, report.message)
    return (report.done, report.total, report.stage)
