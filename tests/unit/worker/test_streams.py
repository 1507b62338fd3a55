"""A stream cut at any line or row goes on with the next one: nothing is left out, nothing comes twice."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtask_worker.errors import ChangedError, NotFoundError, PermanentError
from longtask_worker.streams import Lines, Rows

FIELD = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from('\n",'), max_size=8)


def saved(position: dict[str, object]) -> dict[str, object]:
    """What a checkpoint makes of a position."""
    loaded: dict[str, object] = json.loads(json.dumps(position))
    return loaded


@pytest.mark.parametrize("content", [b"", b"\n", b"a", b"a\nb\n", b"a\r\n\nb", b"x" * 3_000_000 + b"\ny\n" * 3])
def test_lines_cut_anywhere(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text"
    path.write_bytes(content)
    whole = list(Lines(path.as_uri()))
    assert b"".join(whole) == content
    for cut in range(len(whole) + 1):
        first = Lines(path.as_uri())
        before = [next(first) for _ in range(cut)]
        second = Lines(path.as_uri(), saved(first.position))
        assert [*before, *second] == whole
        assert (second.offset, second.size) == (len(content), len(content))


@settings(max_examples=50, deadline=None)
@given(table=st.lists(st.tuples(FIELD, FIELD), max_size=6), bom=st.booleans())
def test_rows_cut_anywhere(tmp_path_factory: pytest.TempPathFactory, table: list[tuple[str, str]], bom: bool) -> None:
    path = tmp_path_factory.mktemp("rows") / "table.csv"
    with path.open("w", newline="", encoding="utf-8-sig" if bom else "utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("name", "größe"), *table])
    expected = [{"name": a, "größe": b} for a, b in table]
    for cut in range(len(table) + 1):
        first = Rows(path.as_uri())
        before = [next(first) for _ in range(cut)]
        second = Rows(path.as_uri(), saved(first.position))
        assert [*before, *second] == expected


def test_an_object_that_was_replaced_is_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"a\nb\n")
    lines = Lines(path.as_uri())
    next(lines)
    path.write_bytes(b"other\nlines\n")
    with pytest.raises(ChangedError):
        Lines(path.as_uri(), lines.position)


@pytest.mark.parametrize(
    "position", [{}, {"offset": -1, "version": "v"}, {"offset": "1", "version": "v"}, {"offset": 1}]
)
def test_what_is_no_position_fails_for_good(tmp_path: Path, position: dict[str, object]) -> None:
    with pytest.raises(PermanentError, match="not a position"):
        Lines((tmp_path / "text").as_uri(), position)


def test_no_object_is_no_empty_stream(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        Lines((tmp_path / "text").as_uri())


def test_a_row_with_a_field_too_few_is_no_row(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3\n")
    with Lines((tmp_path / "t.csv").as_uri()) as lines:
        assert len(list(lines)) == 3
    rows = Rows((tmp_path / "t.csv").as_uri())
    assert next(rows) == {"a": "1", "b": "2"}
    with pytest.raises(ValueError, match="zip"):
        next(rows)
    rows.close()


def test_an_empty_table_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("")
    assert list(Rows((tmp_path / "t.csv").as_uri())) == []


@pytest.mark.parametrize("kind", [Lines, Rows])
def test_a_block_closes_it(tmp_path: Path, kind: type[Lines] | type[Rows]) -> None:
    (tmp_path / "t.csv").write_text("a\n1\n2\n")
    with kind((tmp_path / "t.csv").as_uri()) as stream:
        assert next(stream) in (b"a\n", {"a": "1"})
    with pytest.raises(ValueError, match="closed"):
        next(stream)
