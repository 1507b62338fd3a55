from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.api.report import Report
from longtask_operator.api.status import Progress
from longtask_operator.core.progress import MergedReport, merge_report
from longtask_operator.core.signs import Signs, first_signs, next_signs, recalled, with_signs
from tests.builders import at, wire


def told(*reports: tuple[float, dict[str, Any]]) -> Signs:
    """Return the signs after *reports*, each with the second in which it came."""
    merged: MergedReport | None = None
    signs: Signs | None = None
    for number, (second, said) in enumerate(reports):
        after = merge_report(merged, Report(**{"sequence": number, **said}), at(second))
        signs = next_signs(signs, merged, after, at(second)) if signs and merged else first_signs("pod-1", at(second))
        merged = after or merged
    assert signs is not None
    return signs


def test_the_first_report_is_life_and_no_progress() -> None:
    signs = told((5, {"done": 3}))
    assert (signs.first_report, signs.last_report, signs.last_progress) == (at(5), at(5), None)
    assert signs.interval == timedelta()


def test_reports_that_say_the_same_are_life_alone() -> None:
    signs = told((5, {"done": 3}), (10, {"done": 3}), (15, {"done": 2}))
    assert (signs.last_report, signs.last_progress, signs.longest_step) == (at(15), None, timedelta())
    assert signs.interval == timedelta(seconds=5)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"done": 3}, {"done": 4}),
        ({"done": 3}, {"done": 3, "stage": "sorting"}),
        ({"done": 3}, {"total": 9}),
        ({}, {"done": 0}),
        ({}, {"stage": "sorting"}),
        ({"stage": "sorting"}, {"message": "row 9"}),
    ],
)
def test_what_counts_as_progress(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert told((5, before), (10, after)).last_progress == at(10)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"done": 3, "message": "a"}, {"done": 3, "message": "b"}),
        ({"stage": "sorting"}, {"stage": "sorting", "memory_bytes": 7}),
        ({"done": 3}, {"done": 9, "sequence": 0}),
    ],
)
def test_what_does_not(before: dict[str, Any], after: dict[str, Any]) -> None:
    signs = told((5, before), (10, after))
    assert (signs.last_progress, signs.last_report) == (None, at(10))


def test_the_longest_step_is_remembered() -> None:
    reports = [(float(second), {"done": 1 if second < 40 else 2 if second < 50 else 3}) for second in range(0, 60, 5)]
    assert told(*reports).longest_step == timedelta(seconds=40)


def test_a_step_over_a_gap_in_the_reports_measures_nothing() -> None:
    signs = told((0, {"done": 1}), (5, {"done": 2}), (500, {"done": 3}))
    assert (signs.longest_step, signs.last_progress) == (timedelta(seconds=5), at(500))


def test_slow_reports_are_no_gap() -> None:
    signs = told((0, {"done": 1}), (200, {"done": 1}), (400, {"done": 1}), (600, {"done": 2}))
    assert signs.longest_step == timedelta(seconds=600)


class TestRecalled:
    MIRRORED = Progress(done=7, last_report_time=wire(100), last_progress_time=wire(90), longest_step_seconds=60)

    def test_nothing_is_known_of_one_that_never_reported(self) -> None:
        assert recalled(None, "pod-1", None, None) is None
        assert recalled(None, "pod-1", Progress(done=1), None) is None

    def test_a_leader_that_heard_nothing_yet_knows_what_the_status_says(self) -> None:
        signs = recalled(None, "pod-1", self.MIRRORED, None)
        assert signs is not None
        assert (signs.last_report, signs.last_progress) == (at(100), at(90))
        assert signs.longest_step == timedelta(seconds=60)

    def test_one_that_did_knows_both(self) -> None:
        signs = recalled(told((200, {"done": 7}), (205, {"done": 7})), "pod-1", self.MIRRORED, 7)
        assert signs is not None
        assert (signs.last_report, signs.last_progress) == (at(205), at(90))
        assert signs.longest_step == timedelta(seconds=60)

    def test_a_count_above_the_mirrored_one_is_progress_that_nobody_saw(self) -> None:
        signs = recalled(told((200, {"done": 8})), "pod-1", self.MIRRORED, 8)
        assert signs is not None
        assert signs.last_progress == at(200)

    def test_what_a_restart_must_not_forget_goes_into_the_status(self) -> None:
        signs = told((0, {"done": 1}), (30, {"done": 2}))
        shown = with_signs(Progress(done=2), signs)
        assert (shown.last_progress_time, shown.longest_step_seconds) == (wire(30), 30)
        assert with_signs(Progress(), told((0, {}))) == Progress()


REPORTS = st.lists(
    st.tuples(st.integers(0, 300), st.fixed_dictionaries({}, optional={"done": st.integers(0, 5)})), min_size=1
)


@given(REPORTS)
def test_signs_never_lie(reports: list[tuple[int, dict[str, Any]]]) -> None:
    signs = told(*sorted(reports, key=lambda report: report[0]))
    assert signs.first_report <= (signs.last_progress or signs.first_report) <= signs.last_report
    assert signs.longest_step <= signs.last_report - signs.first_report
