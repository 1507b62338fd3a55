"""Reports in a background thread: it samples, sends, waits; the work never waits for it.

A report goes out at every interval even if nothing changed: the operator sees life by it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from longtask_worker.notes import note
from longtask_worker.pacing import LONGEST_BACKOFF, MIN_INTERVAL
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
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._report_until_closed, name="longtask-reporter", daemon=True)

    def start(self) -> None:
        """Begin with a first report at once."""
        self._thread.start()

    def hurry(self) -> None:
        """Send the next report now: somebody waits for what it says."""
        self._wake.set()

    def close(self, timeout: float = LAST_REPORT_SECONDS) -> None:
        """Send the last report; return when it is answered or after *timeout* seconds."""
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout)

    def _report_until_closed(self) -> None:
        while not self._closing.is_set():
            wait = self._report_once(TIMEOUT)
            # However often somebody hurries: never more than one report in MIN_INTERVAL.
            if not self._closing.wait(min(wait, MIN_INTERVAL)):
                self._wake.wait(max(wait - MIN_INTERVAL, 0.0))
            self._wake.clear()
        self._report_once(LAST_REPORT_SECONDS)

    def _report_once(self, timeout: float) -> float:
        """Send one report and return the seconds until the next."""
        try:
            answer = self._sender.send(self._facts(), timeout)
            if answer is not None:
                self._on_answer(answer)
        except Exception as error:  # a fault of ours must end neither the reports nor the work
            note(f"report failed: {type(error).__name__}: {error}")
            return LONGEST_BACKOFF
        return self._sender.wait()
