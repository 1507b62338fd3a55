from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.core.sight import is_deaf
from tests.builders import at


@pytest.mark.parametrize(
    ("now", "reports", "unheard", "expected"),
    [
        pytest.param(1000, [], 0, False, id="nobody-reports-and-nobody-did"),
        pytest.param(20, [], 5, False, id="just-began-to-listen"),
        pytest.param(1000, [], 5, True, id="none-of-five-came-to-this-leader"),
        pytest.param(1000, [], 1, False, id="of-one-nobody-can-tell"),
        pytest.param(1000, [999], 5, False, id="somebody-comes-through"),
        pytest.param(1000, [500, 990], 0, False, id="one-is-silent-another-is-heard"),
        pytest.param(1000, [900, 903, 896], 0, True, id="all-fell-silent-at-once"),
        pytest.param(1000, [900, 400], 0, False, id="one-after-the-other"),
        pytest.param(1000, [900, 903, 400], 0, True, id="one-had-hung-before-all-fell-silent"),
        pytest.param(1000, [900], 0, False, id="a-single-reporter-is-silent"),
        pytest.param(1000, [980, 981], 0, False, id="not-long-enough-to-say"),
    ],
)
def test_whose_silence_it_is(now: float, reports: list[float], unheard: int, expected: bool) -> None:
    assert is_deaf(at(now), at(0), [at(second) for second in reports], unheard, 5) is expected


def test_a_slow_pace_is_no_silence() -> None:
    assert not is_deaf(at(1000), at(0), [at(500), at(510)], 0, 200)
    assert is_deaf(at(1200), at(0), [at(500), at(510)], 0, 200)


@given(st.lists(st.integers(0, 1000), max_size=8), st.integers(0, 3), st.integers(0, 1000))
def test_nobody_is_deaf_who_heard_somebody_just_now(reports: list[int], unheard: int, since: int) -> None:
    assert not is_deaf(at(1000), at(since), [at(second) for second in [*reports, 975]], unheard, 5)


@given(st.lists(st.integers(0, 900), min_size=2, max_size=8))
def test_a_channel_that_breaks_is_noticed_whatever_hung_before(earlier: list[int]) -> None:
    reports = [*earlier, 925, 930]
    assert is_deaf(at(1000), at(0), [at(second) for second in reports], 0, 5)
