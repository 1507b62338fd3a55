"""When a checkpoint is due: at the interval, and once for each time that somebody asks. Pure: the clock is an argument.

The operator asks until it has got one, with every answer: that is one request. One save answers it.

A save begins a little before the interval is over, so that it is complete, and the operator has heard of it, when it
is over: a crash at any time then costs one interval of work, not more.
"""

from __future__ import annotations

#: Seconds after which a save that failed is tried again, at most: the interval, if that is shorter.
RETRY_SECONDS = 30.0
#: How much early a save begins: this part of the interval, at most so many seconds.
EARLY_PART, EARLY_SECONDS = 0.1, 1.0


class Schedule:
    """When to save next. A request comes from another thread than the saves."""

    def __init__(self, interval: float, now: float) -> None:
        self._pause = interval - min(interval * EARLY_PART, EARLY_SECONDS)
        self._at = now + self._pause
        self._asked = False
        #: Number of requests so far, and of those answered.
        self._requests = 0
        self._answered = 0

    @property
    def requested(self) -> bool:
        """Say whether a request waits for a save."""
        return self._answered < self._requests

    def ask(self, wanted: bool) -> bool:
        """Take over what an answer says; return True if a new request began."""
        begins = wanted and not self._asked
        self._asked = wanted
        if begins:
            self._requests += 1
        return begins

    def due(self, now: float) -> bool:
        """Say whether to save now."""
        return self.requested or now >= self._at

    def begin(self) -> int:
        """Return what a save that begins now will answer; pass it to `saved`."""
        return self._requests

    def saved(self, answers: int, now: float) -> None:
        """A save has succeeded that began when `begin` returned *answers*."""
        self._answered = max(self._answered, answers)
        self._at = now + self._pause

    def failed(self, answers: int, now: float) -> None:
        """A save has failed; a request that it was to answer waits for the next one in its turn."""
        self._answered = max(self._answered, answers)
        self._at = now + min(self._pause, RETRY_SECONDS)
