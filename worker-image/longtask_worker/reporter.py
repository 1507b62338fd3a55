"""Reports in a background thread: it samples, sends, waits; the work never waits for it.

A report goes out at every interval even if nothing changed: the operator sees life by it. One that names a new
checkpoint does not wait for its turn.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from longtask_worker.notes import note
from longtask_worker.pacing import LONGEST_BACKOFF, MIN_GAP, Timetable
from longtask_worker.sender import Sender
from longtask_worker.wire import Answer

#: Bound of each step of a report, in seconds.
TIMEOUT = 5.0
#: How long the end of the task waits for its last report, in seconds.
LAST_REPORT_SECONDS = 2.0


class Reporter:
    """Sends what *facts* returns and passes each answer to *on_answer*, both in its own thread."""

    def __init__(
        self, sender: Sender, facts: Callable[[], dict[str, Any]], on_answer: Callable[[Answer], None]
    ) -> None:
        self._sender = sender
        self._facts = facts
        self._on_answer = on_answer
        self._changed = threading.Condition()
        self._closing = False
        self._times = Timetable(time.monotonic())
        self._thread = threading.Thread(target=self._report_until_closed, name="longtask-reporter", daemon=True)

    def start(self) -> None:
        """Begin with a first report at once."""
        self._thread.start()

    def hurry(self) -> None:
        """Send the next report now, as far as the operator's pace allows: it has something new to say."""
        self._advance(self._sender.gap())

    def answer_request(self) -> None:
        """Send the next report now, whatever the pace: somebody waits for what it says."""
        self._advance(MIN_GAP)

    def close(self, timeout: float = LAST_REPORT_SECONDS) -> None:
        """Send the last report; return when it is answered or after *timeout* seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)

    def _advance(self, gap: float) -> None:
        with self._changed:
            self._times.advance(time.monotonic(), gap)
            self._changed.notify()

    def _report_until_closed(self) -> None:
        while self._wait_until_due():
            taken = self._report_once(TIMEOUT)
            with self._changed:
                wait = self._sender.wait() if taken is not None else LONGEST_BACKOFF
                self._times.ended(time.monotonic(), wait, taken=bool(taken))
        self._report_once(LAST_REPORT_SECONDS)

    def _wait_until_due(self) -> bool:
        """Return True when the next report is due, False when it is the last."""
        with self._changed:
            while not self._closing and (left := self._times.due - time.monotonic()) > 0:
                self._changed.wait(left)
            self._times.begins(time.monotonic())
            return not self._closing

    def _report_once(self, timeout: float) -> bool | None:
        """Send one report; return whether it was taken, None if we failed ourselves."""
        try:
            answer = self._sender.send(self._facts(), timeout)
            if answer is not None:
                self._on_answer(answer)
        except Exception as error:  # a fault of ours must end neither the reports nor the work
            note(f"report failed: {type(error).__name__}: {error}")
            return None
        return answer is not None and answer.ok
