from __future__ import annotations

import pytest

from longtask_operator.engines.turns import Turns


def taken(turns: Turns) -> list[str]:
    return [turns.take() for _ in range(len(turns))]


def test_a_flood_of_one_namespace_delays_another_by_one_key() -> None:
    turns = Turns()
    for number in range(10_000):
        turns.put(f"flood/t{number}")
    turns.put("quiet/t")
    assert [turns.take(), turns.take(), turns.take()] == ["flood/t0", "quiet/t", "flood/t1"]


def test_within_a_namespace_the_order_is_that_of_coming() -> None:
    turns = Turns()
    for key in ("a/1", "a/2", "b/1", "a/3"):
        turns.put(key)
    assert sorted(turns) == ["a/1", "a/2", "a/3", "b/1"]
    assert taken(turns) == ["a/1", "b/1", "a/2", "a/3"]


def test_who_comes_back_waits_behind_the_others() -> None:
    turns = Turns()
    turns.put("a/1")
    turns.put("b/1")
    turns.put(turns.take())
    assert taken(turns) == ["b/1", "a/1"]


def test_it_knows_how_many_wait_and_when_none_does() -> None:
    turns = Turns()
    assert not turns
    turns.put("a/1")
    assert len(turns) == 1
    turns.take()
    assert not turns
    with pytest.raises(IndexError):
        turns.take()
