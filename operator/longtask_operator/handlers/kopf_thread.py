"""Runs Kopf in a thread with a loop of its own, so that its end is not ours: it is started again.

Kopf ends itself on some errors of a watch. It is imported in its thread as well: that takes a
quarter of a second, which nobody who waits for admission after a restart should wait for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from longtask_operator.adapters.kube import Credentials, Kube

if TYPE_CHECKING:
    from longtask_operator.handlers.tenantquotas import OnEvent

_RESTART_SECONDS = 2.0
#: Kopf running so long without an end is well; failing for so long is not.
_TROUBLE_SECONDS = 30.0
log = structlog.get_logger("longtask.kopf")


class KopfThread:
    """Runs Kopf until stopped, again after each end of it; *on_watch* is called in its thread at each watch it begins.

    It never tells of what was deleted before: whoever lists then misses nothing.
    """

    def __init__(
        self, on_event: OnEvent, kube: Kube, credentials: Credentials, on_watch: Callable[[], None] = lambda: None
    ) -> None:
        self._on_event, self._kube, self._credentials, self._on_watch = on_event, kube, credentials, on_watch
        self._loop, self._run_flag = asyncio.new_event_loop(), asyncio.Event()
        self._loop.close()
        self._stop = threading.Event()
        self._may_start: Callable[[], bool] = lambda: True
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)
        self._started = 0.0
        self._failing_since: float | None = None  #: of the failures in a row
        self._error = ""

    def start(self, may_start: Callable[[], bool] = lambda: True) -> None:
        """Start the thread; Kopf itself runs only while *may_start* says so: it never finds a kind that comes later."""
        self._may_start = may_start
        logging.getLogger("kopf").setLevel(logging.WARNING)
        # It warns that signals are not its own in this thread; they are meant for the main one.
        logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
        self._thread.start()

    def trouble(self) -> str:
        """Return why no changes of TenantQuotas arrive, if Kopf has failed again and again, or an empty string."""
        now, since = time.monotonic(), self._failing_since
        failing = since is not None and now - since > _TROUBLE_SECONDS and now - self._started < _TROUBLE_SECONDS
        return f"Kopf does not run: {self._error}" if failing else ""

    def stop(self, timeout: float = 5.0) -> None:
        """Ask Kopf to end and wait for it."""
        self._stop.set()
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # its loop is closed between two runs
                self._loop.call_soon_threadsafe(self._run_flag.set)
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self._may_start():
                self._stop.wait(_RESTART_SECONDS)
                continue
            self._started = time.monotonic()
            try:
                asyncio.run(self._operate())
            except Exception as error:
                self._error = f"{type(error).__name__}: {error}"
                log.warning("kopf ended; starting it again", error=self._error)
            if self._failing_since is None or time.monotonic() - self._started > _TROUBLE_SECONDS:
                self._failing_since = time.monotonic()
            self._stop.wait(_RESTART_SECONDS)

    async def _operate(self) -> None:
        # A flag of this loop: Kopf would wait for a threading one in a thread that outlives its failures.
        self._loop, self._run_flag = asyncio.get_running_loop(), asyncio.Event()
        from longtask_operator.handlers.tenantquotas import operate  # see above

        await operate(self._on_event, self._on_watch, self._kube, self._credentials, self._run_flag)
