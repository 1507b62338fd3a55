"""The latest word of every live attempt, in memory.

A restart loses it, and the next reports bring it back; so nothing here decides anything.
Bounded: a pod's page is dropped when the pod goes, and the stalest page when the book is full.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from longtask_operator.api.report import Report
from longtask_operator.core.progress import MergedReport, merge_report
from longtask_operator.core.signs import Signs, first_signs, next_signs

#: Twice the live attempts that a cohort's ledger holds at most.
MAX_PAGES = 20_000


def _tell_nobody(task_key: str) -> None:
    return


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    report: MergedReport
    received: datetime
    signs: Signs


class ReportBook:
    """Merged reports by pod uid.

    *on_report* gets namespace/name of a task of which something new is known, `on_checkpoint` of one whose worker
    saved another checkpoint, `on_alarm` of one that is near its memory.
    """

    def __init__(self, on_report: Callable[[str], None] = _tell_nobody, *, max_pages: int = MAX_PAGES) -> None:
        self.on_report = on_report
        self.on_checkpoint: Callable[[str], None] = _tell_nobody
        self.on_alarm: Callable[[str], None] = _tell_nobody
        self._pages: OrderedDict[str, _Page] = OrderedDict()
        self.last_heard: datetime | None = None  #: when anybody reported last
        self._max_pages = max_pages

    def __len__(self) -> int:
        return len(self._pages)

    def record(
        self, pod_uid: str, report: Report, received: datetime, *, task_key: str = "", alarm: int | None = None
    ) -> bool:
        """Merge *report*; return False if it is stale. A stale one is no fault, and a sign of life all the same.

        *alarm* is the memory in use, in bytes, from which the pod is near its end.
        """
        page = self._pages.get(pod_uid)
        self.last_heard = received
        merged = merge_report(page.report if page else None, report, received)
        signs = next_signs(page.signs, page.report, merged, received) if page else first_signs(pod_uid, received)
        if merged is None:
            if page:
                self._pages[pod_uid] = replace(page, signs=signs)
            return False
        self._pages[pod_uid] = _Page(report=merged, received=received, signs=signs)
        self._pages.move_to_end(pod_uid)
        while len(self._pages) > self._max_pages:
            self._pages.popitem(last=False)
        if task_key:
            self.on_report(task_key)
        if task_key and merged.checkpoint != (page.report.checkpoint if page else None):
            self.on_checkpoint(task_key)
        if task_key and alarm is not None and (report.memory_bytes or 0) >= alarm:
            self.on_alarm(task_key)
        return True

    def latest(self, pod_uid: str) -> tuple[MergedReport, datetime] | None:
        """Return all reports of the pod in one and when the last came, or None if there was none."""
        page = self._pages.get(pod_uid)
        return (page.report, page.received) if page else None

    def heard(self, pod_uid: str) -> datetime | None:
        """Return when the pod last reported to this leader, or None."""
        signs = self.signs(pod_uid)
        return signs.last_report if signs else None

    def signs(self, pod_uid: str) -> Signs | None:
        """Return the pod's signs of life since this leader took over, or None if it did not report."""
        page = self._pages.get(pod_uid)
        return page.signs if page else None

    def peak_memory(self, pod_uid: str) -> int | None:
        """Return the largest memory that the pod reported, in bytes, or None."""
        page = self._pages.get(pod_uid)
        return page.report.peak_memory_bytes if page else None

    def forget(self, pod_uid: str) -> None:
        """Drop what is known of a pod that is gone."""
        self._pages.pop(pod_uid, None)
