"""Reading in ranges gives the same bytes as reading at once, whatever breaks on the way."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_worker.errors import ChangedError, StorageError, TransferError
from longtask_worker.storage.persistence import MAX_FAILURES, persistently
from longtask_worker.storage.ranges import LARGEST_RANGE, SMALLEST_RANGE, RangeReader


class Source:
    """Serves ranges of *data*; breaks where told: by the number of bytes that each transfer gives at most."""

    def __init__(self, data: bytes, limits: list[int] | None = None) -> None:
        self.data = data
        self.limits = limits or []
        self.ranges: list[tuple[int, int]] = []
        self.open = 0

    def fetch(self, start: int, stop: int) -> Transfer:
        self.ranges.append((start, stop))
        limit = self.limits.pop(0) if self.limits else None
        if limit == -1:
            raise TransferError("no connection")
        self.open += 1
        return Transfer(self, self.data[start:stop], limit)

    def reader(self) -> RangeReader:
        return RangeReader(self.fetch, len(self.data), pause=lambda _seconds: None)


class Transfer:
    def __init__(self, source: Source, data: bytes, limit: int | None) -> None:
        self.source = source
        self.stream = io.BytesIO(data)
        self.left = limit

    def read(self, size: int) -> bytes:
        if self.left is None:
            return self.stream.read(size)
        if self.left == 0:
            raise TransferError("broken")
        data = self.stream.read(min(size, self.left))
        self.left -= len(data)
        return data

    def close(self) -> None:
        self.source.open -= 1


def read_all(reader: io.RawIOBase, size: int) -> bytes:
    return b"".join(iter(lambda: reader.read(size) or b"", b""))


@given(
    data=st.binary(max_size=500),
    limits=st.lists(st.integers(min_value=1, max_value=50), max_size=20),
    size=st.integers(min_value=1, max_value=100),
)
def test_broken_transfers_lose_and_repeat_nothing(data: bytes, limits: list[int], size: int) -> None:
    source = Source(data, limits)
    with source.reader() as reader:
        assert read_all(reader, size) == data
    assert source.open == 0


@given(data=st.binary(min_size=1, max_size=300), jumps=st.lists(st.tuples(st.integers(0, 310), st.integers(0, 50))))
def test_seeking_reads_what_stands_there(data: bytes, jumps: list[tuple[int, int]]) -> None:
    source, plain = Source(data), io.BytesIO(data)
    with source.reader() as reader:
        for offset, size in jumps:
            assert reader.seek(offset) == plain.seek(offset)
            assert (reader.read(size), reader.tell()) == (plain.read(size), plain.tell())
        assert reader.seek(-1, io.SEEK_END) == len(data) - 1
        assert reader.read(5) == data[-1:]
    assert source.open == 0


def test_ranges_grow_and_shrink_after_a_jump() -> None:
    source = Source(bytes(SMALLEST_RANGE * 40))
    with source.reader() as reader:
        reader.read(SMALLEST_RANGE * 7)
        reader.seek(0)
        reader.read(10)
    sizes = [stop - start for start, stop in source.ranges]
    assert sizes == [SMALLEST_RANGE * 7, SMALLEST_RANGE]
    source = Source(bytes(SMALLEST_RANGE * 40))
    with source.reader() as reader:
        read_all(reader, 10_000)
    sizes = [stop - start for start, stop in source.ranges]
    assert sizes[:5] == [SMALLEST_RANGE * 2**power for power in range(5)]
    assert max(sizes) <= LARGEST_RANGE


def test_it_gives_up_after_failures_in_a_row_only() -> None:
    assert read_all(Source(b"abc", [-1] * (MAX_FAILURES - 1)).reader(), 10) == b"abc"
    with pytest.raises(TransferError):
        read_all(Source(b"abc", [-1] * MAX_FAILURES).reader(), 10)
    patient = Source(bytes(100), [1] * 99)
    assert read_all(patient.reader(), 10) == bytes(100)


def test_an_early_end_is_a_broken_transfer() -> None:
    source = Source(b"abcdef")
    source.data = b"abc"
    with pytest.raises(TransferError, match="instead of 6"):
        read_all(RangeReader(source.fetch, 6, pause=lambda _seconds: None), 10)


@pytest.mark.parametrize("error", [ChangedError("x"), StorageError("forbidden")])
def test_what_trying_again_does_not_help_is_raised_at_once(error: StorageError) -> None:
    calls = []

    def fail() -> None:
        calls.append(1)
        raise error

    with pytest.raises(type(error)):
        persistently(fail, lambda _seconds: None)
    assert len(calls) == 1


def test_pauses_grow_to_a_bound() -> None:
    pauses: list[float] = []

    def fail() -> None:
        raise TransferError("x")

    with pytest.raises(TransferError):
        persistently(fail, pauses.append)
    assert len(pauses) == MAX_FAILURES - 1
    assert 0.2 < pauses[0] < 0.6
    assert max(pauses) <= 8
