"""How often what workers report may be written: for each task, and for all together."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from longtask_operator.core.checkpoints import WRITE_SECONDS

#: What is due within this time is due now, in seconds: a timer may fire before its time, for its clock's resolution.
EARLY_SECONDS = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class LastWrites:
    """When what a worker reported of one task was last written."""

    progress: datetime | None = None
    checkpoint: datetime | None = None

    def progress_wait(self, now: datetime, interval: float) -> float:
        """Return the seconds until the progress may be written again."""
        return _left(self.progress, now, interval)

    def checkpoint_wait(self, now: datetime) -> float:
        """Return the seconds until a new checkpoint may be written."""
        return _left(self.checkpoint, now, WRITE_SECONDS)


#: Of nearly all tasks.
NEVER = LastWrites()


def _left(last: datetime | None, now: datetime, interval: float) -> float:
    return 0.0 if last is None else max(0.0, interval - (now - last).total_seconds())


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
