"""The last lines that this process wrote, for the termination message: where that stands, the kubelet adds no log.

The streams stay what they are, so that logging set up before is seen as well. Child processes and native code write
past them. A pipe in between would see those too, and would lose the last lines of a process that is killed.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TextIO

from longtask_worker.outcome import MAX_LOG_TAIL

#: Writes remembered: a `print` makes two, so 128 lines, far more than 2 KiB usually hold; at most 0.5 MB.
MAX_WRITES = 256


class LogTail:
    """Remembers the end of what is written to streams. Holds no lock: signal handlers and forked children write too."""

    def __init__(self) -> None:
        self._written: deque[str] = deque(maxlen=MAX_WRITES)

    def follow(self, *streams: TextIO | None) -> None:
        """Remember what is written to *streams* from now on; one that cannot be followed is left alone."""
        for stream in streams:
            if stream is not None:
                self._follow(stream)

    def ending_with(self, last: str | None = None) -> str | None:
        """Return the last 2 KiB, or None if there are none. *last* is their end, whether it was seen or not."""
        seen, end = "".join(self._written.copy())[-MAX_LOG_TAIL:], (last or "")[-MAX_LOG_TAIL:]
        return (seen if end in seen else seen + end)[-MAX_LOG_TAIL:] or None

    def _follow(self, stream: TextIO) -> None:
        write = stream.write

        def write_and_remember(text: str) -> int:
            count = write(text)
            self._written.append(text[-MAX_LOG_TAIL:])
            return count

        with suppress(AttributeError, TypeError):
            stream.write = write_and_remember  # type: ignore[method-assign]
