"""Leaves an attempt's outcome once, whoever comes first: the work's end or the end of a superseded attempt."""

from __future__ import annotations

import threading

from longtask_worker.termination import write_whole


class OutcomeLog:
    """The container's termination message, seen by the threads of one attempt."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._written = False

    def write(self, message: bytes) -> bool:
        """Write *message* and return True, False if an earlier one stands there.

        Raises OSError if the file cannot be written.
        """
        with self._lock:
            if self._written:
                return False
            write_whole(self._path, message)
            self._written = True
            return True
