"""The operator's real engines in a simulation: the test executes, answers or loses each of its requests.

Nothing of the operator is replaced but its HTTP client, its report server and its clock.
"""

from __future__ import annotations

import asyncio
import traceback
from asyncio.events import _set_running_loop
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar, cast

import structlog

from longtask_operator.adapters.errors import ApiError, NotFound, Unavailable
from longtask_operator.adapters.events import EventPoster
from longtask_operator.adapters.informer import Informer
from longtask_operator.adapters.kube import Kube, resource_path
from longtask_operator.adapters.metrics import Metrics
from longtask_operator.adapters.namespaces import observe_namespace
from longtask_operator.adapters.object_sizes import SizeUnknown
from longtask_operator.adapters.quotas import observe_quota
from longtask_operator.adapters.tasks import observe_task
from longtask_operator.api.names import API_VERSION
from longtask_operator.core.history import HistoryRule
from longtask_operator.core.input_hint import parse_input_rules
from longtask_operator.core.observe import observe_job, observe_pod
from longtask_operator.core.quota import UNLIMITED
from longtask_operator.engines.admission_loop import AdmissionLoop
from longtask_operator.engines.announce import Announcer
from longtask_operator.engines.apply import Applier
from longtask_operator.engines.bystanders import Bystanders
from longtask_operator.engines.context import Clock, Context, new_caches
from longtask_operator.engines.controller import Controller, Parts
from longtask_operator.engines.departures import Departures
from longtask_operator.engines.editions import Editions
from longtask_operator.engines.evictions import Evictions
from longtask_operator.engines.gather import Gatherer
from longtask_operator.engines.input_sizes import InputSizes
from longtask_operator.engines.keys import Keys
from longtask_operator.engines.late_lines import LateLines
from longtask_operator.engines.leader import Leader
from longtask_operator.engines.ledgers import Ledgers
from longtask_operator.engines.live_pods import CachedPods
from longtask_operator.engines.node_leases import NodeLeases
from longtask_operator.engines.pacing import WriteBudget
from longtask_operator.engines.postponement import Postponement
from longtask_operator.engines.quotas import Quotas
from longtask_operator.engines.refused_pods import RefusedPods
from longtask_operator.engines.report_book import ReportBook
from longtask_operator.engines.resizer import Resizer
from longtask_operator.engines.sight import Sight
from longtask_operator.engines.sizer import Sizer
from longtask_operator.engines.wiring import Wiring
from longtask_operator.engines.workqueue import WorkQueue
from tests.builders import JOB_POLICY, POLICY, START
from tests.support.sim_api import DROPPED, Broken, Json, Request, SimApi

T = TypeVar("T")
METRICS = Metrics(version="simulation", max_tenants=10)
KINDS = ("longtasks", "jobs", "pods", "namespaces")
#: The image whose memory follows from its inputs, how it does, and where the store may be asked for them.
READER = "reader"
INPUT_RULES, PLACES = parse_input_rules(f"{READER}=256Mi+100%"), ("s3://store/",)
#: So long at most the real client is busy with a question.
ANSWER_SECONDS = 33
#: Of those that take no time and those between two timers, together: more are a loop without an end.
_MOST_STEPS = 20_000


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still until it is told to pass."""

    def __init__(self) -> None:
        super().__init__()
        self.elapsed = 0.0

    def time(self) -> float:
        """Return the virtual time."""
        return self.elapsed

    def now(self) -> datetime:
        """Return the same as a date."""
        return datetime.fromtimestamp(START.timestamp() + self.elapsed, tz=START.tzinfo)

    def settle(self) -> None:
        """Run whatever can run without time passing."""
        while True:
            self.call_soon(self.stop)
            self.run_forever()
            if not self._ready and not self._due():  # type: ignore[attr-defined]
                return

    def within(self, function: Callable[[], T]) -> T:
        """Call *function* as if inside the loop, which does not go on meanwhile; return what it returns."""
        _set_running_loop(self)
        try:
            return function()
        finally:
            _set_running_loop(None)

    def next_timer(self) -> float | None:
        """Return the time of the next timer, or None."""
        timers = [timer.when() for timer in self._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        return min(timers, default=None)

    def pass_time(self, seconds: float, works: Callable[[], object]) -> None:
        """Let so much time pass. *works* does the next thing that takes no time, and tells whether there was one.

        Raises:
            Broken: if that has no end.
        """
        end = self.elapsed + seconds
        for _ in range(_MOST_STEPS):
            self.settle()
            if works():
                continue
            when = self.next_timer()
            if when is None or when > end:
                self.elapsed = end
                return
            self.elapsed = when
        raise Broken("they never come to rest")

    def _due(self) -> bool:
        when = self.next_timer()
        return when is not None and when <= self.elapsed


@dataclass(slots=True, eq=False)
class Pending:
    """A request that waits: first to be executed, then to be answered."""

    request: Request
    reply: asyncio.Future[Json]
    answer: Json | None = None
    error: ApiError | None = None
    executed: bool = False

    def execute(self, api: SimApi) -> None:
        """Let the API server execute the request; the answer stays under way."""
        if self.executed:
            return
        self.executed = True
        try:
            self.answer = api.handle(self.request)
        except ApiError as error:
            self.error = error
        except Broken as error:
            api.broken = error
            raise

    def deliver(self) -> None:
        """Let the answer arrive."""
        if self.reply.done():
            return
        if self.error:
            self.reply.set_exception(self.error)
        else:
            self.reply.set_result(self.answer or {})

    def lose(self) -> None:
        """Let the connection break, whether the request was executed or not."""
        if not self.reply.done():
            self.reply.set_exception(Unavailable(0, "ConnectionLost", str(self.request)))


@dataclass(slots=True)
class SimKube:
    """Stands in for `Kube`: the same methods, requests instead of HTTP."""

    pending: list[Pending] = field(default_factory=list)
    may_write: bool = True
    crashed: bool = False

    async def _send(self, method: str, path: str, body: Any = None) -> Json:
        if self.crashed:  # a timer of a process that is no more
            raise asyncio.CancelledError
        if method != "GET" and not self.may_write:
            raise Unavailable(0, "NotLeading", path)
        request = Pending(Request(method, path, body), asyncio.get_running_loop().create_future())
        self.pending.append(request)
        return await request.reply

    async def get(self, path: str, **_: str) -> Json:
        return await self._send("GET", path)

    async def list_pages(self, path: str, params: Mapping[str, str] | None = None) -> AsyncIterator[Json]:
        if path.endswith("/events"):
            yield {"items": []}
            return
        page = await self._send("GET", path)
        selector = (params or {}).get("labelSelector", "")
        wanted = dict(term.split("=") for term in selector.split(",") if term and "managed-by" not in term)
        items = [item for item in page["items"] if wanted.items() <= (item["metadata"].get("labels") or {}).items()]
        yield page | {"items": items}

    async def create(self, path: str, body: Json) -> Json:
        if path.endswith("/events"):
            return {}
        return await self._send("POST", path, body)

    async def replace(self, path: str, body: Json) -> Json:
        return await self._send("PUT", path, body)

    async def merge_patch(self, path: str, body: Json) -> Json:
        return await self._send("PATCH", path, body)

    async def drop_finalizer(self, path: str, finalizer: str, *, uid: str) -> Json:
        return await self._send("PATCH", path, {"metadata": {"uid": uid, DROPPED: [finalizer]}})

    async def patch_containers(self, path: str, containers: list[Json], *, version: int) -> Json:
        body = {"metadata": {"resourceVersion": str(version)}, "spec": {"containers": containers}}
        return await self._send("PATCH", path, body)

    async def json_patch(self, path: str, operations: list[Json]) -> Json:
        return await self._send("PATCH", path, operations)

    async def delete(
        self, path: str, *, uid: str, version: str = "", propagation: str = "Background", grace: int | None = None
    ) -> None:
        options = {} if grace is None else {"gracePeriodSeconds": grace}
        preconditions = {"uid": uid, **({"resourceVersion": version} if version else {})}
        try:
            await self._send("DELETE", path, {"preconditions": preconditions, **options})
        except NotFound:
            return


@dataclass(slots=True, eq=False)
class Question:
    """What an operator wants to know of the store, which has not answered yet."""

    uri: str
    reply: asyncio.Future[int]

    def answer(self, size: int | SizeUnknown) -> None:
        """Let the store say so many bytes, or why it does not."""
        if self.reply.done():
            return
        if isinstance(size, int):
            self.reply.set_result(size)
        else:
            self.reply.set_exception(size)


@dataclass(slots=True)
class SimStore:
    """Stands in for `S3Sizes`; it answers when it is told to."""

    asked: list[Question] = field(default_factory=list)

    async def size_of(self, uri: str) -> int:
        question = Question(uri, asyncio.get_running_loop().create_future())
        self.asked.append(question)
        try:
            return await asyncio.wait_for(question.reply, ANSWER_SECONDS)
        except TimeoutError:
            raise SizeUnknown("the store did not answer", of_store=True) from None

    @property
    def questions(self) -> list[Question]:
        """Those that have no answer yet."""
        return [question for question in self.asked if not question.reply.done()]


class _NoReports:
    """Stands in for the report server and for what only mirrors."""

    async def prepare(self) -> None:
        return

    async def lead(self) -> None:
        await asyncio.Event().wait()

    run = lead


class SimOperator:
    """One process of the operator; it leads from the start."""

    def __init__(self, api: SimApi, loop: VirtualLoop) -> None:
        self._api, self._loop = api, loop
        self.kube, self.store = SimKube(), SimStore()
        kube = cast(Kube, self.kube)
        self.context = Context(
            kube=kube,
            caches=new_caches(),
            metrics=METRICS,
            clock=Clock(now=loop.now, jitter=lambda: 0.5),
            policy=replace(POLICY, kueue=True),
            job_policy=JOB_POLICY,
            unlabelled="Own",
            progress_interval=10,
        )
        self.inbox: dict[str, deque[tuple[str, Json]]] = {kind: deque() for kind in KINDS}
        self.informers = self._informers(kube)
        api.watchers.append(self._notice)
        leader = self._build(kube)
        self._stop = asyncio.Event()
        always = float("inf")  # no informer has listed anything by itself here
        self._main = loop.create_task(leader.lead(list(self.informers.values()), self._stop, always))

    def _informers(self, kube: Kube) -> dict[str, Informer[Any]]:
        caches = self.context.caches

        def informer(group_version: str, plural: str, store: Any, observe: Callable[..., Any]) -> Informer[Any]:
            return Informer(kube, resource_path(group_version, plural), store, observe, relist_seconds=600)

        return {
            "longtasks": informer(API_VERSION, "longtasks", caches.tasks, observe_task),
            "jobs": informer("batch/v1", "jobs", caches.jobs, observe_job),
            "pods": informer("v1", "pods", caches.pods, observe_pod),
            "namespaces": informer("v1", "namespaces", caches.namespaces, observe_namespace),
        }

    def _build(self, kube: Kube) -> Leader:
        """Put the engines together as `build_leader` does, without the report server."""
        context, events = self.context, EventPoster(kube, "simulation")
        queue, self.ledgers, book = WorkQueue(), Ledgers(kube, "longtask-system"), ReportBook()
        self.book, self.directory = book, CachedPods(context, self.ledgers)
        quotas = Quotas(context, UNLIMITED)
        for body in self._api.of("tenantquotas"):
            context.caches.quotas.put(observe_quota(body))
        keys = Keys(context, self.ledgers, queue.add)
        admission = AdmissionLoop(self.ledgers, context.metrics, keys.waking(queue.add), quotas)
        admission.rivals, admission.learn_rivals, keys.known = keys.rivals, keys.learn, quotas.runs.key
        evictions = Evictions(context, self.ledgers, quotas, admission.claims, queue.add)
        bystanders = Bystanders(context.caches.tasks, admission, quotas, queue.add)
        editions = Editions(context, self.ledgers, quotas, admission.look_at, admission.is_needed)
        admission.admits = editions.admits
        self.ledgers.riders.append(editions)
        listeners = (editions, admission, evictions, bystanders)
        quotas.listeners += [one.limits_changed for one in listeners]
        quotas.runs.on_change = admission.run_changed
        self.sight = sight = Sight(context, self.ledgers, book)
        resizer = Resizer(context, admission, events)
        refused = RefusedPods(context)
        confirm = (evictions.confirm, sight.still_hears, NodeLeases(kube, self._loop.now))
        applier = Applier(context, admission, lambda: "CA", book.heard, resizer, refused, *confirm)
        departures = Departures(context, self.ledgers, applier, admission)
        tellers = (quotas.runs.tell_if_finished, departures.tell_if_departed)
        self.ledgers.appeared += [partial(tell, queue.add) for tell in tellers]
        self.ledgers.appeared.append(LateLines(context, self.ledgers, applier, admission, quotas.runs.key).came)
        parts = Parts(
            gatherer=Gatherer(context, self.ledgers, book, WriteBudget(20, self._loop.time), keys, sight),
            applier=applier,
            admission=admission,
            announcer=Announcer(context.metrics, events),
            departures=departures,
            book=book,
            events=events,
            sight=sight,
        )
        self.inputs = InputSizes(self.store, PLACES, self._loop.now, queue.add)
        sizer = Sizer(context, quotas, HistoryRule(), INPUT_RULES, self.inputs)
        parts.gatherer.suggest, parts.gatherer.learn = sizer.suggest, sizer.read
        parts.gatherer.resize_trouble, resizer.wake = resizer.trouble, queue.add
        parts.gatherer.evicted, parts.gatherer.terms = evictions.why, quotas.terms
        shown = Postponement(queue.add, 1, 5, self._loop.time)
        controller = Controller(context=context, queue=queue, parts=parts, postponement=shown)
        self.wiring = Wiring(context, queue, departures, book, controller.forget)
        self.wiring.attach()
        book.on_alarm = queue.add
        book.on_report, book.on_checkpoint = controller.report_came, controller.checkpoint_came
        nothing: Any = _NoReports()
        return Leader(controller, self.ledgers, self.wiring, nothing, [nothing], workers=2)

    @property
    def requests(self) -> list[Pending]:
        """The requests that have no answer yet."""
        self.kube.pending = [pending for pending in self.kube.pending if not pending.reply.done()]
        return self.kube.pending

    def deliver(self, plural: str) -> None:
        """Let the next watch event of a kind arrive."""
        if not self.inbox[plural]:
            return
        kind, body = self.inbox[plural].popleft()
        self._loop.within(partial(self.informers[plural]._apply, {"type": kind, "object": body}))

    def relist(self, plural: str) -> None:
        """Begin a full list of a kind; it works on requests like everything else."""
        task = self._loop.create_task(self.informers[plural].relist())
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    def crash(self) -> list[Pending]:
        """Kill the process; return what it had sent and may still be executed."""
        self._api.watchers.remove(self._notice)
        left = [pending for pending in self.requests if not pending.executed and pending.request.method != "GET"]
        self.kube.may_write, self.kube.crashed = False, True
        self._main.cancel()
        self._loop.settle()
        waiting: list[Pending | Question] = [*self.kube.pending, *self.store.asked]
        for one in waiting:
            one.reply.cancel()
        self._loop.settle()
        return left

    def check_alive(self) -> None:
        """Raise Broken if the process ended by itself."""
        if self._main.done():
            raise Broken(f"the operator ended: {self._main}")

    def _notice(self, plural: str, kind: str, body: Json) -> None:
        if plural == "tenantquotas":
            self._loop.call_soon(self.context.caches.quotas.put, observe_quota(body))
        if plural in self.inbox:
            self.inbox[plural].append((kind, body))


class LogTrap:
    """Swallows the log and keeps unexpected exceptions."""

    def __init__(self) -> None:
        self.unexpected: list[str] = []
        self._before = structlog.get_config()
        structlog.configure(processors=[self._take], cache_logger_on_first_use=False)

    def close(self) -> None:
        """Put the configuration back."""
        structlog.configure(**self._before)

    def _take(self, logger: Any, method: str, event: Any) -> Any:
        if event.get("exc_info"):
            self.unexpected.append(f"{event['event']}\n{traceback.format_exc()}")
        raise structlog.DropEvent
