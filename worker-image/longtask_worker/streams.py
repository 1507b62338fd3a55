"""Streams that go on where an earlier attempt stopped: lines and CSV rows of an object at s3:// or file://.

A position is JSON, made to stand in a checkpoint. It holds the offset behind what was handed out last and the
version of the object: one that was replaced meanwhile is refused, never mixed with what was read of the old one.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

from longtask_worker.errors import PermanentError
from longtask_worker.storage import Storage, open_storage

BUFFER_BYTES = 1024 * 1024


class Lines:
    """The lines of an object as bytes, each with its line feed; in constant memory."""

    def __init__(
        self,
        uri: str,
        position: Mapping[str, Any] | None = None,
        *,
        storage: Callable[[str], Storage] = open_storage,
    ) -> None:
        """Go on at *position*, from the start if None.

        PermanentError if *position* is none; ChangedError if the object is another one by now, StorageError if it
        cannot be read.
        """
        offset, version = _parse(position)
        store = storage(uri)
        stat = store.stat(uri)
        #: Size of the object in bytes.
        self.size = stat.size
        self._version = version or stat.version
        self._raw = store.open(uri, version=self._version)
        self._file = io.BufferedReader(self._raw, BUFFER_BYTES)
        self._offset = 0
        self.seek(offset)

    @property
    def position(self) -> dict[str, Any]:
        """Where to go on after the line that was handed out last."""
        return {"offset": self._offset, "version": self._version}

    @property
    def offset(self) -> int:
        """Bytes before that place, for progress."""
        return self._offset

    def seek(self, offset: int) -> None:
        """Go on at the byte *offset*, the beginning of a line."""
        self._file.seek(offset)
        self._offset = offset

    def __iter__(self) -> Iterator[bytes]:
        """Go on behind the line that was handed out last."""
        return self

    def __next__(self) -> bytes:
        """Return the next line; StorageError if it could not be read."""
        line = self._file.readline()
        if not line:
            raise StopIteration
        self._offset += len(line)
        return line

    def close(self) -> None:
        """End the transfer."""
        self._file.close()

    def __enter__(self) -> Lines:
        """Close it at the end of the block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """End the transfer."""
        self.close()


class Rows:
    """The rows of a CSV object as dicts, by the names in its first row. A quoted field may hold line feeds."""

    def __init__(
        self,
        uri: str,
        position: Mapping[str, Any] | None = None,
        *,
        encoding: str = "utf-8-sig",
        storage: Callable[[str], Storage] = open_storage,
        **options: Any,
    ) -> None:
        """Go on at *position*; *options* are those of `csv.reader`. Raises what Lines raises."""
        offset, _ = _parse(position)
        self._lines = Lines(uri, {**position, "offset": 0} if position else None, storage=storage)
        self._encoding = encoding
        self._options = options
        #: Names of the columns.
        self.header: list[str] = next(self._reader(), [])
        if offset:
            self._lines.seek(offset)
        self._encoding = encoding.removesuffix("-sig")
        self._rows = self._reader()

    @property
    def position(self) -> dict[str, Any]:
        """Where to go on after the row that was handed out last."""
        return self._lines.position

    @property
    def offset(self) -> int:
        """Bytes before that place, for progress."""
        return self._lines.offset

    @property
    def size(self) -> int:
        """Size of the object in bytes."""
        return self._lines.size

    def __iter__(self) -> Iterator[dict[str, str]]:
        """Go on behind the row that was handed out last."""
        return self

    def __next__(self) -> dict[str, str]:
        """Return the next row that is not empty; ValueError if it has another number of fields than the header."""
        row = next(filter(None, self._rows))
        return dict(zip(self.header, row, strict=True))

    def close(self) -> None:
        """End the transfer."""
        self._lines.close()

    def __enter__(self) -> Rows:
        """Close it at the end of the block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """End the transfer."""
        self.close()

    def _reader(self) -> Iterator[list[str]]:
        # The reader takes just the lines that a row needs, so the position behind them is that of the next row.
        return csv.reader((line.decode(self._encoding) for line in self._lines), **self._options)


def _parse(position: Mapping[str, Any] | None) -> tuple[int, str | None]:
    if position is None:
        return 0, None
    offset, version = position.get("offset"), position.get("version")
    if type(offset) is not int or offset < 0 or not isinstance(version, str):
        raise PermanentError(f"not a position in a stream: {position!r}")
    return offset, version
