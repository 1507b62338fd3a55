"""Reads everything one reconcile needs, once, from the caches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime

from longtask_operator.adapters.tasks import TaskRecord
from longtask_operator.api.longtask import LongTask
from longtask_operator.api.phases import TERMINAL
from longtask_operator.api.reasons import ConditionType
from longtask_operator.api.status import Progress
from longtask_operator.core.attempt_size import Suggestion
from longtask_operator.core.checkpoints import Offer, Resumed, is_acceptable, is_news, resumed_by
from longtask_operator.core.conditions import is_true
from longtask_operator.core.current import Observed, find_attempt
from longtask_operator.core.estimate import Pace
from longtask_operator.core.live_growth import ResizeTrouble
from longtask_operator.core.observe import JobView, PodView, judged_at
from longtask_operator.core.precedence import HeldBack
from longtask_operator.core.progress import build_progress, is_worth_mirroring
from longtask_operator.core.redrive import is_redriven
from longtask_operator.core.refusal import Refusal
from longtask_operator.core.signs import Signs, recalled, with_signs
from longtask_operator.core.terms import Terms
from longtask_operator.engines.context import Context
from longtask_operator.engines.keys import Keys
from longtask_operator.engines.ledgers import Ledgers
from longtask_operator.engines.paces import Paces
from longtask_operator.engines.pacing import LastWrites, WriteBudget
from longtask_operator.engines.pod_waits import PodWaits
from longtask_operator.engines.report_book import ReportBook
from longtask_operator.engines.sight import Sight


class Gatherer:
    """Builds `Observed` for a task."""

    def __init__(
        self, context: Context, ledgers: Ledgers, book: ReportBook, budget: WriteBudget, keys: Keys, sight: Sight
    ) -> None:
        self._keys, self._sight = keys, sight
        self._context, self._ledgers, self._book, self._budget = context, ledgers, book, budget
        self.paces = Paces(ledgers, context.clock.now)
        #: Told a task and its tenant; returns why its attempt has to give way.
        self.evicted: Callable[[str, str], str] = lambda uid, tenant: ""
        #: Told a tenant; returns what its quota says of all its tasks.
        self.terms: Callable[[str], Terms | None] = lambda tenant: None
        #: Told a task that is to run, its tenant and the time; returns what to begin it with.
        self.suggest: Callable[[LongTask, str, datetime], Suggestion | None] = lambda task, tenant, now: None
        self.resize_trouble: Callable[[str], ResizeTrouble | None] = lambda pod_uid: None
        #: Told a node; returns when it was seen to come back, if it was away.
        self.node_back_at: Callable[[str], datetime | None] = lambda node: None
        self.learn: Callable[[Iterable[TaskRecord]], None] = lambda records: None  #: told the tasks that are there
        self._waits = PodWaits(context.caches.pods, context.clock.now)

    def children(self, record: TaskRecord) -> tuple[tuple[JobView, ...], tuple[PodView, ...]]:
        """Return the Jobs that this very object controls, and the pods of its attempts."""
        caches = self._context.caches
        jobs = tuple(job for job in caches.jobs.group(record.key) if record.uid == job.task_uid == job.owner_uid)
        now = self._context.clock.now()
        pods = tuple(
            judged_at(self._with_node(self._waits.noted(pod)), now)
            for pod in caches.pods.group(record.key)
            if pod.task_uid == record.uid
        )
        return jobs, pods

    def _with_node(self, pod: PodView) -> PodView:
        back = self.node_back_at(pod.node) if pod.node else None
        return replace(pod, node_back_at=max(back, pod.node_back_at or back)) if back else pod

    def observe(
        self,
        record: TaskRecord,
        task: LongTask,
        *,
        held_back: HeldBack | None,
        refusal: Refusal | None,
        waiting_since: datetime | None,
        written: LastWrites,
    ) -> Observed:
        """Return what is known of *task* now."""
        now = self._context.clock.now()
        jobs, pods = self.children(record)
        progress, cpu_seconds = self._progress(pods, now)
        offered = self._offered(pods)
        signs = self._signs(task, pods, progress)
        if progress and signs:
            progress = with_signs(progress, signs)
        interval = self._context.progress_interval
        worth = progress is not None and is_worth_mirroring(
            task.status.progress, progress, written.progress, now, interval
        )
        resumed = self._resumed(pods)
        worth = worth or (resumed is not None and is_news(resumed, task.status.attempts or ()))
        news = offered is not None and is_acceptable(task, offered, task.status.checkpoint)
        worth = worth or (news and not written.checkpoint_wait(now))
        # What was admitted has its tenant for good, also where the status that says so is shown later.
        known = task.status.tenant or self._ledgers.tenant_of(record.uid)
        tenant = known or self._context.tenant(record.namespace)
        return Observed(
            task=task,
            tenant=tenant,
            entry=self._ledgers.entry(record.uid),
            jobs=jobs,
            pods=pods,
            progress=progress,
            suggestion=self.suggest(task, tenant, now) if tenant else None,
            peak_memory=self._peak_memory(pods),
            memory_used=self._memory_used(pods),
            resize_trouble=self.resize_trouble(newest.uid) if (newest := _newest(pods)) else None,
            cpu_seconds_used=cpu_seconds,
            signs=signs,
            heard=self.received(pods),
            report_interval=self._sight.report_interval,
            hearing_since=self._sight.hearing_since,
            watching_since=self._sight.watching_since,
            mirror_due=worth and self._budget.take(),
            offered=offered,
            resumed=resumed,
            evicted=self.evicted(record.uid, tenant or ""),
            held_back=held_back,
            terms=self.terms(tenant) if tenant and _may_wait(task, pods) else None,
            refusal=refusal,
            rivals=self._keys.rivals_of(record) if record.claim else None,
            pace=self._pace(tenant) if held_back and tenant else None,
            waiting_since=waiting_since,
            now=now,
            jitter=self._context.clock.jitter(),
        )

    def read_past(self) -> None:
        """Learn from finished tasks how long attempts take, and how much memory."""
        self.paces.read(self._context.caches.tasks)
        self.learn(self._context.caches.tasks)

    def received(self, pods: tuple[PodView, ...]) -> datetime | None:
        """Return when the newest attempt's last report came, or None."""
        pod = _newest(pods)
        return self._book.heard(pod.uid) if pod else None

    def _pace(self, tenant: str) -> Pace | None:
        terms = self.terms(tenant)
        return self.paces.of(tenant, terms.most.concurrency if terms else None)

    def _signs(self, task: LongTask, pods: tuple[PodView, ...], progress: Progress | None) -> Signs | None:
        """Return the signs of life of the newest attempt's pod, with what the status still knows of them."""
        pod = _newest(pods)
        if pod is None:
            return None
        recorded = find_attempt(task.status, pod.attempt)
        mirrored = task.status.progress if recorded and recorded.start_time and recorded.pod_uid == pod.uid else None
        return recalled(self._book.signs(pod.uid), pod.uid, mirrored, progress.done if progress else None)

    def _progress(self, pods: tuple[PodView, ...], now: datetime) -> tuple[Progress | None, float | None]:
        pod = _newest(pods)
        latest = self._book.latest(pod.uid) if pod else None
        if pod is None or latest is None:
            return None, None
        report, received = latest
        return build_progress(report, received, pod.running_since, now), report.cpu_seconds

    def _peak_memory(self, pods: tuple[PodView, ...]) -> int | None:
        pod = _newest(pods)
        return self._book.peak_memory(pod.uid) if pod else None

    def _memory_used(self, pods: tuple[PodView, ...]) -> int | None:
        pod = _newest(pods)
        latest = self._book.latest(pod.uid) if pod else None
        return latest[0].memory_bytes if latest else None

    def _offered(self, pods: tuple[PodView, ...]) -> Offer | None:
        """Return the checkpoint that the newest attempt's pod reported last."""
        pod = _newest(pods)
        report = latest[0] if pod and (latest := self._book.latest(pod.uid)) else None
        if pod is None or report is None or report.checkpoint is None:
            return None
        saved, sequence = report.checkpoint, report.checkpoint_sequence
        return Offer(saved=saved, attempt=pod.attempt, pod_uid=pod.uid, sequence=sequence)

    def _resumed(self, pods: tuple[PodView, ...]) -> Resumed | None:
        """Return what the newest attempt's pod reported that it went on from."""
        pod = _newest(pods)
        latest = self._book.latest(pod.uid) if pod else None
        return resumed_by(pod, latest[0].resumed_from) if pod and latest else None


def _newest(pods: tuple[PodView, ...]) -> PodView | None:
    """Return the pod of the newest attempt."""
    return max(pods, key=lambda pod: pod.attempt, default=None)


def _may_wait(task: LongTask, pods: tuple[PodView, ...]) -> bool:
    """Whether the task may be found to wait now: not while what is shown to run does, nor once it has finished."""
    if task.status.phase in TERMINAL:
        return is_redriven(task)
    return not (is_true(task.status, ConditionType.ADMITTED) and any(not pod.is_over for pod in pods))
