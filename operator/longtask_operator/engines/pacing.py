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


class ByteBudget:
    """Bytes a second that may be written: a write may begin while any are left, and pays for itself afterwards.

    One that is larger than what is left runs into debt, which the following ones wait for.
    """

    def __init__(self, per_second: float, *, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock, self._most = per_second, clock, per_second * seconds
        self._left, self._filled = self._most, clock()

    def wait(self) -> float:
        """Return the seconds until a write may begin; 0 if it may now."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._filled) * self._rate)
        self._filled = now
        return 0.0 if self._left > 0 else -self._left / self._rate + 0.001

    def spend(self, size: int) -> None:
        """Count a write of *size* bytes."""
        self._left -= size
