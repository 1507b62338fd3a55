"""Takes keys of tasks from the queue: gather, reconcile, apply. Many workers, one task at a time each.

The controller remembers only what may be forgotten: since when a task waits, when its
progress was last mirrored, why the cluster refused its Job, from when on a report may show a standstill.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

import structlog

from longtask_operator.adapters.errors import ApiError, Conflict, NotFound
from longtask_operator.adapters.events import EventPoster
from longtask_operator.adapters.tasks import TaskRecord
from longtask_operator.api.errors import SpecError
from longtask_operator.api.longtask import LongTask
from longtask_operator.api.reasons import EventReason, QueueReason
from longtask_operator.api.status import LongTaskStatus
from longtask_operator.core.checkpoints import is_acceptable
from longtask_operator.core.current import Observed
from longtask_operator.core.decision import CreateJob, Decision
from longtask_operator.core.observe import PodView
from longtask_operator.core.reconcile import reconcile
from longtask_operator.core.refusal import Refusal, Refused, next_refusal
from longtask_operator.core.refusals import is_over
from longtask_operator.engines.admission_loop import AdmissionLoop
from longtask_operator.engines.announce import Announcer
from longtask_operator.engines.apply import Applier, NotYetError, RefusedError
from longtask_operator.engines.context import Context
from longtask_operator.engines.departures import Departures
from longtask_operator.engines.faults import FaultLog
from longtask_operator.engines.gather import Gatherer
from longtask_operator.engines.pacing import NEVER, LastWrites
from longtask_operator.engines.postponement import Postponement
from longtask_operator.engines.report_book import ReportBook
from longtask_operator.engines.sight import Sight
from longtask_operator.engines.workqueue import WorkQueue

_DRAIN_SECONDS = 10.0
_LONGEST_OUTAGE_WAIT = 10.0
log = structlog.get_logger("longtask.controller")


@dataclass(slots=True)
class _Memory:
    """What the controller knows of one task beyond the caches."""

    waiting_since: datetime | None = None
    written: LastWrites = NEVER
    refusal: Refusal | None = None
    still_at: datetime | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known."""
        return self == _Memory()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The engines that the controller directs."""

    gatherer: Gatherer
    applier: Applier
    admission: AdmissionLoop
    announcer: Announcer
    departures: Departures
    book: ReportBook
    events: EventPoster
    sight: Sight


@dataclass(slots=True, kw_only=True)
class Controller:
    """Reconciles the tasks whose keys are in *queue*."""

    context: Context
    queue: WorkQueue
    parts: Parts
    postponement: Postponement
    _memories: dict[str, _Memory] = field(default_factory=dict)
    _faults: FaultLog = field(default_factory=FaultLog)

    async def run(self, workers: int, stop: asyncio.Event) -> None:
        """Work until *stop* is set; keys being processed then are finished first."""
        idle = [asyncio.create_task(self._work(stop)) for _ in range(workers)]
        try:
            await stop.wait()
            self.queue.close()
            await asyncio.wait(idle, timeout=_DRAIN_SECONDS)
        finally:
            for worker in idle:
                worker.cancel()
            await asyncio.gather(*idle, return_exceptions=True)

    async def _work(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            key = await self.queue.get()
            if key is None:
                return
            started, failed = time.monotonic(), True
            try:
                await self._process(key)
                self.queue.succeeded(key)
                failed = False
            except (Conflict, NotFound):
                await self._read_again(key)
            except NotYetError as error:
                self.queue.add_after(key, error.seconds)
                failed = False
            except ApiError as error:
                self._faults.report(key, error, self.queue.retry(key, longest=_LONGEST_OUTAGE_WAIT))
            except Exception:
                log.exception("reconcile failed unexpectedly; trying again", key=key, retry_in=self.queue.retry(key))
            finally:
                self.postponement.worked(key)
                self.queue.done(key)
                self.context.metrics.reconciled(time.monotonic() - started, failed=failed)
            # A look that writes nothing awaits nothing: without this, thousands of them would let nobody else run.
            await asyncio.sleep(0)

    async def _process(self, key: str) -> None:
        namespace, _, name = key.partition("/")
        record = self.context.caches.tasks.get(namespace, name)
        if (wait := await self.parts.departures.let_go(key, record)) is not None:
            self.queue.add_after(key, wait)
        if record is None or not self.context.can_judge(record):
            return
        try:
            task = self.context.parsed.parse(record)
        except SpecError as error:
            self.parts.admission.withdraw(record.uid, record.tenant)  # what it waits with is not what it says now
            self.parts.events.post(record, EventReason.INVALID, str(error), warning=True)
            log.error(
                "a stored LongTask does not fit its schema; it waits until it is changed", key=key, error=str(error)
            )
            await self.parts.departures.give_back(record)
            return
        memory = self._memories.setdefault(record.uid, _Memory())
        try:
            seen = self._observe(record, task, memory)
            await self._carry_out(record, seen, reconcile(seen, self.context.policy), memory)
        finally:
            if memory.is_empty:  # of thousands of settled tasks there is nothing to know
                self._memories.pop(record.uid, None)

    def _observe(self, record: TaskRecord, task: LongTask, memory: _Memory) -> Observed:
        return self.parts.gatherer.observe(
            record,
            task,
            held_back=self.parts.admission.held_back(record.uid, task.status.queue),
            refusal=memory.refusal,
            waiting_since=memory.waiting_since,
            written=memory.written,
        )

    async def _carry_out(self, record: TaskRecord, seen: Observed, decision: Decision, memory: _Memory) -> None:
        """Apply *decision* in its order, then arrange for what comes next."""
        if not await self._first(record, seen, decision, memory):
            self.queue.add(record.key)
            return
        if not self._is_postponed(record, seen, decision):
            if decision.status is not None and decision.status != seen.task.status:
                await self._write(record, seen, decision.status, memory)
            await self.parts.applier.act(decision.then, seen)
            for notice in decision.notices:
                self.parts.events.post(record, notice.reason, notice.message, warning=notice.warning)
        if memory.refusal and is_over(seen, decision.status):
            memory.refusal = None
        memory.still_at = decision.still_at
        self._await_admission(record, seen, decision, memory)
        self._come_back(record.key, seen, decision)

    async def _first(self, record: TaskRecord, seen: Observed, decision: Decision, memory: _Memory) -> bool:
        """Carry out what precedes the status; return whether the cluster took it. A refusal is decided upon anew."""
        try:
            await self.parts.applier.act(decision.first, seen)
        except RefusedError as error:
            self._remember_refusal(record, memory, error.refused)
            self.context.metrics.held_back(seen.tenant or "", QueueReason.REFUSED_BY_CLUSTER)
            return False
        if any(isinstance(action, CreateJob) for action in decision.first):
            self._admitted(seen, memory)
        return True

    def _is_postponed(self, record: TaskRecord, seen: Observed, decision: Decision) -> bool:
        """Return whether the status is not to be written yet; nothing may rest on it then."""
        if decision.can_wait and not decision.then and decision.status != seen.task.status:
            return not self.postponement.may(record.key)
        self.postponement.over(record.key)
        return False

    def _admitted(self, seen: Observed, memory: _Memory) -> None:
        """Note that an attempt's Job stands."""
        if memory.waiting_since:
            self.context.metrics.waited((seen.now - memory.waiting_since).total_seconds())
        memory.waiting_since = None

    def _remember_refusal(self, record: TaskRecord, memory: _Memory, refused: Refused) -> None:
        """Note a refusal for the next reconcile; people are told of the first in a row."""
        clock = self.context.clock
        memory.refusal = next_refusal(memory.refusal, refused, now=clock.now(), jitter=clock.jitter())
        if memory.refusal.in_a_row == 1:
            self.parts.events.post(record, EventReason.REFUSED_BY_CLUSTER, refused.message, warning=True)
            what = "pod" if refused.of_pod else "Job"
            log.warning(f"the cluster refused a {what}; trying again", key=record.key, error=refused.message)

    async def _write(self, record: TaskRecord, seen: Observed, status: LongTaskStatus, memory: _Memory) -> None:
        written = await self.parts.applier.write_status(record, status)
        if written is None:
            return
        _, pods = self.parts.gatherer.children(record)
        if status.progress and status.progress != seen.task.status.progress:
            self._mirrored(seen, pods, memory)
        if status.checkpoint != seen.task.status.checkpoint:
            memory.written = replace(memory.written, checkpoint=seen.now)
        peak = max((self.parts.book.peak_memory(pod.uid) or 0 for pod in pods), default=0) or None
        job = max(seen.jobs, key=lambda job: job.attempt, default=None)
        admitted = partial(self.parts.admission.attempts.time, record.uid)
        self.parts.announcer.changed(written, seen.task.status, status, job=job, peak_memory=peak, admitted=admitted)

    def _mirrored(self, seen: Observed, pods: tuple[PodView, ...], memory: _Memory) -> None:
        memory.written = replace(memory.written, progress=seen.now)
        received = self.parts.gatherer.received(pods)
        if received:
            self.context.metrics.report_staleness.observe(max(0.0, (seen.now - received).total_seconds()))

    def _await_admission(self, record: TaskRecord, seen: Observed, decision: Decision, memory: _Memory) -> None:
        if decision.candidate is None:
            self.parts.admission.withdraw(record.uid, seen.tenant or "")
            if seen.entry is None:
                memory.waiting_since = None
            return
        memory.waiting_since = memory.waiting_since or seen.now
        self.parts.admission.submit(replace(decision.candidate, key=record.key))  # an equal, interned string

    def _come_back(self, key: str, seen: Observed, decision: Decision) -> None:
        if seen.progress and not seen.mirror_due and seen.progress != seen.task.status.progress:
            # What was not worth a write, or found no budget, is looked at again without a report.
            self.queue.add_after(key, self._mirror_wait(key) or self.context.progress_interval / 2)
        if not seen.mirror_due and seen.offered and is_acceptable(seen.task, seen.offered, seen.task.status.checkpoint):
            self.queue.add_after(key, self._checkpoint_wait(key) or self.context.progress_interval / 2)
        for moment in (pod.abandoned_at for pod in seen.pods if not pod.abandoned):
            if moment:
                self.queue.add_after(key, max(0.0, (moment - seen.now).total_seconds()) + 0.1)
        if decision.again_at is not None:
            self.queue.add_after(key, max(0.0, (decision.again_at - seen.now).total_seconds()))

    async def _read_again(self, key: str) -> None:
        """After a conflict, or a task that went: what we decided from is old, so read it again and decide anew."""
        namespace, _, name = key.partition("/")
        record = self.context.caches.tasks.get(namespace, name)
        try:
            if record:
                await self.parts.applier.refresh(record)
            self.queue.add(key)
        except ApiError as error:
            self._faults.report(key, error, self.queue.retry(key, longest=_LONGEST_OUTAGE_WAIT))

    def report_came(self, key: str) -> None:
        """Come back to a task of which a report came: when its progress may be written, or at once to judge it."""
        memory = self._memory(key)
        shows_standstill = memory and memory.still_at and self.context.clock.now() >= memory.still_at
        self.queue.add_after(key, 0.0 if shows_standstill else self._mirror_wait(key))

    def checkpoint_came(self, key: str) -> None:
        """Come back to a task whose worker saved a checkpoint as soon as that may be written."""
        self.queue.add_after(key, self._checkpoint_wait(key))

    def _checkpoint_wait(self, key: str) -> float:
        """Return the seconds until another checkpoint of a task may be written."""
        memory = self._memory(key)
        return memory.written.checkpoint_wait(self.context.clock.now()) if memory else 0.0

    def _mirror_wait(self, key: str) -> float:
        """Return the seconds until the progress of a task may be written again."""
        now, memory = self.context.clock.now(), self._memory(key)
        return memory.written.progress_wait(now, self.context.progress_interval) if memory else 0.0

    def _memory(self, key: str) -> _Memory | None:
        namespace, _, name = key.partition("/")
        record = self.context.caches.tasks.get(namespace, name)
        return self._memories.get(record.uid) if record else None

    def forget(self, uid: str) -> None:
        """Drop what is remembered of a task that is gone."""
        self._memories.pop(uid, None)
        self.context.parsed.forget(uid)
