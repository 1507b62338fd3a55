"""Words for whoever reads the container's log, on stderr: few, and only when something changed."""

from __future__ import annotations

import sys


def note(text: str) -> None:
    """Write one line; a closed stderr is no reason to fail."""
    try:
        sys.stderr.write(f"longtask: {text}\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass


class Change:
    """Notes a state once, when it differs from the one before."""

    __slots__ = ("_state",)

    def __init__(self, state: str = "") -> None:
        self._state = state

    def note(self, state: str, text: str) -> None:
        """Write *text* if *state* is new."""
        if state != self._state:
            self._state = state
            note(text)
