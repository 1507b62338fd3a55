"""What only the leader does: from taking the Lease to handing it over."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import structlog

from longtask_operator.adapters.errors import ApiError
from longtask_operator.adapters.events import EventPoster
from longtask_operator.adapters.informer import Informer
from longtask_operator.adapters.object_sizes import S3Sizes
from longtask_operator.core.history import HistoryRule
from longtask_operator.core.input_hint import parse_input_rules, parse_places
from longtask_operator.core.quota import Limits, default_limits
from longtask_operator.engines.admission_loop import AdmissionLoop
from longtask_operator.engines.announce import Announcer
from longtask_operator.engines.apply import Applier
from longtask_operator.engines.bystanders import Bystanders
from longtask_operator.engines.context import Context
from longtask_operator.engines.controller import Controller, Parts
from longtask_operator.engines.departures import Departures
from longtask_operator.engines.editions import Editions
from longtask_operator.engines.evictions import Evictions
from longtask_operator.engines.gather import Gatherer
from longtask_operator.engines.housekeeping import Housekeeping
from longtask_operator.engines.input_sizes import InputSizes
from longtask_operator.engines.keys import Keys
from longtask_operator.engines.late_lines import LateLines
from longtask_operator.engines.ledgers import Ledgers
from longtask_operator.engines.live_pods import CachedPods
from longtask_operator.engines.node_leases import NodeLeases
from longtask_operator.engines.pacing import WriteBudget
from longtask_operator.engines.postponement import Postponement
from longtask_operator.engines.quota_status import QuotaStatus
from longtask_operator.engines.quotas import Quotas
from longtask_operator.engines.refused_pods import RefusedPods
from longtask_operator.engines.report_book import ReportBook
from longtask_operator.engines.reporting import Reporting
from longtask_operator.engines.resizer import Resizer
from longtask_operator.engines.sight import Sight
from longtask_operator.engines.sizer import Sizer
from longtask_operator.engines.spending import Spendings
from longtask_operator.engines.wiring import Wiring
from longtask_operator.engines.workqueue import WorkQueue
from longtask_operator.settings import Settings

_RETRY_SECONDS = 1.0
#: Of statuses that only tell where a task stands, so many a second are shown at once, the others so many seconds later.
_SHOWN_AT_ONCE, _SHOWN_AFTER = 5.0, 3.0
log = structlog.get_logger("longtask.leader")


class Leader:
    """Runs the engines that write."""

    def __init__(
        self,
        controller: Controller,
        ledgers: Ledgers,
        wiring: Wiring,
        reporting: Reporting,
        besides: Sequence[QuotaStatus | Housekeeping],
        *,
        workers: int,
    ) -> None:
        self._besides = besides
        self._controller, self._ledgers, self._wiring = controller, ledgers, wiring
        self._reporting, self._workers = reporting, workers
        self.leads = False

    async def lead(self, informers: Sequence[Informer[Any]], stop: asyncio.Event, since: float) -> None:
        """Read what stood when the Lease was taken, then reconcile until *stop*; all begun work is finished then.

        *since* is that moment of the monotonic clock.
        """
        await self._read_afresh(informers, since)
        self.leads = True
        await self._reporting.prepare()
        parts = self._controller.parts
        background = [
            asyncio.create_task(parts.admission.run(), name="admission"),
            asyncio.create_task(parts.events.run(), name="events"),
            asyncio.create_task(self._reporting.lead(), name="reporting"),
            *(asyncio.create_task(engine.run(), name=type(engine).__name__) for engine in self._besides),
        ]
        working = asyncio.create_task(self._controller.run(self._workers, stop), name="controller")
        try:
            done, _ = await asyncio.wait({working, *background}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (working, *background):
                task.cancel()
            await asyncio.gather(working, *background, return_exceptions=True)

    async def _read_afresh(self, informers: Sequence[Informer[Any]], since: float) -> None:
        """List and load consistently after taking the Lease: what the last leader wrote must be seen first."""
        while True:
            try:
                await asyncio.gather(*(informer.read_since(since) for informer in informers))
                await self._ledgers.load()
                break
            except ApiError as error:
                log.warning("not everything could be read; trying again", error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
        self._controller.parts.departures.sweep()
        self._controller.parts.sight.watches()
        self._controller.parts.gatherer.read_past()
        self._wiring.enqueue_all()


def build_leader(context: Context, settings: Settings, events: EventPoster) -> Leader:
    """Return the leader with all its engines, wired to the caches."""
    queue, ledgers, book = WorkQueue(), Ledgers(context.kube, settings.namespace), ReportBook()
    sight = Sight(context, ledgers, book)
    quotas = Quotas(context, _default_limits(settings))
    keys = Keys(context, ledgers, queue.add)
    admission = AdmissionLoop(ledgers, context.metrics, keys.waking(queue.add), quotas)
    admission.rivals, admission.learn_rivals, keys.known = keys.rivals, keys.learn, quotas.runs.key
    evictions = Evictions(context, ledgers, quotas, admission.claims, queue.add)
    bystanders = Bystanders(context.caches.tasks, admission, quotas, queue.add)
    editions = Editions(context, ledgers, quotas, admission.look_at, admission.is_needed)
    admission.admits = editions.admits
    ledgers.riders.append(editions)
    quotas.listeners += [one.limits_changed for one in (editions, admission, evictions, bystanders)]
    quotas.runs.on_change = admission.run_changed
    spendings = Spendings(ledgers, quotas.budgets, quotas.ledger_of, quotas.now, quotas.is_unreadable)
    ledgers.riders.append(spendings)
    quotas.uses = spendings.uses
    quotas.listeners.append(spendings.limits_changed)
    reporting = Reporting(context, settings, CachedPods(context, ledgers), book, sight)
    resizer, nodes = Resizer(context, admission, events), NodeLeases(context.kube, context.clock.now)
    bundle, refused = reporting.certificate.ca_bundle, RefusedPods(context)
    confirm = (evictions.confirm, sight.still_hears, nodes)
    applier = Applier(context, admission, bundle, book.heard, resizer, refused, *confirm)
    departures = Departures(context, ledgers, applier, admission)
    tellers = [partial(tell, queue.add) for tell in (quotas.runs.tell_if_finished, departures.tell_if_departed)]
    ledgers.appeared += [*tellers, LateLines(context, ledgers, applier, admission, quotas.runs.key).came]
    parts = Parts(
        gatherer=Gatherer(context, ledgers, book, WriteBudget(settings.progress_writes_per_second), keys, sight),
        applier=applier,
        admission=admission,
        announcer=Announcer(context.metrics, events),
        departures=departures,
        book=book,
        events=events,
        sight=sight,
    )
    sizer = Sizer(
        context,
        quotas,
        _history_rule(settings),
        parse_input_rules(settings.input_rules),
        _input_sizes(context, settings, queue),
    )
    parts.gatherer.suggest, parts.gatherer.learn = sizer.suggest, sizer.read
    parts.gatherer.resize_trouble, resizer.wake = resizer.trouble, queue.add
    parts.gatherer.evicted, parts.gatherer.terms = evictions.why, quotas.terms
    parts.gatherer.node_back_at = nodes.back_at
    parts.announcer.on_attempt_end = parts.gatherer.paces.attempt_ended
    shown = Postponement(queue.add, _SHOWN_AT_ONCE, _SHOWN_AFTER)
    controller = Controller(context=context, queue=queue, parts=parts, postponement=shown)
    wiring = Wiring(context, queue, departures, book, controller.forget)
    wiring.attach()
    book.on_alarm = queue.add
    book.on_report, book.on_checkpoint = controller.report_came, controller.checkpoint_came
    sight.on_recovery = wiring.enqueue_running
    quota_status = QuotaStatus(context, ledgers, admission, quotas, editions.stands)
    memories = (context.metrics, parts.gatherer.paces, quotas)
    besides = (quota_status, Housekeeping(context, ledgers, admission, quotas, memories))
    return Leader(controller, ledgers, wiring, reporting, besides, workers=settings.workers)


def _default_limits(settings: Settings) -> Limits:
    return default_limits(settings.default_concurrency, settings.default_cpu, settings.default_memory)


def _input_sizes(context: Context, settings: Settings, queue: WorkQueue) -> InputSizes | None:
    places = parse_places(settings.input_uris)
    return InputSizes(S3Sizes(), places, context.clock.now, queue.add) if places else None


def _history_rule(settings: Settings) -> HistoryRule:
    return HistoryRule(
        enabled=settings.history_days > 0,
        quantile_percent=settings.history_quantile_percent,
        headroom_percent=settings.history_headroom_percent,
        window=timedelta(days=settings.history_days),
    )
