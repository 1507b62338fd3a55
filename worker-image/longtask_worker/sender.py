"""Sends numbered reports and knows when the next is due. What goes wrong is noted once, never raised."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import Any

from longtask_worker.notes import note
from longtask_worker.pacing import Pace
from longtask_worker.transport import Channel, TransportError
from longtask_worker.wire import Answer, build_report


class Sender:
    """The reports of one process, numbered from the Unix time in seconds.

    So the numbers rise within an attempt even when its container starts several
    processes one after the other.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._pace = Pace()
        self._sequence = int(time.time())
        self._state = "taken"

    def send(self, facts: Mapping[str, Any], timeout: float) -> Answer | None:
        """Send one report and return the answer, None when none came."""
        self._sequence += 1
        answer = self._post(build_report(self._sequence, facts), timeout)
        self._pace = self._pace.after(answer)
        return answer

    def wait(self) -> float:
        """Return the seconds until the next report."""
        return self._pace.wait(random.random())

    def gap(self) -> float:
        """Return the least seconds between two reports that do not wait for their turn."""
        return self._pace.gap()

    def _post(self, body: bytes, timeout: float) -> Answer | None:
        try:
            answer = self._channel.post(body, timeout)
        except TransportError as error:
            self._note_change("silence", f"report not delivered ({error}); the work goes on")
            return None
        if answer.ok:
            self._note_change("taken", "reports are taken again")
        elif not answer.stop:
            self._note_change(str(answer.status), f"report not taken (HTTP {answer.status}); the work goes on")
        return answer

    def _note_change(self, state: str, text: str) -> None:
        if state != self._state:
            self._state = state
            note(text)


def open_sender(env: Mapping[str, str]) -> Sender | None:
    """Return a sender for what *env* names; None where it names nothing, with a note where that is unusable."""
    url, token_file, ca_file = (env.get(f"LONGTASK_{key}", "") for key in ("REPORT_URL", "TOKEN_FILE", "CA_FILE"))
    if not url:
        return None
    try:
        return Sender(Channel(url, token_file, ca_file))
    except ValueError as error:
        note(f"nothing is reported: {error}")
        return None
