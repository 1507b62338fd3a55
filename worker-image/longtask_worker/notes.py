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
