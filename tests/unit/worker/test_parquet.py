"""A Parquet file cut at any row group goes on with the next one: nothing is left out, nothing comes twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import longtask_worker
from longtask_worker.errors import ChangedError, NotFoundError, PermanentError, StorageError, TransferError
from longtask_worker.parquet import RowGroups
from longtask_worker.storage.ranges import RangeReader

WORKER = Path(longtask_worker.__file__).parents[1]


def write(path: Path, groups: list[list[int]]) -> str:
    """Write a file whose row groups have those numbers, and return its URI."""
    schema = pa.schema([("id", pa.int64()), ("name", pa.string()), ("deep", pa.struct([("x", pa.int64())]))])
    with pq.ParquetWriter(path, schema) as writer:
        for numbers in groups:
            columns = {"id": numbers, "name": [f"n{n}" for n in numbers], "deep": [{"x": n} for n in numbers]}
            writer.write_table(pa.table(columns, schema=schema))
    return path.as_uri()


def saved(position: dict[str, object]) -> dict[str, object]:
    """What a checkpoint makes of a position."""
    loaded: dict[str, object] = json.loads(json.dumps(position))
    return loaded


@settings(max_examples=40, deadline=None)
@given(groups=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), max_size=5))
def test_row_groups_cut_anywhere(tmp_path_factory: pytest.TempPathFactory, groups: list[list[int]]) -> None:
    uri = write(tmp_path_factory.mktemp("rows") / "t.parquet", groups)
    assert [table["id"].to_pylist() for table in RowGroups(uri)] == groups
    for cut in range(len(groups) + 1):
        with RowGroups(uri) as first:
            before = [next(first)["id"].to_pylist() for _ in range(cut)]
            assert (first.offset, first.size) == (sum(map(len, groups[:cut])), sum(map(len, groups)))
        with RowGroups(uri, saved(first.position)) as second:
            assert second.offset == first.offset
            assert [*before, *(table["id"].to_pylist() for table in second)] == groups
            assert second.offset == second.size


def test_only_the_columns_that_are_asked_for(tmp_path: Path) -> None:
    uri = write(tmp_path / "t.parquet", [[1, 2], [3]])
    with RowGroups(uri, columns=["name", "deep.x"]) as groups:
        assert groups.schema.names == ["id", "name", "deep"]
        assert [table.to_pydict() for table in groups] == [
            {"name": ["n1", "n2"], "deep": [{"x": 1}, {"x": 2}]},
            {"name": ["n3"], "deep": [{"x": 3}]},
        ]
    with pytest.raises(PermanentError, match="no column 'nmae'"):
        RowGroups(uri, columns=["id", "nmae"])


def test_an_object_that_was_replaced_is_not_mixed(tmp_path: Path) -> None:
    uri = write(tmp_path / "t.parquet", [[1], [2]])
    with RowGroups(uri) as groups:
        next(groups)
    write(tmp_path / "t.parquet", [[1], [2], [3]])
    with pytest.raises(ChangedError):
        RowGroups(uri, groups.position)


@pytest.mark.parametrize("position", [{}, {"group": -1, "version": "v"}, {"group": "1", "version": "v"}, {"group": 1}])
def test_what_is_no_position_fails_for_good(tmp_path: Path, position: dict[str, object]) -> None:
    uri = write(tmp_path / "t.parquet", [[1]])
    with pytest.raises(PermanentError, match="not a position"):
        RowGroups(uri, position)
    with RowGroups(uri) as groups, pytest.raises(PermanentError, match="not a position"):
        RowGroups(uri, {**groups.position, "group": 2})


def test_what_is_no_parquet_fails_for_good(tmp_path: Path) -> None:
    for content in (b"", b"id,name\n1,a\n", b"PAR1" + b"\0" * 40):
        (tmp_path / "t").write_bytes(content)
        with pytest.raises(PermanentError, match="not a Parquet file"):
            RowGroups((tmp_path / "t").as_uri())
    with pytest.raises(NotFoundError):
        RowGroups((tmp_path / "other").as_uri())


class Breaking:
    """A file behind a network that is gone after so many bytes."""

    def __init__(self, path: Path, left: int) -> None:
        self._path, self._left = path, left

    def stat(self, _uri: str) -> Any:
        from longtask_worker.storage import Stat

        return Stat(size=self._path.stat().st_size, version="v")

    def open(self, _uri: str, *, version: str | None = None) -> RangeReader:
        return RangeReader(self._fetch, self._path.stat().st_size, pause=lambda _seconds: None)

    def _fetch(self, start: int, stop: int) -> Any:
        import io

        self._left -= stop - start
        if self._left < 0:
            raise TransferError("the network is gone")
        return io.BytesIO(self._path.read_bytes()[start:stop])


def test_a_transfer_that_breaks_is_the_storages_error_not_a_damaged_file(tmp_path: Path) -> None:
    """Trying again helps: it must not fail for good."""
    path = tmp_path / "t.parquet"
    write(path, [list(range(50_000)), list(range(50_000))])
    outcomes = set()
    for left in range(0, 3 * path.stat().st_size, 20_000):
        try:
            with RowGroups("s3://b/t", storage=lambda _uri, left=left: Breaking(path, left)) as groups:  # type: ignore[misc]
                outcomes.add(sum(table.num_rows for table in groups))
        except StorageError:
            outcomes.add(0)
    assert outcomes == {0, 100_000}


def test_without_pyarrow_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['pyarrow'] = None; from longtask_worker.parquet import RowGroups; RowGroups('file:///x')"
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(WORKER)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert "MissingExtraError" in done.stderr
    assert "longtask-worker[parquet]" in done.stderr


def test_a_pyarrow_that_does_not_load_is_told_with_its_reason(tmp_path: Path) -> None:
    """A base image without libstdc++ once looked as if pyarrow were missing."""
    (tmp_path / "pyarrow").mkdir()
    (tmp_path / "pyarrow" / "__init__.py").write_text("raise ImportError('libstdc++.so.6: cannot open it')")
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{WORKER}{os.pathsep}{tmp_path}"}
    code = "from longtask_worker.parquet import RowGroups; RowGroups('file:///x')"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert "MissingExtraError" in done.stderr
    assert "libstdc++.so.6: cannot open it" in done.stderr
