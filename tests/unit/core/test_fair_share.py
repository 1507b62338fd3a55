from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.core.fair_share import HALF_LIFE, Decayed, advanced, format_decayed, parse_decayed, share_of
from tests.builders import START

ONE = (1, 1000, 1 << 30)


def test_what_was_used_a_half_life_ago_counts_half() -> None:
    used = Decayed(at=START, use={"a": (8.0, 4000.0, float(8 << 30))})
    later = advanced(used, {}, START + HALF_LIFE)
    assert later.use["a"] == pytest.approx((4.0, 2000.0, float(4 << 30)))


@given(st.integers(1, 10_000_000))
def test_it_does_not_matter_how_often_it_is_written(seconds: int) -> None:
    middle, end = START + timedelta(seconds=seconds // 3), START + timedelta(seconds=seconds)
    begin = Decayed(at=START, use={"a": (2.0, 500.0, float(1 << 30))})
    once = advanced(begin, {"a": ONE}, end)
    twice = advanced(parse_decayed(format_decayed(advanced(begin, {"a": ONE}, middle))), {"a": ONE}, end)
    assert twice.use["a"] == pytest.approx(once.use["a"], rel=1e-6)


def test_the_first_write_begins_the_count_though_nothing_was_used() -> None:
    begun = parse_decayed(format_decayed(advanced(Decayed(), {}, START)))
    assert begun.at == START
    assert advanced(begun, {"a": ONE}, START + timedelta(hours=1)).use["a"][0] > 0


def test_a_clock_that_went_back_takes_nothing_away() -> None:
    used = Decayed(at=START, use={"a": (8.0, 4000.0, 0.0)})
    assert advanced(used, {"a": ONE}, START - HALF_LIFE) == used


@pytest.mark.parametrize("text", ["", "nonsense", "2026-01-01T00:00:00Z\na 1 2", "2026-01-01T00:00:00Z\na nan 1 1"])
def test_what_cannot_be_read_counts_as_nothing(text: str) -> None:
    assert parse_decayed(text) == Decayed()


def test_a_share_is_of_what_is_used_most_and_falls_with_the_weight() -> None:
    share = share_of((0.0, 0.0, 0.0), (1, 1000, 0), (10, 2000, 0), 1)
    assert share == pytest.approx(share_of((0.0, 0.0, 0.0), (5, 0, 0), (10, 2000, 0), 1))
    assert share_of((0.0, 0.0, 0.0), (1, 1000, 0), (10, 2000, 0), 4) == pytest.approx(share / 4)
