"""How many writes a second may be made for progress alone, all tasks together."""

from __future__ import annotations

import time
from collections.abc import Callable


class WriteBudget:
    """A token bucket that holds one second's worth."""

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = per_second, clock
        self._tokens, self._filled = max(1.0, per_second), clock()

    def take(self) -> bool:
        """Return whether a write may be made now, and count it."""
        now = self._clock()
        self._tokens = min(max(1.0, self._rate), self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
