"""List, then watch, then list again: keeps a store true for ever.

Faults of the API server never end an informer. It says what is wrong, once per kind of
fault, waits with backoff and goes on by itself; `age` tells how old its view may be.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Generic

import structlog

from longtask_operator.adapters.errors import ApiError, Forbidden, Gone, NotFound, Unavailable
from longtask_operator.adapters.kube import Kube
from longtask_operator.adapters.store import Store, V

#: So many objects of a list are taken in before others get a turn: one takes some 100 microseconds.
_AT_A_TIME = 50
_BACKOFF = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
log = structlog.get_logger("longtask.informer")


class Informer(Generic[V]):
    """One kind, selected on the server by *params*; *observe* turns objects into views, None skips one."""

    def __init__(
        self,
        kube: Kube,
        path: str,
        store: Store[V],
        observe: Callable[[Mapping[str, Any]], V | None],
        *,
        relist_seconds: float,
        params: Mapping[str, str] | None = None,
    ) -> None:
        self._kube, self._path, self._store, self._observe = kube, path, store, observe
        self._relist_seconds, self._params = relist_seconds, dict(params or {})
        self._contact = float("-inf")
        self._began = self._listed = float("-inf")  #: when the latest list began, and the latest that succeeded
        self._failures = 0
        self._said = ""
        self.synced = asyncio.Event()
        self._nudged = asyncio.Event()
        self.kind_missing = False  #: the API server does not know the kind

    @property
    def age(self) -> float:
        """Seconds since the API server last told this informer anything; infinite before the first list."""
        return time.monotonic() - self._contact

    async def run(self, *, watch: bool = True) -> None:
        """Keep the store true until cancelled. Without *watch* only the periodic lists are done."""
        while True:
            try:
                version = await self.relist()
                if watch:
                    await self._follow(version)
                else:
                    await self._rest()
            except Gone:
                log.info("list again: the watch fell too far behind", path=self._path)
            except ApiError as error:
                await self._wait_out(error)

    def nudge(self) -> None:
        """List again now: what else tells of changes may have missed some until now."""
        self._nudged.set()

    async def _rest(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._relist_seconds):
                await self._nudged.wait()
        self._nudged.clear()

    async def relist(self) -> str:
        """Read all objects page by page, repair the store, return the list's resourceVersion. Raises ApiError.

        Only two pages are in memory at a time, and what the store holds already is not looked at again.
        """
        began = self._began = time.monotonic()
        version, listed = "", set[tuple[str, str]]()
        async for page in self._kube.list_pages(self._path, self._params):
            version = version or str(page["metadata"]["resourceVersion"])
            for number, item in enumerate(page["items"], start=1):
                if key := self._take(item):
                    listed.add(key)
                if number % _AT_A_TIME == 0:
                    await asyncio.sleep(0)
            self._heard()
        self._store.retain(listed, int(version))
        self._listed = began
        self.synced.set()
        return version

    async def read_since(self, moment: float) -> None:
        """Return once the store holds what stood at *moment* of the monotonic clock; lists again only if it must.

        Raises:
            ApiError: if a list is needed and fails.
        """
        if not self.synced.is_set() and self._began >= moment:
            await self.synced.wait()  # the first list, which `run` repeats until it succeeds
        elif self._listed < moment:
            await self.relist()

    def _take(self, body: Mapping[str, Any]) -> tuple[str, str] | None:
        """Take an object in; return its namespace and name, None if it is none of ours.

        What the store holds is not looked at again: every write of our own comes back as an event.
        """
        meta = body["metadata"]
        key = (sys.intern(meta.get("namespace", "")), meta["name"])
        if self._store.holds(*key, meta["uid"], int(meta["resourceVersion"])):
            return key
        if (view := self._observe(body)) is None:
            return None
        self._store.put(view)
        return (view.namespace, view.name)

    async def _follow(self, version: str) -> None:
        """Apply watch events from *version* on, until it is time to list again. Raises ApiError."""
        until = time.monotonic() + self._relist_seconds
        while (left := until - time.monotonic()) > 0:
            try:
                timeout = max(1.0, min(left, 300.0))
                async for event in self._kube.watch(
                    self._path, self._params, resource_version=version, timeout=timeout
                ):
                    version = event["object"]["metadata"]["resourceVersion"]
                    self._heard()
                    self._apply(event)
            except Unavailable as error:
                await self._wait_out(error)

    def _apply(self, event: Mapping[str, Any]) -> None:
        body = event["object"]
        if event["type"] == "BOOKMARK":
            return
        if event["type"] == "DELETED":
            meta = body["metadata"]
            self._store.remove(meta.get("namespace", ""), meta["name"], meta["uid"], int(meta["resourceVersion"]))
        else:
            self._take(body)

    def _heard(self) -> None:
        self._contact = time.monotonic()
        if self._failures:
            log.info("recovered", path=self._path, failures=self._failures)
        self._failures, self._said, self.kind_missing = 0, "", False

    async def _wait_out(self, error: ApiError) -> None:
        delay = _BACKOFF[min(self._failures, len(_BACKOFF) - 1)]
        self._failures += 1
        self.kind_missing = isinstance(error, NotFound)
        if (said := type(error).__name__) != self._said:
            log.warning(advice_for(error, self._path), path=self._path, error=str(error), retry_in_seconds=delay)
            self._said = said
        await asyncio.sleep(delay)


def advice_for(error: ApiError, path: str) -> str:
    """Return in a sentence what is wrong and what to do about it."""
    if isinstance(error, NotFound):
        return f"the API server does not know {path}; install the CRDs of the chart"
    if isinstance(error, Forbidden):
        return f"no permission to read {path}; restore the operator's ClusterRole and its binding"
    if error.status == 401:
        return "the API server does not accept our credentials; check the ServiceAccount token"
    return "the API server does not answer; waiting for it"
