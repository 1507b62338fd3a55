from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.core.sight import Probes, is_silence_ours
from tests.builders import at

FAILED = Probes(failed_at=at(0), error="refused")


def ours(now: float, since: float, reports: Sequence[float], unheard: int, interval: float, probes: Probes) -> bool:
    moments = [at(second) for second in reports]
    return is_silence_ours(at(now), at(since), moments, unheard, interval, probes=probes)


@pytest.mark.parametrize("probes", [Probes(), FAILED], ids=["probes-come-through", "probes-are-not-believed"])
@pytest.mark.parametrize(
    ("now", "reports", "unheard", "expected"),
    [
        pytest.param(500, [], 0, False, id="nobody-reports-and-nobody-did"),
        pytest.param(20, [], 5, False, id="just-began-to-listen"),
        pytest.param(500, [], 5, True, id="none-of-five-came-to-this-leader"),
        pytest.param(500, [], 1, False, id="of-one-nobody-can-tell"),
        pytest.param(500, [499], 5, False, id="somebody-comes-through"),
        pytest.param(500, [200, 490], 0, False, id="one-is-silent-another-is-heard"),
        pytest.param(500, [400, 403, 396], 0, True, id="all-fell-silent-at-once"),
        pytest.param(500, [400, 200], 0, False, id="one-after-the-other"),
        pytest.param(500, [400, 403, 200], 0, True, id="one-had-hung-before-all-fell-silent"),
        pytest.param(500, [400], 0, False, id="a-single-reporter-is-silent"),
        pytest.param(500, [480, 481], 0, False, id="not-long-enough-to-say"),
    ],
)
def test_whose_silence_it_is(now: float, reports: list[float], unheard: int, expected: bool, probes: Probes) -> None:
    assert ours(now, 0, reports, unheard, 5, probes) is expected


def test_a_slow_pace_is_no_silence() -> None:
    assert not ours(1000, 0, [500, 510], 0, 200, Probes())
    assert ours(1200, 0, [500, 510], 0, 200, Probes())


@pytest.mark.parametrize(("reports", "unheard"), [([900.0, 903.0], 0), ([], 5)])
def test_the_silence_of_all_is_believed_in_the_end_where_probes_come_through(
    reports: list[float], unheard: int
) -> None:
    last = max(reports, default=0)
    assert ours(last + 630, 0, reports, unheard, 5, Probes())
    assert not ours(last + 631, 0, reports, unheard, 5, Probes())
    assert ours(last + 9999, 0, reports, unheard, 5, FAILED)


@given(st.lists(st.integers(0, 1000), max_size=8), st.integers(0, 3), st.integers(0, 1000))
def test_nobody_is_deaf_who_heard_somebody_just_now(reports: list[int], unheard: int, since: int) -> None:
    assert not ours(1000, since, [*reports, 975], unheard, 5, Probes())


@given(st.lists(st.integers(0, 900), min_size=2, max_size=8))
def test_a_channel_that_breaks_is_noticed_whatever_hung_before(earlier: list[int]) -> None:
    assert ours(1000, 0, [*earlier, 925, 930], 0, 5, Probes())


class TestProbes:
    def test_before_the_first_they_say_nothing(self) -> None:
        assert not Probes().say_deaf

    def test_one_that_fails_says_deaf_until_one_comes_through(self) -> None:
        failed = Probes().after(at(10), "refused", at(9))
        assert (failed.say_deaf, failed.error) == (True, "refused")
        assert failed.after(at(12), "refused", at(9)).say_deaf
        assert failed.after(at(12), "", at(9)) == Probes()

    def test_one_report_that_came_between_does_not_contradict_them(self) -> None:
        probes = Probes().after(at(10), "refused", at(9))
        for second in range(12, 200, 2):
            probes = probes.after(at(second), "refused", at(11))
        assert probes.say_deaf

    def test_reports_that_keep_coming_do(self) -> None:
        probes = Probes()
        for second in (10, 12, 14):
            probes = probes.after(at(second), "refused", at(second - 1))
            assert probes.say_deaf
        probes = probes.after(at(16), "refused", at(15))
        assert not probes.say_deaf
        assert not probes.after(at(18), "refused", at(15)).say_deaf, "also while nobody reports"
        assert probes.after(at(18), "", at(15)).after(at(20), "refused", at(15)).say_deaf
