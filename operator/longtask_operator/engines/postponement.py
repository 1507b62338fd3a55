"""Status writes that only tell where things stand: a few a second at once, the others later, one after the other.

The next one begins when the last is over and after a rest of half the time that it took; longer where it took longer
than the quickest of late: where it took thrice as long, the rest is twice the write. So where nobody else is busy they
take two thirds of the time of one worker, and the busier the API server or this operator is, the less they add to it.
The delay of an answer against the shortest is the sign of congestion, as in TCP Vegas (Brakmo and Peterson, 1995).
Namespaces take turns.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from longtask_operator.engines.pacing import EARLY_SECONDS, WriteBudget
from longtask_operator.engines.turns import Turns

_REST = 0.5  #: times the write, at least
_FORGET = 1.01  #: times the quickest write, after each: what is slow for hundreds of writes is what can be had now
_SHORTEST_REST, _LONGEST_REST = 0.005, 5.0  #: seconds


class Postponement:
    """Says when such a write may be made; *wake* is called with the key of a task whose turn it is.

    *per_second* are made at once. The others wait *seconds* at least, since most tasks move on before, and what did
    is never written. Belongs to one event loop.
    """

    def __init__(
        self,
        wake: Callable[[str], None],
        per_second: float,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wake, self._budget, self._seconds, self._clock = wake, WriteBudget(per_second, clock), seconds, clock
        self._young: deque[tuple[float, str]] = deque()  #: in the order of the times from which on they may be written
        self._line = Turns()
        self._waiting: set[str] = set()  #: what does not stand here is passed over in the line
        self._turn: str | None = None
        self._began = 0.0  #: of that turn
        self._used = False  #: that turn, for a write
        self._timer: asyncio.TimerHandle | None = None
        self._quickest = float("inf")  #: seconds of a write

    def may(self, key: str) -> bool:
        """Return whether the status of task *key* may be written now; if not, it is woken when it may."""
        if key == self._turn or self._budget.take():
            self._used = self._used or key == self._turn
            self._waiting.discard(key)
            return True
        if key not in self._waiting:
            self._waiting.add(key)
            self._young.append((self._clock() + self._seconds, key))
            self._look_after(self._seconds)
        return False

    def over(self, key: str) -> None:
        """Note that nothing of *key* waits any more: it was written, or need not be."""
        self._waiting.discard(key)
        if not self._waiting:
            self._waiting.clear()  # an empty set keeps the room of ten thousand keys otherwise

    def worked(self, key: str) -> None:
        """Note that *key* was worked on, with success or without: if it was its turn, that is over."""
        if key == self._turn:
            self._turn = None
            self._look_after(self._rest(self._clock() - self._began))

    def _rest(self, took: float) -> float:
        """Return how long to rest after a write that took so many seconds, in seconds."""
        if self._used and took > 0:
            self._quickest = min(took, self._quickest * _FORGET)
        return min(max(_SHORTEST_REST, took * max(_REST, took / self._quickest - 1)), _LONGEST_REST)

    def _look_after(self, seconds: float) -> None:
        """Find out whose turn it is in *seconds*, or earlier if that was arranged already."""
        if self._turn is None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._next)

    def _next(self) -> None:
        self._timer, now = None, self._clock()
        while self._young and self._young[0][0] <= now + EARLY_SECONDS:
            self._line.put(self._young.popleft()[1])
        while self._line:
            key = self._line.take()
            if key in self._waiting:
                self._waiting.discard(key)  # if its turn passes unused, it has to stand in line anew
                self._turn, self._began, self._used = key, now, False
                self._wake(key)
                return
        if self._young:
            self._look_after(self._young[0][0] - now)
