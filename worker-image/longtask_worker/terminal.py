"""Shows progress on a terminal when there is no operator: a bar, or plain lines where there is no TTY."""

from __future__ import annotations

import sys
import threading
from typing import TextIO

from longtask_worker.progress import Progress, Snapshot

BAR_WIDTH = 30
TTY_INTERVAL = 0.2
PLAIN_INTERVAL = 5.0


class TerminalView:
    """Draws on *stream* (stderr, so that stdout holds the result alone) in its own thread."""

    def __init__(self, progress: Progress, stream: TextIO | None = None) -> None:
        self._progress = progress
        self._stream = stream or sys.stderr
        self._is_tty = self._stream.isatty()
        self._shown = ""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._draw_until_closed, name="longtask-terminal", daemon=True)

    def start(self) -> None:
        """Begin to draw."""
        self._thread.start()

    def close(self) -> None:
        """Draw the last state and leave the cursor on a line of its own."""
        self._closing.set()
        self._thread.join()

    def _draw_until_closed(self) -> None:
        while not self._closing.wait(TTY_INTERVAL if self._is_tty else PLAIN_INTERVAL):
            self._draw()
        self._draw()
        if self._is_tty and self._shown:
            self._stream.write("\n")

    def _draw(self) -> None:
        text = render(self._progress.snapshot(), bar=self._is_tty)
        if text and text != self._shown:
            self._stream.write(f"\r\x1b[K{text}" if self._is_tty else f"{text}\n")
            self._stream.flush()
            self._shown = text


def render(snapshot: Snapshot, *, bar: bool) -> str:
    """Return one line such as `[####....] 420/1000 (42%) lines parsing`; empty while nothing was said."""
    if snapshot.done is None:
        return ""
    parts = [str(snapshot.done)]
    if snapshot.total:
        share = min(snapshot.done / snapshot.total, 1.0)
        filled = int(share * BAR_WIDTH)
        parts = [f"{snapshot.done}/{snapshot.total} ({int(share * 100)}%)"]
        if bar:
            parts.insert(0, f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}]")
    words = (snapshot.unit, snapshot.stage, snapshot.message)
    return " ".join([*parts, *(word.replace("\n", " ") for word in words if word)])
