from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.core.fair_share import HALF_LIFE, Decayed, advanced, format_decayed, parse_decayed, share_of
from longtask_operator.core.quota import Limits
from longtask_operator.core.sizing import Size
from tests.builders import SMALLEST, START
from tests.support.cohort import LARGE, Cohort, limits

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


@pytest.mark.parametrize("every", [0.05, 1, 60])
def test_who_begins_with_nothing_gathers_usage_however_often_it_is_written(every: float) -> None:
    """A busy cohort's ledger is written many times a second; what is added each time is tiny."""
    decayed, now = Decayed(at=START), START
    for _ in range(1_000):
        now += timedelta(seconds=every)
        decayed = parse_decayed(format_decayed(advanced(decayed, {"a": ONE}, now)))
    once = advanced(Decayed(at=START), {"a": ONE}, now)
    assert decayed.use["a"] == pytest.approx(once.use["a"], rel=1e-4)


def test_who_runs_short_attempts_now_and_then_gathers_usage_too() -> None:
    decayed, now = Decayed(at=START), START
    for _ in range(1_000):
        for held in ({"a": ONE}, {}):
            now += timedelta(seconds=2)
            decayed = parse_decayed(format_decayed(advanced(decayed, held, now)))
    half = advanced(Decayed(at=START), {"a": (1, 500, 1 << 29)}, now)
    assert decayed.use["a"][1:] == pytest.approx(half.use["a"][1:], rel=1e-2)


def test_who_used_little_long_ago_is_forgotten() -> None:
    decayed = advanced(advanced(Decayed(at=START), {"a": ONE}, START + timedelta(seconds=60)), {}, START + HALF_LIFE)
    assert "a" in decayed.use
    assert advanced(decayed, {}, START + 25 * HALF_LIFE).use == {}


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


def turns(own: dict[str, Limits], size_of: dict[str, Size], held: dict[str, int], decayed: dict[str, Any]) -> list[str]:
    """Return in what order tasks of those members start, of whom each has tasks of one size, and some run already."""
    cohort = Cohort(decayed=decayed, **own)
    for tenant, number in held.items():
        cohort.holds(tenant, number, size=size_of[tenant])
        cohort.waits(tenant, 4, size=size_of[tenant])
    return cohort.cycle()


@pytest.mark.parametrize("size", [SMALLEST, LARGE])
@pytest.mark.parametrize("decayed", [{}, {"a": (1.0, 0.0, 0.0), "b": (1.0, 1e6, 1e12)}])
def test_what_a_member_does_not_limit_takes_no_part_in_its_share(size: Size, decayed: dict[str, Any]) -> None:
    own = {"a": limits(1, cpu=10_000), "b": limits(1), "lender": limits(6, cpu=1000)}
    admitted = turns(own, {"a": SMALLEST, "b": size}, {"a": 2, "b": 2}, decayed)
    assert admitted == ["a", "b", "a", "b"]


LIMITED = st.tuples(st.booleans(), st.booleans(), st.booleans())


@given(
    own=st.fixed_dictionaries({"a": LIMITED, "b": LIMITED}),
    sizes=st.fixed_dictionaries(dict.fromkeys("ab", st.sampled_from([SMALLEST, LARGE]))),
    held=st.fixed_dictionaries(dict.fromkeys("ab", st.integers(0, 4))),
    decayed=st.fixed_dictionaries(dict.fromkeys("ab", st.tuples(*[st.sampled_from([0.0, 1.0, 1e6, 1e11])] * 3))),
)
def test_nobodys_turn_depends_on_what_members_have_of_what_they_do_not_limit(
    own: dict[str, tuple[bool, bool, bool]],
    sizes: dict[str, Size],
    held: dict[str, int],
    decayed: dict[str, tuple[float, float, float]],
) -> None:
    members = {
        tenant: limits(1 if attempts else None, cpu=500 if cpu else None, memory=SMALLEST.memory if memory else None)
        for tenant, (attempts, cpu, memory) in own.items()
    }
    members["lender"] = limits(6, cpu=20_000, memory=20 * SMALLEST.memory)
    without = {
        tenant: replace(sizes[tenant], cpu=sizes[tenant].cpu * cpu, memory=sizes[tenant].memory * memory)
        for tenant, (_, cpu, memory) in own.items()
    }
    use = {tenant: tuple(n * part for n, part in zip(decayed[tenant], own[tenant], strict=True)) for tenant in own}
    assert turns(members, sizes, held, decayed) == turns(members, without, held, use)
