"""Progress is what was said last; sampling it never disturbs the work."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from longtask_worker.progress import MAX_COUNT, Progress, Snapshot, as_count


def say(progress: Progress, done: object, total: object = None, **words: str | None) -> Snapshot:
    progress.say(done, total, unit=words.get("unit"), stage=words.get("stage"), message=words.get("message"))
    return progress.snapshot()


def test_nothing_said_is_nothing_known() -> None:
    assert Progress().snapshot() == Snapshot()


def test_track_counts_an_item_when_the_next_is_asked_for() -> None:
    progress = Progress()
    seen = [(item, progress.snapshot().done) for item in progress.track("abc", unit="letters", stage="reading")]
    assert seen == [("a", 0), ("b", 1), ("c", 2)]
    assert progress.snapshot() == Snapshot(done=3, total=3, unit="letters", stage="reading")


def test_track_of_a_stream_has_the_total_it_is_told() -> None:
    progress = Progress()
    items = progress.track((n for n in range(5)), total=5)
    next(items)
    assert progress.snapshot() == Snapshot(done=0, total=5)
    assert list(items) == [1, 2, 3, 4]
    assert progress.snapshot().done == 5


def test_track_of_nothing_is_done() -> None:
    progress = Progress()
    assert list(progress.track([])) == []
    assert progress.snapshot() == Snapshot(done=0, total=0)


def test_a_loop_that_breaks_has_not_done_its_last_item() -> None:
    progress = Progress()
    for item in progress.track(range(10)):
        if item == 4:
            break
    assert progress.snapshot().done == 4


def test_an_error_of_the_source_passes_through() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    progress = Progress()
    with pytest.raises(OSError, match="gone"):
        list(progress.track(source()))
    assert progress.snapshot().done == 0


def test_the_innermost_loop_is_shown_and_a_new_loop_starts_from_zero() -> None:
    progress = Progress()
    list(progress.track(range(3), unit="files"))
    inner = progress.track(range(2))
    next(inner)
    assert progress.snapshot() == Snapshot(done=0, total=2, unit="files")


def test_a_resumed_loop_counts_on_from_where_it_was() -> None:
    progress = Progress()
    items = progress.track(range(3), start=7)
    assert next(items) == 0
    assert progress.snapshot() == Snapshot(done=7, total=10)
    list(items)
    assert progress.snapshot().done == 10


def test_a_resumed_loop_without_items_is_where_it_was() -> None:
    progress = Progress()
    list(progress.track([], start=7))
    assert progress.snapshot().done == 7


def test_said_total_unit_and_stage_stay_but_a_message_does_not() -> None:
    progress = Progress()
    say(progress, 1, 10, unit="lines", stage="parsing", message="hello")
    assert say(progress, 2) == Snapshot(done=2, total=10, unit="lines", stage="parsing")


def test_a_report_replaces_a_loop() -> None:
    progress = Progress()
    items = progress.track(range(3))
    next(items)
    say(progress, 50, 100)
    next(items)
    assert progress.snapshot().done == 50


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, 3),
        (3.9, 3),
        ("7", 7),
        (-1, 0),
        (2**80, MAX_COUNT),
        (None, None),
        ("many", None),
        (float("nan"), None),
        (float("inf"), None),
    ],
)
def test_a_count_that_is_none_never_raises(value: object, expected: int | None) -> None:
    assert as_count(value) == expected
