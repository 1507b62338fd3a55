"""The composition root: settings become clients, caches, engines and tasks. Nothing imports it but `__main__`.

Every replica keeps its caches warm and answers its probes; only the one that holds the
Lease reconciles, admits and takes reports. Losing the Lease ends the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from longtask_operator import __version__
from longtask_operator.adapters.events import EventPoster
from longtask_operator.adapters.informer import Informer
from longtask_operator.adapters.kube import Credentials, Kube, load_credentials, resource_path
from longtask_operator.adapters.lease import LeaseElector, LeaseLost, LeaseTimes
from longtask_operator.adapters.logs import configure_logs
from longtask_operator.adapters.metrics import Metrics
from longtask_operator.adapters.namespaces import observe_namespace
from longtask_operator.adapters.quotas import observe_quota
from longtask_operator.adapters.tasks import observe_task
from longtask_operator.api.names import API_VERSION, LABEL_MANAGED_BY, LONGTASK_PLURAL, MANAGED_BY, TENANTQUOTA_PLURAL
from longtask_operator.core.jobs import JobPolicy
from longtask_operator.core.live_growth import LiveGrowth
from longtask_operator.core.observe import observe_job, observe_pod
from longtask_operator.core.policy import Policy
from longtask_operator.core.sizing import parse_ladder
from longtask_operator.core.start_limits import StartLimits
from longtask_operator.core.stop_waits import StopWaits
from longtask_operator.engines.context import Clock, Context, new_caches
from longtask_operator.engines.health import Health
from longtask_operator.engines.http import serve_http
from longtask_operator.engines.leader import Leader, build_leader
from longtask_operator.engines.wiring import take_quota_event
from longtask_operator.handlers.kopf_thread import KopfThread
from longtask_operator.settings import Settings

_LEASE_CONNECTIONS = 2
log = structlog.get_logger("longtask.app")


@dataclass(frozen=True, slots=True, kw_only=True)
class Informers:
    """What keeps the caches true. TenantQuotas arrive through Kopf; their informer only lists, to repair."""

    quotas: Informer[Any]
    watching: tuple[Informer[Any], ...]

    @property
    def all(self) -> tuple[Informer[Any], ...]:
        """All of them."""
        return (*self.watching, self.quotas)


async def run_operator(settings: Settings) -> int:
    """Run until a signal or the loss of the Lease; return the exit code."""
    configure_logs(level=settings.log_level, form=settings.log_format)
    gc.set_threshold(50_000, 20, 50)  # full collections over large caches stall the loop for tens of milliseconds
    identity = settings.identity or f"{socket.gethostname()}-{random.randrange(16**6):06x}"
    log.info("starting", version=__version__, identity=identity, namespace=settings.namespace)
    credentials, stop = load_credentials(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    metrics = Metrics(version=__version__, max_tenants=settings.metrics_max_tenants)
    async with _clients(settings, credentials, metrics) as (kube, lease_kube):
        context = _context(settings, kube, metrics)
        elector = _elector(settings, lease_kube, identity)
        kube.may_write = lambda: elector.is_leader
        leader = build_leader(context, settings, EventPoster(kube, identity))
        return await _supervise(settings, credentials, context, elector, leader, stop)


async def _supervise(
    settings: Settings,
    credentials: Credentials,
    context: Context,
    elector: LeaseElector,
    leader: Leader,
    stop: asyncio.Event,
) -> int:
    """Run everything that every replica runs, and the leader while the Lease is held."""
    informers = _informers(context, settings)
    loop = asyncio.get_running_loop()
    held = await elector.take_at_once()  # before anything is read, so that it need not be read twice

    def on_event(kind: str | None, body: dict[str, Any]) -> None:
        loop.call_soon_threadsafe(take_quota_event, context, kind, body)

    def on_watch() -> None:
        loop.call_soon_threadsafe(informers.quotas.nudge)

    kopf_thread = KopfThread(on_event, context.kube, credentials, on_watch)
    health = Health(context.metrics, informers.watching, lambda: elector.is_leader, kopf_thread.trouble)
    server = await serve_http(settings.http_port, context.metrics, health.unhealthy, health.unready)
    background = [
        asyncio.create_task(informers.quotas.run(watch=False), name="informer tenantquotas"),
        *(asyncio.create_task(informer.run(), name="informer") for informer in informers.watching),
        asyncio.create_task(_start_kopf(informers.quotas, kopf_thread), name="kopf"),
        asyncio.create_task(health.run(), name="health"),
    ]
    try:
        return await _lead_until_stopped(elector, leader, informers, background, stop, warm_first=not held)
    finally:
        kopf_thread.stop()
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await server.cleanup()
        log.info("stopped")


async def _lead_until_stopped(
    elector: LeaseElector,
    leader: Leader,
    informers: Informers,
    background: list[asyncio.Task[None]],
    stop: asyncio.Event,
    *,
    warm_first: bool,
) -> int:
    for informer in informers.all if warm_first else ():
        await _first_of(informer.synced.wait(), stop.wait())

    async def lead() -> None:
        await leader.lead(informers.all, stop, elector.held_since)

    leading = asyncio.create_task(elector.run(lead), name="leading")
    stopping = asyncio.create_task(stop.wait(), name="stopping")
    done, _ = await asyncio.wait({leading, stopping, *background}, return_when=asyncio.FIRST_COMPLETED)
    if stopping in done and leader.leads:
        done, _ = await asyncio.wait({leading}, timeout=20)
    stopping.cancel()
    leading.cancel()
    (outcome,) = await asyncio.gather(leading, return_exceptions=True)
    if stop.is_set():
        return 0
    if isinstance(outcome, LeaseLost):
        log.error("the lease is lost; ending, so that nothing is written without it", error=str(outcome))
    for task in done - {leading}:
        log.error(
            "an engine ended; ending the process to start afresh", engine=task.get_name(), error=repr(task.exception())
        )
    return 1


async def _start_kopf(quotas: Informer[Any], thread: KopfThread) -> None:
    """Start Kopf once the kind is there: started before, it would never look again."""
    await quotas.synced.wait()
    thread.start(lambda: not quotas.kind_missing)
    await asyncio.Event().wait()


async def _first_of(*waits: object) -> None:
    pending = [asyncio.ensure_future(wait) for wait in waits]  # type: ignore[call-overload]
    await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()


@contextlib.asynccontextmanager
async def _clients(settings: Settings, credentials: Credentials, metrics: Metrics) -> AsyncIterator[tuple[Kube, Kube]]:
    kube = Kube(credentials, connections=settings.api_connections, observe=metrics.requested)
    lease_kube = Kube(credentials, connections=_LEASE_CONNECTIONS, timeout=settings.lease_retry_seconds + 1)
    async with kube, lease_kube:
        yield kube, lease_kube


def _elector(settings: Settings, kube: Kube, identity: str) -> LeaseElector:
    times = LeaseTimes(
        duration=settings.lease_duration_seconds,
        renew_deadline=settings.lease_renew_deadline_seconds,
        retry=settings.lease_retry_seconds,
    )
    return LeaseElector(kube, settings.namespace, settings.lease_name, identity, times)


def _context(settings: Settings, kube: Kube, metrics: Metrics) -> Context:
    return Context(
        kube=kube,
        caches=new_caches(),
        metrics=metrics,
        clock=Clock(now=lambda: datetime.now(UTC), jitter=random.random),
        policy=_policy(settings),
        job_policy=job_policy(settings),
        unlabelled=settings.tenants_unlabelled,
        progress_interval=settings.progress_interval_seconds,
    )


def job_policy(settings: Settings) -> JobPolicy:
    """Return what the installation says about every Job."""
    return JobPolicy(
        report_base=f"https://{settings.report_host}:{settings.report_port}",
        retention_seconds=settings.attempt_retention_seconds,
        grace_seconds=settings.termination_grace_seconds,
        ephemeral_storage=settings.ephemeral_storage_limit,
        image_pull_policy=settings.image_pull_policy,
        sidecar_image=settings.sidecar_image,
        copied_labels=tuple(key.strip() for key in settings.copied_labels.split(",") if key.strip()),
    )


def _policy(settings: Settings) -> Policy:
    return Policy(
        ladder=parse_ladder(settings.ladder),
        start_limits=StartLimits(
            config=settings.start_limit_config_seconds,
            image=settings.start_limit_image_seconds,
            container=settings.start_limit_container_seconds,
        ),
        stop_waits=StopWaits(
            checkpoint=timedelta(seconds=settings.checkpoint_wait_seconds),
            cancel=timedelta(seconds=settings.cancel_wait_seconds),
        ),
        kueue=settings.kueue,
        input_wait=timedelta(seconds=settings.input_wait_seconds),
        created_by=settings.created_by,
        live_growth=LiveGrowth(threshold_percent=settings.live_threshold_percent),
    )


def _informers(context: Context, settings: Settings) -> Informers:
    caches, ours = context.caches, {"labelSelector": f"{LABEL_MANAGED_BY}={MANAGED_BY}"}
    kube, seconds = context.kube, settings.relist_seconds
    tasks = Informer(
        kube, resource_path(API_VERSION, LONGTASK_PLURAL), caches.tasks, observe_task, relist_seconds=seconds
    )
    jobs = Informer(
        kube, resource_path("batch/v1", "jobs"), caches.jobs, observe_job, relist_seconds=seconds, params=ours
    )
    pods = Informer(kube, resource_path("v1", "pods"), caches.pods, observe_pod, relist_seconds=seconds, params=ours)
    spaces = Informer(
        kube, resource_path("v1", "namespaces"), caches.namespaces, observe_namespace, relist_seconds=seconds
    )
    quotas = Informer(
        kube, resource_path(API_VERSION, TENANTQUOTA_PLURAL), caches.quotas, observe_quota, relist_seconds=seconds
    )
    return Informers(quotas=quotas, watching=(tasks, jobs, pods, spaces))
