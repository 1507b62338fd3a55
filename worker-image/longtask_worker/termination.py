"""Leaves the outcome in the container's termination message: once, whole, in one write."""

from __future__ import annotations

import os
import threading

DEFAULT_PATH = "/dev/termination-log"


class TerminationLog:
    """The file that the kubelet reads when the container has ended."""

    def __init__(self, path: str = DEFAULT_PATH) -> None:
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


def write_whole(path: str, data: bytes) -> None:
    """Replace the file's content by *data* in a single write; OSError if that fails."""
    # Not a rename: the kubelet mounted this very file into the container.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(f"{path}: written in part only")
    finally:
        os.close(descriptor)
