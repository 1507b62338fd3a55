"""Compressed output in parts: each a whole gzip file, written once, named by number and attempt.

An attempt that dies leaves parts that no checkpoint knows, and one that was cut off may still write some. So the names
alone do not say what belongs to the output: the position in the checkpoint does, and in the end a list that is written
last. An attempt goes on behind the parts of its checkpoint under names of its own; nothing is replaced, nothing is
read back.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from types import TracebackType
from typing import Any

from longtask_worker.errors import PermanentError, StorageError
from longtask_worker.notes import note
from longtask_worker.outcome import Result
from longtask_worker.storage import Storage, create_once, open_storage
from longtask_worker.task import Task

#: Compressed bytes after which a part is full; it is held in memory until then.
PART_BYTES = 8 * 1024 * 1024
#: zlib's own default, between speed and size.
LEVEL = 6
_GZIP = 31  # window bits: a gzip header without name and time, so that the same data are the same bytes
#: A part or a list; with a dot before and letters behind it is what a killed writer of files left.
_OURS = re.compile(r"(part-\d{5,}-|parts-|\.part-\d{5,}-|\.parts-)(?P<attempt>\d+)\.(gz|json)(\.[0-9a-f]+)?")


class Parts:
    """Writes one output of a task below `<uri>/<uid>/`; use it in a `with` block, which finishes it."""

    def __init__(
        self,
        task: Task,
        uri: str,
        position: Mapping[str, Any] | None = None,
        *,
        part_bytes: int = PART_BYTES,
        level: int = LEVEL,
        storage: Callable[[str], Storage] = open_storage,
    ) -> None:
        """Go on behind *position*, which `cut` returned to an earlier attempt; from the start if None.

        A part is cut when it has *part_bytes* compressed bytes. PermanentError if *position* is none.
        """
        self._task = task
        self._folder = f"{uri.rstrip('/')}/{task.uid}/"
        self._storage = storage(self._folder)
        self._next, self._owners = _parse(position, task.attempt)
        self._part_bytes, self._level = part_bytes, level
        self._result: Result | None = None
        self._compressor = zlib.compressobj(level, wbits=_GZIP)
        self._open, self._is_empty = bytearray(), True
        #: A closed part that is not known to be stored. It is offered again as it is: its answer may have been lost.
        self._closed: bytes | None = None

    def write(self, data: bytes) -> None:
        """Append *data*, which is never split over two parts; StorageError if a full part could not be stored."""
        if self._result:
            raise ValueError("the output is finished")
        self._is_empty = self._is_empty and not data
        self._open += self._compressor.compress(data)
        if len(self._open) >= self._part_bytes:
            self.cut()

    def cut(self) -> dict[str, Any]:
        """Store what was written so far and return the position behind it, to be saved with the rest of the state.

        Everything before it is durable. StorageError if that failed: it may be tried again. Cancelled if a newer
        attempt runs.
        """
        self._store_closed()
        if not self._is_empty:
            self._closed = bytes(self._open + self._compressor.flush())
            self._compressor = zlib.compressobj(self._level, wbits=_GZIP)
            self._open, self._is_empty = bytearray(), True
            self._store_closed()
        return {"next": self._next, "owners": [list(owner) for owner in self._owners]}

    def finish(self) -> Result:
        """Store the rest and the list of all parts; return where the list is. Deletes what does not belong to it."""
        if self._result is None:
            self.cut()
            names = list(_names(self._next, self._owners))
            data = json.dumps({"compression": "gzip", "parts": names}, separators=(",", ":")).encode()
            own = f"parts-{self._task.attempt}.json"
            self._create(own, data)
            self._sweep({own, *names})
            digest = hashlib.sha256(data).hexdigest()
            self._result = Result(uri=self._folder + own, sha256=digest, size_bytes=len(data))
        return self._result

    def __enter__(self) -> Parts:
        """Finish it at the end of the block, unless that ends by an exception."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Store the rest and the list, after an exception nothing."""
        if kind is None:
            self.finish()

    def _store_closed(self) -> None:
        if self._closed is None:
            return
        self._create(part_name(self._next, self._task.attempt), self._closed)
        if not self._owners or self._owners[-1][0] != self._task.attempt:
            self._owners.append((self._task.attempt, self._next))
        self._next += 1
        self._closed = None

    def _create(self, name: str, data: bytes) -> None:
        self._task.raise_if_superseded()
        create_once(self._storage, self._folder + name, data)

    def _sweep(self, kept: set[str]) -> None:
        """Delete what this attempt and earlier ones left beside the output. Failing is no harm."""
        try:
            found = (uri.removeprefix(self._folder) for uri in self._storage.list_below(self._folder))
            self._storage.delete(
                self._folder + name for name in found if name not in kept and _is_left_by(name, self._task.attempt)
            )
        except StorageError as error:
            note(f"parts of earlier attempts were not deleted: {error}")


def part_name(number: int, attempt: int) -> str:
    """Return the name of the part *number* that *attempt* wrote."""
    return f"part-{number:05d}-{attempt}.gz"


def _is_left_by(name: str, attempt: int) -> bool:
    """Say whether *name* is of *attempt* or an earlier one: what a later one writes is its own."""
    found = _OURS.fullmatch(name)
    return found is not None and int(found["attempt"]) <= attempt


def _names(count: int, owners: list[tuple[int, int]]) -> Iterator[str]:
    for (attempt, first), (_, behind) in pairwise([*owners, (0, count)]):
        for number in range(first, behind):
            yield part_name(number, attempt)


def _parse(position: Mapping[str, Any] | None, attempt: int) -> tuple[int, list[tuple[int, int]]]:
    """Return how many parts there are, and for each attempt that wrote some its number and that of its first part."""
    if position is None:
        return 0, []
    try:
        count, owners = int(position["next"]), [(int(owner), int(first)) for owner, first in position["owners"]]
    except (KeyError, TypeError, ValueError):
        raise PermanentError(f"not a position in an output: {position!r}") from None
    rises = all(a < b and m < n for (a, m), (b, n) in pairwise([*owners, (attempt + 1, count)]))
    begins = owners[0][1] if owners else count
    if begins != 0 or not rises:
        raise PermanentError(f"not a position in an output: {position!r}")
    return count, owners
