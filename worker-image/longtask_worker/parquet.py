"""Parquet row groups of an object at s3:// or file://, with a position to go on from. Needs the extra `parquet`.

A position is JSON, made to stand in a checkpoint: the number of row groups handed out, and the version of the object,
as in `streams`. Only the footer and the columns that are asked for are transferred.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from longtask_worker.errors import MissingExtraError, PermanentError
from longtask_worker.storage import Storage, open_storage

#: Small: pyarrow asks for whole column chunks, and a buffer would only be filled beside them.
BUFFER_BYTES = 64 * 1024


class RowGroups:
    """The row groups of a Parquet object as `pyarrow.Table`, one in memory at a time."""

    def __init__(
        self,
        uri: str,
        position: Mapping[str, Any] | None = None,
        *,
        columns: Sequence[str] | None = None,
        storage: Callable[[str], Storage] = open_storage,
    ) -> None:
        """Go on at *position*, from the start if None; hand out *columns* alone if there are any.

        PermanentError if *position* is none, a column is not there or the object is no Parquet, MissingExtraError
        without pyarrow; ChangedError if the object is another one by now, StorageError if it cannot be read.
        """
        parquet = _import_parquet()
        self._group, version = _parse(position)
        store = storage(uri)
        self._version = version or store.stat(uri).version
        self._source = io.BufferedReader(store.open(uri, version=self._version), BUFFER_BYTES)
        try:
            self._file = _open(parquet, self._source, uri)
            self._check(position, columns, uri)
        except BaseException:
            self._source.close()
            raise
        self._columns = list(columns) if columns is not None else None
        self._starts = _starts_of(self._file.metadata)

    @property
    def schema(self) -> Any:
        """The `pyarrow.Schema` of the whole object."""
        return self._file.schema_arrow

    @property
    def position(self) -> dict[str, Any]:
        """Where to go on after the row group that was handed out last."""
        return {"group": self._group, "version": self._version}

    @property
    def offset(self) -> int:
        """Rows before that place, for progress."""
        return self._starts[self._group]

    @property
    def size(self) -> int:
        """Rows of the object."""
        return self._starts[-1]

    def __iter__(self) -> Iterator[Any]:
        """Go on behind the row group that was handed out last."""
        return self

    def __next__(self) -> Any:
        """Return the next row group; StorageError if it could not be read."""
        if self._group >= self._file.metadata.num_row_groups:
            raise StopIteration
        # One thread: a task has a quarter of a CPU to begin with, and a stream is read from one place at a time.
        table = self._file.read_row_group(self._group, columns=self._columns, use_threads=False)
        self._group += 1
        return table

    def close(self) -> None:
        """End the transfer."""
        self._source.close()

    def __enter__(self) -> RowGroups:
        """Close it at the end of the block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """End the transfer."""
        self.close()

    def _check(self, position: Mapping[str, Any] | None, columns: Sequence[str] | None, uri: str) -> None:
        if self._group > self._file.metadata.num_row_groups:
            raise PermanentError(f"not a position in {uri}: {position!r}")
        known = set(self._file.schema_arrow.names)
        missing = [name for name in columns or () if name.partition(".")[0] not in known and name not in known]
        if missing:
            raise PermanentError(f"{uri} has no column {', '.join(map(repr, missing))}")


def _import_parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError(
            f"Parquet needs pyarrow, which cannot be loaded here: {error}; install longtask-worker[parquet] in it"
        ) from None
    return pyarrow.parquet


def _open(parquet: Any, source: Any, uri: str) -> Any:
    from pyarrow import ArrowInvalid

    try:
        return parquet.ParquetFile(source)
    except ArrowInvalid as error:
        raise PermanentError(f"{uri} is not a Parquet file: {error}") from None


def _starts_of(metadata: Any) -> list[int]:
    """Return the number of rows before each row group, and that of all."""
    starts = [0]
    for group in range(metadata.num_row_groups):
        starts.append(starts[-1] + metadata.row_group(group).num_rows)
    return starts


def _parse(position: Mapping[str, Any] | None) -> tuple[int, str | None]:
    if position is None:
        return 0, None
    group, version = position.get("group"), position.get("version")
    if type(group) is not int or group < 0 or not isinstance(version, str):
        raise PermanentError(f"not a position in a Parquet file: {position!r}")
    return group, version
