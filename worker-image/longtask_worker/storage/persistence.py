"""Goes on after a transfer that broke: again after a pause, a bounded number of times in a row."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from longtask_worker.errors import TransferError

T = TypeVar("T")

#: Failures in a row after which it gives up, and the longest pause between two, in seconds.
MAX_FAILURES = 6
LONGEST_PAUSE = 8.0


def persistently(action: Callable[[], T], pause: Callable[[float], None] = time.sleep) -> T:
    """Return what *action* returns, called again after a TransferError; the last one is raised."""
    for failures in range(1, MAX_FAILURES):
        try:
            return action()
        except TransferError:
            pause(min(0.25 * 2.0**failures, LONGEST_PAUSE) * random.uniform(0.5, 1.0))
    return action()
