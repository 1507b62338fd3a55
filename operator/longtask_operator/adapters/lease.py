"""Leadership by a Lease: compare-and-swap, a monotonic clock, and a hard deadline of our own.

Two clocks of two hosts are never compared: a candidate takes over only after it has itself
seen no renewal for the lease's duration. A leader that could not renew stops before that,
counting from before the renewal was sent. Neither makes a lock (nothing can); the ledger's
compare-and-swap is what keeps two leaders harmless.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from longtask_operator.adapters.errors import AlreadyExists, ApiError, Conflict, NotFound
from longtask_operator.adapters.kube import Json, Kube, resource_path

log = structlog.get_logger("longtask.lease")


class LeaseLost(Exception):  # noqa: N818 - an event more than an error
    """The Lease could not be renewed in time; whoever led must not write any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTimes:
    """Seconds: see the settings of the same names."""

    duration: float
    renew_deadline: float
    retry: float


class LeaseElector:
    """Runs a body while this process holds the Lease. Give it a Kube of its own, free of other writes."""

    def __init__(self, kube: Kube, namespace: str, name: str, identity: str, times: LeaseTimes) -> None:
        if not times.retry < times.renew_deadline < times.duration:
            raise ValueError("lease: retry < renew deadline < duration is needed")
        self._kube, self._identity, self._times, self._name = kube, identity, times, name
        self._collection = resource_path("coordination.k8s.io/v1", "leases", namespace)
        self._seen: tuple[str | None, str | None] = (None, None)
        self._seen_at = 0.0
        self._valid_until = float("-inf")
        self.held_since = float("inf")  #: of the monotonic clock

    @property
    def is_leader(self) -> bool:
        """Whether a write may still be sent: the last renewal is younger than the renew deadline."""
        return time.monotonic() < self._valid_until

    async def take_at_once(self) -> bool:
        """Try once; return whether the Lease is held. If so, `run` has to follow soon: it renews it.

        Who takes it before reading anything need not read everything again afterwards.
        """
        return await self._try()

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Wait for the Lease, then run *lead* while it is held; on the way out hand it over.

        Raises:
            LeaseLost: if it could not be renewed; *lead* has been cancelled by then.
        """
        while not await self._try():  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(self._times.retry * random.uniform(0.8, 1.2))
        log.info("leading", identity=self._identity)
        body = asyncio.ensure_future(lead())
        try:
            while not body.done():
                await asyncio.wait({body}, timeout=self._times.retry)
                if not await self._try() and not self.is_leader:
                    raise LeaseLost(f"not renewed for {self._times.renew_deadline} s")
            await body
        finally:
            body.cancel()
            await asyncio.gather(body, return_exceptions=True)
            self._valid_until = float("-inf")
            await self._hand_over()

    async def _try(self) -> bool:
        """Acquire or renew once; True if held. A fault is no answer and therefore False."""
        sent = time.monotonic()
        try:
            async with asyncio.timeout(self._times.retry + 1):
                held = await self._acquire()
        except (ApiError, TimeoutError) as error:
            log.debug("lease not reached", error=str(error))
            return False
        if held:
            if not self.is_leader:
                self.held_since = time.monotonic()
            self._valid_until = sent + self._times.renew_deadline
        return held

    async def _acquire(self) -> bool:
        try:
            lease = await self._kube.get(f"{self._collection}/{self._name}")
        except NotFound:
            return await self._create()
        spec = lease.get("spec") or {}
        holder, renewed = spec.get("holderIdentity") or "", spec.get("renewTime")
        if (holder, renewed) != self._seen:
            self._seen, self._seen_at = (holder, renewed), time.monotonic()
        expired = time.monotonic() - self._seen_at >= float(spec.get("leaseDurationSeconds") or self._times.duration)
        if holder not in ("", self._identity) and not expired:
            return False
        transitions = int(spec.get("leaseTransitions") or 0)
        kept = {"acquireTime": spec.get("acquireTime") or _now(), "leaseTransitions": transitions}
        if holder != self._identity:
            kept = {"acquireTime": _now(), "leaseTransitions": transitions + 1}
        try:
            await self._kube.replace(f"{self._collection}/{self._name}", lease | {"spec": self._spec() | kept})
        except Conflict:
            return False
        return True

    async def _create(self) -> bool:
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name},
            "spec": self._spec() | {"acquireTime": _now(), "leaseTransitions": 0},
        }
        try:
            await self._kube.create(self._collection, body)
        except AlreadyExists:
            return False
        return True

    def _spec(self) -> Json:
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(self._times.duration),
            "renewTime": _now(),
        }

    async def _hand_over(self) -> None:
        """Give the Lease back if it is ours, so that the next leader need not wait."""
        try:
            async with asyncio.timeout(self._times.retry + 1):
                lease = await self._kube.get(f"{self._collection}/{self._name}")
                if (lease.get("spec") or {}).get("holderIdentity") == self._identity:
                    spec = lease["spec"] | {"holderIdentity": "", "leaseDurationSeconds": 1}
                    await self._kube.replace(f"{self._collection}/{self._name}", lease | {"spec": spec})
        except (ApiError, TimeoutError) as error:
            log.info("lease not handed over; it expires by itself", error=str(error))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
