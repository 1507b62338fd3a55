"""How well this operator sees and hears, so that nobody is judged for what we missed.

It looks at itself every two seconds: a process that was stopped, or a clock that was set, missed what came
meanwhile. Reports count as heard from when the report server listens. Costly only while nobody reports.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime

import structlog

from longtask_operator.core.progress import next_report_seconds
from longtask_operator.core.sight import is_deaf, patience
from longtask_operator.engines.context import Context
from longtask_operator.engines.ledgers import Ledgers
from longtask_operator.engines.report_book import ReportBook

LOOK_SECONDS = 2.0
#: A look so late, or a clock so far off, is a gap.
GAP_SECONDS = 5.0
log = structlog.get_logger("longtask.sight")


def _nothing() -> None:
    return


class Sight:
    """Says since when the cluster is watched and reports are heard; *on_recovery* is called when they are again."""

    def __init__(self, context: Context, ledgers: Ledgers, book: ReportBook) -> None:
        self._context, self._ledgers, self._book = context, ledgers, book
        self._listening: datetime | None = None  #: since when reports could come without a gap of ours
        self.watching_since: datetime | None = None
        self.hearing_since: datetime | None = None
        self.report_interval = float(next_report_seconds(0))
        self.on_recovery: Callable[[], None] = _nothing

    def watches(self) -> None:
        """Note that everything was read afresh."""
        self.watching_since = self._context.clock.now()

    def listens(self) -> None:
        """Note that the report server takes reports, from now on without a gap."""
        self._listening = self.hearing_since = self._context.clock.now()

    def look(self) -> None:
        """Judge once whether reports come through."""
        now = self._context.clock.now()
        self.report_interval = float(next_report_seconds(len(self._ledgers.uids())))
        if self._listening is None:
            return
        if self._nobody_heard(now):
            if self.hearing_since:
                log.error("no report of any task comes through; nobody is judged until one does")
            self.hearing_since = None
        elif self.hearing_since is None:
            log.warning("reports come through again")
            self._listening = self.hearing_since = now
            self.on_recovery()

    def missed(self, seconds: float) -> None:
        """Note that for so long nothing could be seen or heard."""
        log.warning("this process stood still, or its clock was set; what it missed counts for nobody", seconds=seconds)
        if self._listening:
            self.watches()
            self.listens()

    async def run(self) -> None:
        """Look until cancelled."""
        ticks, clock = time.monotonic(), self._context.clock.now()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            ticked, now = time.monotonic() - ticks, self._context.clock.now()
            gap = max(ticked - LOOK_SECONDS, abs((now - clock).total_seconds() - ticked))
            ticks, clock = ticks + ticked, now
            if gap > GAP_SECONDS:
                self.missed(gap)
            self.look()

    def _nobody_heard(self, now: datetime) -> bool:
        """Return whether we are deaf; the pods are counted only once nobody was heard for a while."""
        newest, since = self._book.last_heard, self._listening or now
        if newest and now - newest <= patience(self.report_interval):
            return False
        running = [
            pod for pod in self._context.caches.pods if pod.running_since and not pod.ended and not pod.deleted_at
        ]
        heard = [signs.last_report for pod in running if (signs := self._book.signs(pod.uid))]
        return is_deaf(now, since, heard, self._unheard(), self.report_interval)

    def _unheard(self) -> int:
        """Return how many running tasks reported once, but not to this leader."""
        caches = self._context.caches
        return sum(
            record.reports and not any(self._book.signs(pod.uid) for pod in caches.pods.group(record.key))
            for record in caches.tasks
        )
