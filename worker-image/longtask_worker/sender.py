"""Sends one report and says when the next is due. Knows no thread: the SDK and the sidecar share it."""

from __future__ import annotations

import os
import time

from longtask_worker.notes import Change
from longtask_worker.pacing import Pace
from longtask_worker.transport import Channel, TransportError
from longtask_worker.wire import build_report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from longtask_worker.wire import Answer

TIMEOUT = 5.0


class Sender:
    """The reports of one process, numbered from the Unix time in seconds.

    So the numbers rise within an attempt even when its container starts several
    processes one after the other, or the sidecar is restarted.
    """

    __slots__ = ("_change", "_channel", "_pace", "_sequence")

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._pace = Pace()
        self._sequence = int(time.time())
        self._change = Change("ok")

    def send(self, facts: dict[str, Any], timeout: float = TIMEOUT) -> Answer | None:
        """Send one report; None when no answer came within *timeout* seconds. Raises nothing of the world's."""
        self._sequence += 1
        try:
            answer = self._channel.post(build_report(self._sequence, facts), timeout)
        except TransportError as error:
            self._change.note("silent", f"report not delivered ({error}); the work goes on")
            return None
        if answer.ok:
            self._change.note("ok", "reports are taken again")
        else:
            self._change.note(str(answer.status), f"report not taken (HTTP {answer.status}); the work goes on")
        return answer

    def wait_after(self, answer: Answer | None) -> float:
        """Return the seconds until the next report."""
        return self._pace.wait_after(answer, os.urandom(1)[0] / 256)


def open_sender(env: Mapping[str, str]) -> Sender | None:
    """Return a sender for what *env* names; None, with a note, when it names nothing usable."""
    url, token_file, ca_file = (env.get(f"LONGTASK_{key}", "") for key in ("REPORT_URL", "TOKEN_FILE", "CA_FILE"))
    if not (url and token_file and ca_file):
        return None
    try:
        return Sender(Channel(url, token_file, ca_file))
    except ValueError as error:
        Change().note("url", f"LONGTASK_REPORT_URL is {error}; nothing is reported")
        return None
