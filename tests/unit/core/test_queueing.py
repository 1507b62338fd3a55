from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.queueing import AGING_SECONDS, Candidate, TenantQueue, moved_noticeably, place_of
from longtask_operator.core.sizing import Size
from tests.builders import SMALLEST, START, at

LARGER = Size(cpu=2 * SMALLEST.cpu, memory=2 * SMALLEST.memory)


def waiting(uid: str, *, priority: int = 0, seconds: float = 0, size: Size = SMALLEST, user: str = "") -> Candidate:
    entry = LedgerEntry(uid=uid, attempt=1, generation=1, size=size)
    return Candidate(
        key=f"team-a/{uid}", tenant="team-a", priority=priority, queued_at=at(seconds), entry=entry, user=user
    )


def queue_of(*candidates: Candidate, max_priority: int | None = None) -> TenantQueue:
    queue = TenantQueue(max_priority)
    for candidate in candidates:
        queue.put(candidate)
    return queue


def drained(queue: TenantQueue) -> list[str]:
    """Take everybody out in order."""
    uids = []
    while (first := queue.first()) is not None:
        queue.remove(first.entry.uid)
        uids.append(first.entry.uid)
    return uids


def test_order_is_by_priority_then_age_then_name() -> None:
    queue = queue_of(
        waiting("d", seconds=5), waiting("c"), waiting("b", size=LARGER), waiting("a", priority=1, seconds=9)
    )
    assert drained(queue) == ["a", "b", "c", "d"]


def test_who_is_put_in_knows_whether_it_is_the_last() -> None:
    queue = TenantQueue()
    assert [queue.put(waiting("b", seconds=second)) for second in (5, 4, 6)] == [True, False, True]
    assert not queue.put(waiting("a", seconds=7, priority=1))
    assert not queue.put(waiting("c", seconds=5))
    assert queue.put(waiting("d", seconds=6))


def test_an_hour_of_waiting_counts_like_one_step_of_priority() -> None:
    old, new = waiting("old"), waiting("new", priority=1, seconds=AGING_SECONDS + 1)
    assert drained(queue_of(new, old)) == ["old", "new"]
    newer = waiting("newer", priority=1, seconds=AGING_SECONDS - 1)
    assert drained(queue_of(old, newer)) == ["newer", "old"]


def test_a_capped_priority_counts_as_the_cap() -> None:
    eager, first = waiting("eager", priority=100, seconds=1), waiting("first", priority=5)
    assert drained(queue_of(eager, first, max_priority=5)) == ["first", "eager"]
    queue = queue_of(eager, first)
    queue.set_max_priority(5)
    assert drained(queue) == ["first", "eager"]


def test_the_first_that_fits_is_found_behind_others() -> None:
    queue = queue_of(waiting("large", size=LARGER), waiting("small", seconds=1), waiting("mine", seconds=2, user="eve"))
    first = queue.first(lambda line: line.size == SMALLEST and line.user != "")
    assert first is not None
    assert first.entry.uid == "mine"
    assert queue.first(lambda line: False) is None


def test_no_more_lines_are_asked_about_than_stand_before_the_first_that_fits() -> None:
    queue, asked = queue_of(*(waiting(f"u{n}", seconds=n, user=f"person-{n}") for n in range(500))), list[str]()
    first = queue.first(lambda line: bool(asked.append(line.user)) or line.user == "person-2")
    assert (first and first.entry.uid, asked) == ("u2", ["person-0", "person-1", "person-2"])


def test_persons_stand_in_one_line_where_nobody_asks_for_them() -> None:
    """A thousand of them were a thousand lines, each looked at for each who starts, without any limit of a person."""
    queue = queue_of(*(waiting(f"u{n:03}", seconds=n, user=f"person-{n}") for n in range(300)))

    def users() -> set[str]:
        seen = set[str]()
        assert queue.first(lambda line: bool(seen.add(line.user))) is None
        return seen

    assert len(users()) == 300
    queue.tell_persons_apart(False)
    queue.put(waiting("u300", seconds=300, user="newcomer"))
    assert users() == {""}
    queue.tell_persons_apart(True)
    assert len(users()) == 301
    assert drained(queue) == [f"u{n:03}" for n in range(301)]


def test_the_newest_candidate_of_a_task_counts() -> None:
    queue = queue_of(waiting("a"), waiting("b", seconds=1), waiting("a", seconds=2))
    assert len(queue) == 2
    assert queue.positions() == {"b": 1, "a": 2}
    assert drained(queue) == ["b", "a"]


def test_who_leaves_is_not_found_again() -> None:
    queue = queue_of(waiting("a"), waiting("b", seconds=1))
    queue.remove("a")
    queue.remove("nobody")
    assert (len(queue), queue.get("a"), queue.oldest()) == (1, None, START + timedelta(seconds=1))
    assert [candidate.entry.uid for candidate in queue] == ["b"]


@pytest.mark.parametrize(
    ("before", "now", "noticeable"),
    [(None, 1, True), (1, 1, False), (2, 1, True), (100, 81, False), (100, 80, True), (100, 120, True), (5, 4, True)],
)
def test_small_moves_in_a_long_queue_are_not_told(before: int | None, now: int, noticeable: bool) -> None:
    assert moved_noticeably(before, now) is noticeable


def left_over(puts: list[tuple[int, int, int, Size]], leave: set[int]) -> tuple[TenantQueue, dict[str, Candidate]]:
    """Return a queue after *puts*, of number, priority, seconds and size, and those that then wait in it by uid."""
    queue, newest = TenantQueue(), {}
    for number, priority, seconds, size in puts:
        candidate = waiting(f"u{number}", priority=priority, seconds=seconds, size=size)
        queue.put(candidate)
        newest[candidate.entry.uid] = candidate
    for number in leave:
        queue.remove(f"u{number}")
        newest.pop(f"u{number}", None)
    return queue, newest


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(-3, 3), st.integers(0, 9000), st.sampled_from([SMALLEST, LARGER])),
        max_size=40,
    ),
    st.sets(st.integers(0, 9)),
)
def test_a_queue_gives_everybody_out_once_in_the_order_of_their_places(
    puts: list[tuple[int, int, int, Size]], leave: set[int]
) -> None:
    queue, newest = left_over(puts, leave)
    expected = sorted(newest, key=lambda uid: place_of(newest[uid]))
    assert list(queue.positions()) == expected
    assert drained(queue) == expected


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(-3, 3), st.integers(0, 9000), st.sampled_from([SMALLEST, LARGER])),
        max_size=80,
    ),
    st.sets(st.integers(0, 30)),
    st.integers(1, 20),
    st.booleans(),
)
def test_the_first_few_are_the_first_in_order(
    puts: list[tuple[int, int, int, Size]], leave: set[int], number: int, only_small: bool
) -> None:
    queue, newest = left_over(puts, leave)
    wanted = [one for one in newest.values() if not only_small or one.entry.size == SMALLEST]
    few = queue.first_few(number, lambda line: not only_small or line.size == SMALLEST)
    assert few == sorted(wanted, key=place_of)[:number]
