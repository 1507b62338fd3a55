"""Output in parts: whatever dies, whenever, the list names each row once; a failed part is offered again as it is."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtask_worker.environment import Info
from longtask_worker.errors import AlreadyExistsError, Cancelled, PermanentError, StorageError
from longtask_worker.parts import Parts
from longtask_worker.stopping import SUPERSEDED, StopFlag
from longtask_worker.task import Task
from tests.support.memory_storage import MemoryStorage

OUT = "s3://bucket/out/"
FOLDER = f"{OUT}u/"


class DiesError(BaseException):
    """The worker was killed."""


def task(attempt: int = 1, stop: StopFlag | None = None) -> Task:
    return Task(Info(uid="u", attempt=attempt), stop=stop)


def parts(storage: MemoryStorage, attempt: int = 1, position: Any = None, **options: Any) -> Parts:
    return Parts(task(attempt), OUT, position, storage=lambda _uri: storage, **options)


def names(storage: MemoryStorage) -> list[str]:
    return sorted(uri.removeprefix(FOLDER) for uri in storage.objects)


def listed(storage: MemoryStorage, uri: str) -> list[str]:
    fields = json.loads(storage.objects[uri])
    assert fields["compression"] == "gzip"
    found: list[str] = fields["parts"]
    return found


def content(storage: MemoryStorage, uri: str) -> bytes:
    """Each part is a file of its own, and all of them behind one another are one, too."""
    whole = [storage.objects[FOLDER + name] for name in listed(storage, uri)]
    each = b"".join(map(gzip.decompress, whole))
    assert gzip.decompress(b"".join(whole)) == each
    return each


def test_what_was_written_stands_in_the_parts() -> None:
    storage = MemoryStorage()
    out = parts(storage)
    with out:
        out.write(b"a\n")
        assert names(storage) == [], "nothing is stored before it is cut"
        assert out.cut() == {"next": 1, "owners": [[1, 0]]}
        assert out.cut() == {"next": 1, "owners": [[1, 0]]}, "nothing new, no empty part"
        out.write(b"b\n")
        out.write(b"c\n")
    result = out.finish()
    assert names(storage) == ["part-00000-1.gz", "part-00001-1.gz", "parts-1.json"]
    assert content(storage, result.uri) == b"a\nb\nc\n"
    assert result.size_bytes == len(storage.objects[result.uri])
    with pytest.raises(ValueError, match="finished"):
        out.write(b"d\n")


def test_a_part_is_cut_when_it_is_full_and_never_within_what_was_written_at_once() -> None:
    storage = MemoryStorage()
    rows = [bytes([number]) * 5_000 + b"\n" for number in range(200)]
    with parts(storage, part_bytes=100_000, level=0) as out:
        for row in rows:
            out.write(row)
    found = [gzip.decompress(storage.objects[uri]) for uri in sorted(storage.objects) if uri.endswith(".gz")]
    assert 5 <= len(found) <= 10
    assert b"".join(found) == b"".join(rows)
    assert all(part.endswith(b"\n") for part in found)


def test_no_row_is_an_output_without_parts() -> None:
    storage = MemoryStorage()
    with parts(storage) as out:
        out.write(b"")
    assert listed(storage, out.finish().uri) == []


def test_an_exception_finishes_nothing() -> None:
    storage = MemoryStorage()
    out = parts(storage)
    out.write(b"a\n")
    with pytest.raises(RuntimeError), out:
        raise RuntimeError
    assert names(storage) == []


def test_what_fails_is_offered_again_with_the_same_bytes_also_if_more_was_written() -> None:
    """The answer is lost after the part was stored: other bytes under its name would be a conflict."""
    storage = MemoryStorage()
    out = parts(storage)
    out.write(b"a\n")

    def lose(when: str, _verb: str, _uri: str) -> None:
        if when == "after":
            raise StorageError("the answer was lost")

    storage.watch = lose
    with pytest.raises(StorageError):
        out.cut()
    storage.watch = lambda _when, _verb, _uri: None
    out.write(b"b\n")
    assert out.cut() == {"next": 2, "owners": [[1, 0]]}
    assert content(storage, out.finish().uri) == b"a\nb\n"


def test_what_stands_there_is_never_replaced() -> None:
    storage = MemoryStorage()
    storage.objects[FOLDER + "part-00000-1.gz"] = b"of a process before this one"
    out = parts(storage)
    out.write(b"a\n")
    with pytest.raises(AlreadyExistsError):
        out.cut()


def test_an_attempt_that_was_superseded_publishes_nothing() -> None:
    storage, stop = MemoryStorage(), StopFlag()
    out = Parts(task(stop=stop), OUT, storage=lambda _uri: storage)
    out.write(b"a\n")
    stop.set(SUPERSEDED)
    for act in (out.cut, out.finish):
        with pytest.raises(Cancelled):
            act()
    assert names(storage) == []


def test_the_end_deletes_what_earlier_attempts_left_and_nothing_else() -> None:
    storage = MemoryStorage()
    first = parts(storage)
    first.write(b"a\n")
    position = first.cut()
    first.write(b"lost\n")
    first.cut()
    others = ["part-00002-9.gz", "readme.txt", "part-1-1.gz", "parts-9.json"]
    left = [".part-00001-1.gz.0a1b", "parts-1.json", "part-00001-1.gz"]
    for name in (*others, *left):
        storage.objects.setdefault(FOLDER + name, b"x")
    storage.objects[f"{OUT}v/part-00001-1.gz"] = b"of another task"
    with parts(storage, 2, position) as second:
        second.write(b"b\n")
    assert names(storage) == sorted(
        [*others, "part-00000-1.gz", "part-00001-2.gz", "parts-2.json", f"{OUT}v/part-00001-1.gz"]
    )
    assert content(storage, second.finish().uri) == b"a\nb\n"


@pytest.mark.parametrize(
    "position",
    [
        {},
        {"next": 1},
        {"next": 1, "owners": []},
        {"next": 0, "owners": [[1, 0]]},
        {"next": 3, "owners": [[1, 1]]},
        {"next": 3, "owners": [[2, 0], [1, 1]]},
        {"next": 3, "owners": [[1, 0], [2, 0]]},
        {"next": 3, "owners": [[4, 0]]},
        {"next": -1, "owners": []},
        {"next": "x", "owners": []},
        {"next": 3, "owners": 7},
        {"offset": 3, "version": "v"},
    ],
)
def test_what_is_no_position_fails_for_good(position: dict[str, Any]) -> None:
    with pytest.raises(PermanentError, match="not a position"):
        parts(MemoryStorage(), 3, position)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_each_row_once_whatever_dies_and_whenever(data: st.DataObject) -> None:
    """Attempts write rows, save at will and die at any change of the storage; the last one ends in peace."""
    storage, rows, state = MemoryStorage(), range(data.draw(st.integers(0, 30))), {"row": 0, "out": None}
    deaths = data.draw(st.lists(st.tuples(st.integers(1, 6), st.sampled_from(["before", "after"])), max_size=5))
    saves = data.draw(st.sets(st.sampled_from(range(31))))
    full = data.draw(st.sampled_from([1, 10_000]))  # a part for each row, or only where it is cut
    result = None
    for attempt, death in enumerate([*deaths, None], 1):
        countdown = [death[0] if death else 0]

        def die(when: str, _verb: str, _uri: str, death: Any = death, countdown: list[int] = countdown) -> None:
            if death and when == death[1]:
                countdown[0] -= 1
                if countdown[0] == 0:
                    raise DiesError

        storage.watch = die
        try:
            with parts(storage, attempt, json.loads(json.dumps(state["out"])), part_bytes=full) as out:
                for row in rows[state["row"] :]:
                    out.write(b"%d\n" % row)
                    if row in saves:
                        state = {"row": row + 1, "out": out.cut()}
            result = out.finish()
            break
        except DiesError:
            continue
    assert result is not None
    assert content(storage, result.uri) == b"".join(b"%d\n" % row for row in rows)
    assert names(storage) == sorted([*listed(storage, result.uri), result.uri.removeprefix(FOLDER)])
