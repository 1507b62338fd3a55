"""A queue of keys: a key waits once however often it was added, and is worked on by one worker at a time.

The rules are those of client-go's workqueue: a key added while it is being processed is
processed again afterwards; delays keep the earliest time. Namespaces take turns.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Iterable

from longtask_operator.engines.pacing import EARLY_SECONDS
from longtask_operator.engines.turns import Turns

_FIRST_RETRY, _LAST_RETRY = 0.05, 60.0
#: So many times that others have replaced may stand, besides as many as count: a heap of fewer costs nothing.
_SPARE_TIMES = 64


class WorkQueue:
    """Keys ready to be worked on, and keys with a time. Belongs to one event loop."""

    def __init__(self) -> None:
        self._ready = Turns()
        self._dirty: set[str] = set()
        self._processing: set[str] = set()
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._failures: dict[str, int] = {}
        self._retry_at: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._arrived = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return len(self._ready)

    def add(self, key: str) -> None:
        """Make *key* ready, unless it already waits."""
        if key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._processing:
            self._ready.put(key)
            self._arrived.set()

    def arrange(self, keys: Iterable[str]) -> None:
        """Make *keys* ready in this order, before all that are ready already."""
        before, self._ready = dict.fromkeys(self._ready), Turns()
        for key in keys:
            self._dirty.add(key)
            before.pop(key, None)
            if key not in self._processing:
                self._ready.put(key)
        for key in before:
            self._ready.put(key)
        self._arrived.set()

    def add_after(self, key: str, seconds: float) -> None:
        """Make *key* ready in *seconds*, at once if that is 0, or earlier if it has an earlier time already."""
        if seconds <= 0:
            self.add(key)
            return
        # A shorter wait would be over before any time has passed, again and again.
        when = asyncio.get_running_loop().time() + max(seconds, EARLY_SECONDS)
        if when < self._due.get(key, float("inf")):
            self._due[key] = when
            heapq.heappush(self._heap, (when, key))
            self._drop_replaced()
            if self._heap[0] == (when, key):
                self._set_timer()

    def retry(self, key: str, *, longest: float = _LAST_RETRY) -> float:
        """Make *key* ready after a backoff that grows with its failures in a row; return the wait in seconds.

        A failure before the last wait was over (an event had made the key ready) counts as the same one.
        """
        now = asyncio.get_running_loop().time()
        pending = self._retry_at.get(key, 0.0) - now
        if pending > 0:
            self.add_after(key, pending)
            return pending
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        wait = min(longest, _FIRST_RETRY * 2.0 ** min(failures - 1, 20)) * random.uniform(0.75, 1.0)
        self._retry_at[key] = now + wait
        self.add_after(key, wait)
        return wait

    def succeeded(self, key: str) -> None:
        """Forget the failures of *key*."""
        self._failures.pop(key, None)
        self._retry_at.pop(key, None)

    def close(self) -> None:
        """Let everyone who waits for a key go with None."""
        self._closed = True
        self._arrived.set()

    async def get(self) -> str | None:
        """Return the next key, None once the queue is closed; call `done` with it when it is processed."""
        while not self._ready and not self._closed:
            self._arrived.clear()
            await self._arrived.wait()
        if self._closed:
            return None
        key = self._ready.take()
        self._dirty.discard(key)
        if not self._dirty:
            self._dirty.clear()  # an empty set keeps the room of ten thousand keys otherwise
        self._processing.add(key)
        return key

    def done(self, key: str) -> None:
        """End the processing of *key*; if it was added meanwhile it is ready again."""
        self._processing.discard(key)
        if key in self._dirty:
            self._ready.put(key)
            self._arrived.set()

    def _drop_replaced(self) -> None:
        """Drop the times that earlier ones have replaced, once they are most: their own may be days away."""
        if len(self._heap) > 2 * len(self._due) + _SPARE_TIMES:
            self._heap = [(when, key) for key, when in self._due.items()]
            heapq.heapify(self._heap)

    def _set_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
        if self._heap:
            self._timer = asyncio.get_running_loop().call_at(self._heap[0][0], self._fire)

    def _fire(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._heap and self._heap[0][0] <= now + EARLY_SECONDS:
            when, key = heapq.heappop(self._heap)
            if self._due.get(key) == when:
                del self._due[key]
                self.add(key)
        if not self._due:
            self._due.clear()
        self._timer = None
        self._set_timer()
