"""What the probes say, and the gauges that go with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from longtask_operator.adapters.informer import Informer
from longtask_operator.adapters.metrics import Metrics

#: A loop that did not turn for so long is stuck; its probe would hardly answer anyway.
_STUCK_SECONDS = 30.0
#: Bookmarks come about once a minute, so a cache that heard nothing for so long is cut off.
_DEAF_SECONDS = 300.0
_BEAT_SECONDS = 1.0


class Health:
    """Judges the process from its own heartbeat and the age of its caches."""

    def __init__(
        self,
        metrics: Metrics,
        informers: Sequence[Informer[Any]],
        is_leader: Callable[[], bool],
        trouble: Callable[[], str],
    ) -> None:
        self._metrics, self._informers, self._is_leader, self._trouble = metrics, informers, is_leader, trouble
        self._beat = time.monotonic()

    async def run(self) -> None:
        """Beat, and keep the gauges of leadership and cache age."""
        while True:
            self._beat = time.monotonic()
            self._metrics.leader.set(1 if self._is_leader() else 0)
            watching = [informer.age for informer in self._informers if informer.synced.is_set()]
            self._metrics.cache_age.set(max(watching, default=0.0))
            await asyncio.sleep(_BEAT_SECONDS)

    def unhealthy(self) -> str:
        """Return why the process should be restarted, or an empty string."""
        late = time.monotonic() - self._beat
        return f"the event loop did not turn for {late:.0f} s" if late > _STUCK_SECONDS else ""

    def unready(self) -> str:
        """Return why the process cannot do its work now, or an empty string."""
        for informer in self._informers:
            if not informer.synced.is_set():
                return "a cache is not filled yet"
        age = max(informer.age for informer in self._informers)
        return f"no word from the API server for {age:.0f} s" if age > _DEAF_SECONDS else self._trouble()
