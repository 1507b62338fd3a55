"""When the next report is due. Pure: the answer and the jitter are arguments.

A report that was not taken is not repeated: the next one carries newer numbers. The wait
then doubles, but stays short, so that a restarted operator hears of all attempts soon.
"""

from __future__ import annotations

from longtask_worker.wire import DEFAULT_INTERVAL, Answer

MIN_INTERVAL = 1.0
LONGEST_BACKOFF = 30.0


class Pace:
    """The rhythm of one sender of reports."""

    __slots__ = ("failures", "interval")

    def __init__(self, interval: float = DEFAULT_INTERVAL) -> None:
        self.interval = interval
        self.failures = 0

    def wait_after(self, answer: Answer | None, jitter: float) -> float:
        """Return the seconds until the next report; *answer* None means that none came.

        *jitter* in [0, 1) is drawn by the caller. It lengthens the wait after a failure by up
        to a half, so that thousands of workers do not come back at once, else by up to a tenth.
        """
        if answer is not None and answer.ok:
            self.failures = 0
            self.interval = max(answer.interval or self.interval, MIN_INTERVAL)
            return self.interval * (1 + jitter / 10)
        self.failures += 1
        backoff = min(MIN_INTERVAL * 2.0 ** min(self.failures - 1, 10), max(LONGEST_BACKOFF, self.interval))
        asked = answer.retry_after if answer is not None else None
        return max(backoff, asked or 0.0) * (1 + jitter / 2)
