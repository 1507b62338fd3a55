"""When the next report is due. Pure: the answer and the jitter are arguments.

A report that was not taken is not repeated: the next one carries newer numbers. The wait
then doubles, but stays short, so that a restarted operator hears of all attempts soon.
"""

from __future__ import annotations

from dataclasses import dataclass

from longtask_worker.wire import Answer

DEFAULT_INTERVAL = 5.0
MIN_INTERVAL = 1.0
LONGEST_BACKOFF = 30.0


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
