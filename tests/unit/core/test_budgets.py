from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.api.quantity import GIBIBYTE
from longtask_operator.core.budgets import (
    STEPS,
    Budget,
    BudgetUse,
    Spending,
    advance,
    advance_blindly,
    describe_spent,
    format_spending,
    parse_spending,
    uses_of,
)
from longtask_operator.core.quota import Amounts
from tests.builders import START, at

DAY = Budget(name="day", window=timedelta(days=1), cpu_hours=10, memory_gib_hours=40)
TWO = Amounts(concurrency=2, cpu=2000, memory=4 * GIBIBYTE)
NOTHING = Amounts()
HOUR = 3600


def held(*spells: tuple[float, Amounts], budget: Budget = DAY) -> Spending:
    """Return the spending of a tenant that held each amount for so many hours, one after the other."""
    spending, moment = advance(None, [budget], NOTHING, START), START
    for hours, amounts in spells:
        moment += timedelta(hours=hours)
        spending = advance(spending, [budget], amounts, moment)
    return spending


def use(spending: Spending, budget: Budget = DAY) -> BudgetUse:
    (found,) = uses_of(spending, [budget])
    return found


def test_what_is_held_counts_by_the_time_it_is_held() -> None:
    found = use(held((1, TWO), (1, NOTHING), (0.5, TWO)))
    assert (found.cpu_hours, found.memory_gib_hours) == (3.0, 6.0)
    assert (found.percent, found.state) == (30, "Ok")


def test_the_resource_that_is_used_most_decides() -> None:
    memory = Amounts(concurrency=1, cpu=250, memory=8 * GIBIBYTE)
    found = use(held((4, memory)))
    assert (found.percent, found.state) == (80, "Warning")


def test_a_spent_budget_says_what_and_until_when() -> None:
    spending = held((5, TWO))
    found = use(spending)
    assert found.state == "Spent"
    assert describe_spent([found], "TenantQuota team-a") == (
        "budget day of TenantQuota team-a is spent: 10.0 of 10 CPU-hours and 20.0 of 40 GiB-hours in 1 days; "
        "it recovers from 2026-02-01T09:00:00Z"
    )


def test_what_recovers_when_it_says_so() -> None:
    spending = held((5, TWO))
    recovers = use(spending).recovers_at
    assert recovers is not None
    assert use(advance(spending, [DAY], NOTHING, recovers - timedelta(seconds=1))).state == "Spent"
    assert use(advance(spending, [DAY], NOTHING, recovers)).state == "Warning"


def test_a_budget_that_only_warns_holds_nobody_back() -> None:
    budget = Budget(name="day", window=timedelta(days=1), cpu_hours=1, only_warns=True)
    found = use(held((5, TWO), budget=budget), budget)
    assert (found.state, describe_spent([found], "x")) == ("Spent", "")


def test_after_a_window_nothing_is_left() -> None:
    later = advance(held((5, TWO)), [DAY], NOTHING, at(30 * HOUR + HOUR))
    assert later.steps["day"] == ()


def test_a_clock_that_went_back_adds_nothing() -> None:
    spending = held((1, TWO))
    assert advance(spending, [DAY], TWO, START) == spending


def test_a_new_budget_begins_empty_and_an_old_one_is_forgotten() -> None:
    week = Budget(name="week", window=timedelta(days=7), cpu_hours=1)
    spending = advance(held((1, TWO)), [week], TWO, at(2 * HOUR))
    assert set(spending.steps) == {"week"}
    assert use(spending, week).cpu_hours == 0.0
    assert use(advance(spending, [week], TWO, at(3 * HOUR)), week).cpu_hours == 2.0


@pytest.mark.parametrize("text", ["", "x", "1\nday 1:2", "1\nday a:b:c", "1\nday 1:2:3:4:5"])
def test_a_malformed_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"invalid literal|not enough values|not a step"):
        parse_spending(text)


MS_PER_HOUR = 3_600_000
SPELLS = st.lists(st.tuples(st.floats(0.001, 40), st.integers(0, 20)), max_size=12)


def amounts(attempts: int) -> Amounts:
    return Amounts(concurrency=attempts, cpu=attempts * 250, memory=attempts * GIBIBYTE)


@given(SPELLS)
def test_what_is_written_is_read_back_and_stays_small(spells: list[tuple[float, int]]) -> None:
    spending = held(*((hours, amounts(count)) for hours, count in spells))
    assert parse_spending(format_spending(spending)) == spending
    assert len(spending.steps["day"]) <= STEPS + 2
    assert len(format_spending(spending)) < 2000


@given(SPELLS)
def test_never_less_than_what_was_held_in_the_window_and_at_most_a_step_more(spells: list[tuple[float, int]]) -> None:
    spending = held(*((hours, amounts(count)) for hours, count in spells))
    total = sum(hours for hours, _ in spells)
    edges, exact, wide = [0.0], 0.0, 0.0
    for hours, _ in spells:
        edges.append(edges[-1] + hours)
    for (begin, end), (_, count) in zip(pairwise(edges), spells, strict=True):
        exact += max(0.0, end - max(begin, total - 24)) * count * 0.25
        wide += max(0.0, end - max(begin, total - 25)) * count * 0.25
    assert exact - 0.01 <= use(spending).cpu_hours <= wide + 0.01


@given(st.lists(st.tuples(st.integers(1, 5 * MS_PER_HOUR), st.integers(0, 20)), max_size=12), st.integers(2, 9))
def test_how_often_it_is_written_changes_nothing(spells: list[tuple[int, int]], pieces: int) -> None:
    # Whole milliseconds: a time that is cut off differently at the edge of a step moves the window by one.
    once = held(*((length * pieces / MS_PER_HOUR, amounts(count)) for length, count in spells))
    often = held(*((length / MS_PER_HOUR, amounts(count)) for length, count in spells for _ in range(pieces)))
    assert often == once


def windows(*spells: tuple[float, float, Amounts]) -> Spending:
    """Return the spending of a tenant that held each amount for so many hours under a budget of so many hours."""
    spending, moment = advance(None, [DAY], NOTHING, START), START
    for hours, window, amounts in spells:
        moment += timedelta(hours=hours)
        spending = parse_spending(format_spending(spending))
        spending = advance(spending, [replace(DAY, window=timedelta(hours=window))], amounts, moment)
    return spending


MONTH = 720


def test_a_shorter_window_forgets_nothing_that_was_spent_within_it() -> None:
    spending = windows((41, MONTH, NOTHING), (4, MONTH, TWO), (0.01, 24, NOTHING))  # late in a step of 30 hours
    assert use(spending).cpu_hours == 8.0
    assert use(windows((4, MONTH, TWO), (54, MONTH, NOTHING), (0, 24, NOTHING))).cpu_hours == 0


def test_after_a_window_was_made_shorter_it_recovers_a_window_after_the_last_that_was_held() -> None:
    spending = windows((25, MONTH, NOTHING), (6, MONTH, TWO), (0.01, 24, NOTHING))
    recovers = use(spending).recovers_at
    assert recovers == at((25 + 6 + 24) * HOUR)
    assert recovers is not None
    assert use(advance(spending, [DAY], NOTHING, recovers - timedelta(seconds=1))).state == "Spent"
    assert use(advance(spending, [DAY], NOTHING, recovers)).state == "Ok"


def test_a_longer_window_counts_what_was_spent_under_the_shorter_one() -> None:
    spending = windows((4, 24, TWO), (0, MONTH, NOTHING), (600, MONTH, NOTHING))
    assert use(spending).cpu_hours == 8.0
    assert use(windows((4, 24, TWO), (0, MONTH, NOTHING), (MONTH + 4 + 30, MONTH, NOTHING))).cpu_hours == 0


def test_a_window_that_is_changed_and_changed_back_is_as_it_was() -> None:
    once = windows((2, 24, TWO), (0.3, 24, TWO))
    assert windows((2, 24, TWO), (0, 30, NOTHING), (0.3, 24, TWO)) == once


def test_what_an_older_operator_wrote_is_of_the_steps_of_its_budget() -> None:
    begin = int(START.timestamp() * 1000)
    old = parse_spending(f"{begin + MS_PER_HOUR}\nday {begin}:{2000 * MS_PER_HOUR}:0")
    assert parse_spending(format_spending(old)) == old
    spending = advance(old, [DAY], TWO, at(2 * HOUR))
    assert use(spending).cpu_hours == 4.0
    assert use(advance(spending, [DAY], NOTHING, at(25 * HOUR - 1))).cpu_hours == 4.0
    assert use(advance(spending, [DAY], NOTHING, at(25 * HOUR))).cpu_hours == 2.0


CHANGES = st.lists(
    st.tuples(st.floats(0, 40), st.sampled_from([1 / 60, 1, 5, 23, 24, 25, 200, MONTH]), st.integers(0, 4)), max_size=20
)


@given(CHANGES)
def test_however_its_window_changes_a_budget_counts_what_was_held_within_it(
    changes: list[tuple[float, float, int]],
) -> None:
    """All of it that no shorter window had left before, and at most what was held in one step more."""
    spells, now, widest = [(hours, window, amounts(count)) for hours, window, count in changes], 0.0, 1.0
    known, whole = list[tuple[float, float, int]](), list[tuple[float, float, int]]()
    for number, (hours, window, count) in enumerate(changes, start=1):
        whole.append((now, now + hours, count))
        now, widest = now + hours, max(widest, window / STEPS)
        left = now - window
        known = [(max(begin, left), end, held) for begin, end, held in [*known, whole[-1]] if end > left]
        spending = windows(*spells[:number])
        exact = sum((end - begin) * held for begin, end, held in known) * 0.25
        wide = sum(max(0.0, end - max(begin, left - widest)) * held for begin, end, held in whole) * 0.25
        assert exact - 0.01 <= use(spending).cpu_hours <= wide + 0.01
        assert len(spending.steps["day"]) <= 3 * STEPS
        assert windows(*spells[:number], (window + 30, window, NOTHING)).steps["day"] == ()


def test_no_limit_is_never_spent() -> None:
    assert use(held((100, TWO), budget=Budget(name="day", window=timedelta(hours=1))), _unlimited()).state == "Ok"


def _unlimited(**changes: Any) -> Budget:
    return Budget(name="day", window=timedelta(hours=1), **changes)


@given(
    st.lists(st.tuples(st.floats(0, 30), st.sampled_from([TWO, NOTHING]), st.booleans()), max_size=12),
    st.sampled_from([DAY, replace(DAY, window=timedelta(hours=2)), replace(DAY, window=timedelta(days=30))]),
)
def test_a_budget_that_cannot_be_read_for_a_while_gets_all_that_was_held_in_its_window(
    spells: list[tuple[float, Amounts, bool]], budget: Budget
) -> None:
    """And of what was held before no more than one step of it, or of those in which is counted meanwhile."""
    spending, moment, exact = advance(None, [budget], NOTHING, START), START, list[tuple[datetime, datetime, int]]()
    for hours, amounts, is_read in spells:
        exact.append((moment, moment + timedelta(hours=hours), amounts.cpu))
        moment += timedelta(hours=hours)
        later = advance(spending, [budget], amounts, moment) if is_read else advance_blindly(spending, amounts, moment)
        spending = parse_spending(format_spending(later))
    found = use(advance(spending, [budget], NOTHING, moment), budget).cpu_hours
    slack = max(timedelta(milliseconds=budget.step_ms), timedelta(hours=1))

    def held_within(time: timedelta) -> float:
        spans = [(max(begin, moment - time), end, cpu) for begin, end, cpu in exact]
        return sum(cpu * max(0.0, (end - begin).total_seconds()) for begin, end, cpu in spans) / 1000 / HOUR

    assert held_within(budget.window) - 0.001 <= found <= held_within(budget.window + 2 * slack) + 0.001
