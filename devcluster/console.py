"""What a person sees: one line per step with its place, its name and its time, on stderr; results go to stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class Progress:
    """Prints steps as `[2 of 5] Starting etcd ... 0.4 s`; silent without a stream."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._total = 0
        self._done = 0
        self._line_open = False

    def expect(self, steps: int) -> None:
        """Announce that many more steps, so that `n of m` is right from the first one."""
        self._total += steps

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Show one step while its block runs, then how long it took."""
        self._done += 1
        place = f"[{self._done} of {max(self._total, self._done)}]"
        self._write(f"{place} {title} ...", newline=False)
        started = time.monotonic()
        try:
            yield
        except BaseException:
            self._finish(f"{place} {title} failed", time.monotonic() - started)
            raise
        self._finish(f"{place} {title}", time.monotonic() - started)

    def detail(self, text: str) -> None:
        """One indented line inside the running step."""
        self._write(f"      {text}", newline=True)

    def _finish(self, repeated: str, seconds: float) -> None:
        took = f"{seconds:.1f} s"
        self._write(f" {took}" if self._line_open else f"{repeated}: {took}", newline=True, continues=self._line_open)

    def _write(self, text: str, *, newline: bool, continues: bool = False) -> None:
        if self._stream is None:
            return
        if self._line_open and not continues:
            self._stream.write("\n")
        self._stream.write(text + ("\n" if newline else ""))
        self._stream.flush()
        self._line_open = not newline


def on_terminal() -> Progress:
    """Progress for the command line."""
    return Progress(sys.stderr)
