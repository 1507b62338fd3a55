from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.api.reasons import QueueReason
from longtask_operator.api.times import parse_time
from longtask_operator.core.estimate import LEAST_SAMPLES, Pace, believed_until, estimate_start, pace_of, prolonged
from tests.builders import START, at, wire

FULL = QueueReason.QUOTA_EXHAUSTED
PACE = Pace(quick=60, slow=120, samples=40, live=5)


def test_a_pace_is_a_quick_and_a_slow_attempt() -> None:
    assert pace_of(range(1, 42), live=3) == Pace(quick=11, slow=37, samples=41, live=3)


@pytest.mark.parametrize(("samples", "live"), [(LEAST_SAMPLES - 1, 1), (LEAST_SAMPLES, 0)])
def test_too_few_samples_or_nothing_alive_say_nothing(samples: int, live: int) -> None:
    assert pace_of([1.0] * samples, live) is None


def test_the_first_in_line_waits_for_one_attempt_at_most() -> None:
    found = estimate_start(FULL, 1, PACE, now=START)
    assert found is not None
    assert (found.earliest, found.latest) == (wire(0), wire(120))
    assert found.basis == "last 40 attempts of this tenant, 5 at once"


def test_those_behind_wait_for_whole_rounds() -> None:
    found = estimate_start(FULL, 20, PACE, now=at(10))
    assert found is not None
    assert (found.earliest, found.latest) == (wire(10 + 180), wire(10 + 480))


@pytest.mark.parametrize("reason", [QueueReason.TENANT_STOPPED, QueueReason.NEVER_FITS, QueueReason.BUDGET_EXHAUSTED])
def test_waits_that_end_by_a_decision_have_no_estimate(reason: QueueReason) -> None:
    assert estimate_start(reason, 1, PACE, now=START) is None


def test_without_a_place_or_a_past_nothing_is_said() -> None:
    assert estimate_start(FULL, None, PACE, now=START) is None
    assert estimate_start(FULL, 1, None, now=START) is None
    assert estimate_start(FULL, 10**9, PACE, now=START) is None


@pytest.mark.parametrize("slow", [0, 5, 3600])
def test_what_does_not_come_true_is_said_anew_ever_more_seldom(slow: float) -> None:
    pace, now = Pace(quick=slow, slow=slow, samples=40, live=5), START
    said = estimate_start(FULL, 1, pace, now=now)
    times = []
    for _ in range(10):
        assert said is not None
        now = believed_until(said)
        found = estimate_start(FULL, 1, pace, now=now)
        assert found is not None
        said = prolonged(found, said, now)
        assert now <= parse_time(said.earliest) < parse_time(said.latest)
        times.append((now - START).total_seconds())
    assert said.basis == "last 40 attempts of this tenant, 5 at once; an earlier estimate has passed"
    assert times[0] == slow + 60
    assert all(later - earlier >= 60 for earlier, later in pairwise(times))
    assert times[-1] > 100 * times[0]


@given(st.lists(st.floats(0, 1e5), min_size=5, max_size=40), st.integers(1, 50), st.integers(1, 1000))
def test_a_range_is_a_range_and_grows_with_the_position(seconds: list[float], live: int, position: int) -> None:
    pace = pace_of(seconds, live)
    here, behind = (estimate_start(FULL, place, pace, now=START) for place in (position, position + live))
    if here is None or behind is None:
        return
    assert START <= parse_time(here.earliest) <= parse_time(here.latest)
    assert parse_time(here.earliest) <= parse_time(behind.earliest)
    assert parse_time(here.latest) <= parse_time(behind.latest)
