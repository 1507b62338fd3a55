"""When the next report is due. Pure: the answer and the jitter are arguments.

A report that was not taken is not repeated: the next one carries newer numbers. The wait
then doubles, but stays short, so that a restarted operator hears of all attempts soon.

What cannot wait for its turn, a new checkpoint, goes out at once, but only so often: the
interval that the operator asks for grows with the number of workers, and so does that gap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from longtask_worker.wire import Answer

DEFAULT_INTERVAL = 5.0
MIN_INTERVAL = 1.0
LONGEST_BACKOFF = 30.0
#: Least seconds between two reports that do not wait for their turn: the operator takes two in a second of a pod.
MIN_GAP = 0.5
#: All workers together send at most so many times as many reports as the operator asks for, when all of them save
#: without pause: 300 in a second. Six, so that a save every second, the shortest interval, keeps its place.
REPORTS_PER_INTERVAL = 6
_LONG_AGO = -1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The rhythm of one sender of reports."""

    #: Seconds between two reports that are taken.
    interval: float = DEFAULT_INTERVAL
    #: Reports in a row that were not taken.
    failures: int = 0
    #: Seconds that the operator asked to be left alone with its last answer.
    asked: float = 0.0

    def after(self, answer: Answer | None) -> Pace:
        """Return the pace after *answer*; None means that none came."""
        if answer is not None and answer.ok:
            return Pace(interval=max(answer.interval or self.interval, MIN_INTERVAL))
        asked = answer.retry_after if answer is not None else None
        return Pace(interval=self.interval, failures=self.failures + 1, asked=asked or 0.0)

    def wait(self, jitter: float) -> float:
        """Return the seconds until the next report; *jitter* in [0, 1) is drawn by the caller.

        It lengthens the wait after a failure by up to a half, so that thousands of workers do
        not come back at once, else by up to a tenth.
        """
        if self.failures == 0:
            return self.interval * (1 + jitter / 10)
        backoff = min(MIN_INTERVAL * 2.0 ** min(self.failures - 1, 10), max(LONGEST_BACKOFF, self.interval))
        return max(backoff, self.asked) * (1 + jitter / 2)

    def gap(self) -> float:
        """Return the least seconds between two reports that do not wait for their turn.

        Infinite while reports are not taken: the operator then has other troubles.
        """
        return math.inf if self.failures else max(MIN_GAP, self.interval / REPORTS_PER_INTERVAL)


class Timetable:
    """When the next report goes out, on the clock of the caller; the first one at once."""

    def __init__(self, now: float) -> None:
        #: When the next report goes out; never, while one is under way.
        self.due = now
        self._is_advanced = False
        self._last_advanced = _LONG_AGO

    def advance(self, now: float, gap: float) -> None:
        """Let the next report go out now, or *gap* seconds after the last one that did not wait for its turn."""
        at = max(now, self._last_advanced + gap)
        if at < self.due:
            self.due, self._is_advanced = at, True

    def begins(self, now: float) -> None:
        """A report is made up now: what is advanced from here on is the next one."""
        if self._is_advanced:
            self._last_advanced = now
        self.due, self._is_advanced = math.inf, False

    def ended(self, now: float, wait: float, *, taken: bool) -> None:
        """A report was *taken* or not; the next is due after *wait* seconds, or before if it was advanced meanwhile."""
        if taken and self.due < now + wait:
            return
        self.due, self._is_advanced = now + wait, False
