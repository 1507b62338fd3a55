"""Reads a remote object in ranges: seekable, in constant memory, going on where a broken transfer stopped.

A range is read as it arrives, never held. After a seek the next range is small, then each is twice as
long as the one before: scattered reads cost little, long ones few requests.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any, Protocol

from longtask_worker.errors import TransferError
from longtask_worker.storage.persistence import persistently

SMALLEST_RANGE = 64 * 1024
LARGEST_RANGE = 16 * 1024 * 1024


class Body(Protocol):
    """What arrives of one range."""

    def read(self, size: int) -> bytes:
        """Return up to *size* bytes, none at the end; TransferError if it broke."""

    def close(self) -> None:
        """Give the connection back, or end it where something is left."""


class RangeReader(io.RawIOBase):
    """A reader over `fetch(start, stop)`, which begins the transfer of the bytes from *start* up to *stop*."""

    def __init__(
        self, fetch: Callable[[int, int], Body], size: int, *, pause: Callable[[float], None] = time.sleep
    ) -> None:
        super().__init__()
        self._fetch = fetch
        self._size = size
        self._pause = pause
        self._position = 0
        self._body: Body | None = None
        self._stop = 0
        self._next_range = SMALLEST_RANGE

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Return the offset of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to *offset*; the next read begins a new range."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        target = max(base + offset, 0)
        if target != self._position:
            self._drop()
            self._next_range = SMALLEST_RANGE
            self._position = target
        return target

    def readinto(self, buffer: Any) -> int:
        """Fill *buffer* with what is there, at least one byte unless at the end."""
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), self._size - self._position)
        if wanted <= 0:
            return 0
        data = persistently(lambda: self._read_some(wanted), self._pause)
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        """End the transfer."""
        self._drop()
        super().close()

    def _read_some(self, wanted: int) -> bytes:
        try:
            if self._body is None:
                self._body = self._begin(wanted)
            data = self._body.read(min(wanted, self._stop - self._position))
            if not data:
                raise TransferError(f"the transfer ended at byte {self._position} instead of {self._stop}")
        except TransferError:
            self._drop()
            raise
        if self._position + len(data) == self._stop:
            self._drop()
        return data

    def _begin(self, wanted: int) -> Body:
        self._stop = min(self._position + max(wanted, self._next_range), self._size)
        self._next_range = min(self._next_range * 2, LARGEST_RANGE)
        return self._fetch(self._position, self._stop)

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None
