"""How well this operator sees and hears, so that nobody is judged for what we missed.

It looks at itself every two seconds: a process that was stopped, or a clock that was set, missed what came
meanwhile. Reports count as heard from when the report server listens, and while probes of it come through.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog

from longtask_operator.core.observe import PodView
from longtask_operator.core.progress import next_report_seconds
from longtask_operator.core.sight import Probes, is_silence_ours, patience
from longtask_operator.engines.context import Context
from longtask_operator.engines.ledgers import Ledgers
from longtask_operator.engines.report_book import ReportBook

LOOK_SECONDS = 2.0
#: A look so late, or a clock so far off, is a gap.
GAP_SECONDS = 5.0
#: Seconds from one probe to the next: while attempts run, after one that failed, and while there is nobody to judge.
PROBE_SECONDS, PROBE_AGAIN_SECONDS, PROBE_IDLE_SECONDS = 5.0, 2.0, 60.0
#: A probe that began so short a while ago, in seconds, serves all who want one.
_FRESH_SECONDS = 1.0
log = structlog.get_logger("longtask.sight")

#: Returns why a report would not come through now, empty if it would.
Probe = Callable[[], Awaitable[str]]


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
        self.probe: Probe | None = None  #: set before listening
        self._probes, self._probing = Probes(), asyncio.Lock()
        self._probed = float("-inf")  #: when the last probe began, monotonic

    def watches(self) -> None:
        """Note that everything was read afresh."""
        self.watching_since = self._context.clock.now()

    def listens(self) -> None:
        """Note that the report server takes reports, from now on without a gap.

        Who was looked at before could not be judged, and nobody knew when to look again.
        """
        self._listening = self.hearing_since = self._context.clock.now()
        self.on_recovery()

    def look(self) -> None:
        """Judge once whether reports come through."""
        now = self._context.clock.now()
        self.report_interval = float(next_report_seconds(len(self._ledgers.uids())))
        if self._listening is None:
            return
        deaf = self._is_deaf(now)
        self._context.metrics.deaf.set(deaf)
        if deaf:
            if self.hearing_since:
                log.warning("no report comes through; nobody is judged until one can", error=self._probes.error)
            self.hearing_since = None
        elif self.hearing_since is None:
            log.warning("reports come through again")
            self.hearing_since = now
            self.on_recovery()

    def missed(self, seconds: float) -> None:
        """Note that for so long nothing could be seen or heard."""
        log.warning("this process stood still, or its clock was set; what it missed counts for nobody", seconds=seconds)
        if self._listening:
            self.watches()
            self.listens()

    async def still_hears(self) -> bool:
        """Return, from a probe of now, whether reports could come without a gap since `hearing_since`."""
        since = self.hearing_since
        await self._probe(_FRESH_SECONDS)
        return since is not None and self.hearing_since == since

    async def run(self) -> None:
        """Look and probe until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._run_looks())
            group.create_task(self._run_probes())

    async def _run_looks(self) -> None:
        ticks, clock = time.monotonic(), self._context.clock.now()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            ticked, now = time.monotonic() - ticks, self._context.clock.now()
            gap = max(ticked - LOOK_SECONDS, abs((now - clock).total_seconds() - ticked))
            ticks, clock = ticks + ticked, now
            if gap > GAP_SECONDS:
                self.missed(gap)
            self.look()

    async def _run_probes(self) -> None:
        while True:
            await asyncio.sleep(PROBE_AGAIN_SECONDS)
            await self._probe(self._pace())

    def _pace(self) -> float:
        if not any(_lives(pod) for pod in self._context.caches.pods):
            return PROBE_IDLE_SECONDS
        return PROBE_AGAIN_SECONDS if self._probes.failed_at else PROBE_SECONDS

    async def _probe(self, age: float) -> None:
        """Probe the report channel, unless the last probe began less than *age* seconds ago, and judge by it."""
        async with self._probing:
            if self.probe is None or time.monotonic() - self._probed < age:
                return
            self._probed, begun = time.monotonic(), self._context.clock.now()
            error, before = await self.probe(), self._probes
            self._probes = before.after(begun, error, self._book.last_heard)
            if before.say_deaf and error and not self._probes.say_deaf:
                log.warning("reports come, but probes of ours do not; they are not believed", error=error)
            self._context.metrics.probed(came_through=not error)
            self.look()

    def _is_deaf(self, now: datetime) -> bool:
        """Return whether we are deaf; the pods are counted only once nobody was heard for a while."""
        if self._probes.say_deaf:
            return True
        newest, since = self._book.last_heard, self._listening or now
        if newest and now - newest <= patience(self.report_interval):
            return False
        running = [pod for pod in self._context.caches.pods if _lives(pod)]
        heard = [signs.last_report for pod in running if (signs := self._book.signs(pod.uid))]
        return is_silence_ours(now, since, heard, self._unheard(), self.report_interval, probes=self._probes)

    def _unheard(self) -> int:
        """Return how many running tasks reported once, but not to this leader."""
        caches = self._context.caches
        return sum(
            record.reports and not any(self._book.signs(pod.uid) for pod in caches.pods.group(record.key))
            for record in caches.tasks
        )


def _lives(pod: PodView) -> bool:
    return bool(pod.running_since) and not pod.ended and not pod.deleted_at
