from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.api.longtask import Backoff, Retry, RetryLimits
from longtask_operator.api.reasons import Cause
from longtask_operator.core.retry import DEFAULT_LIMITS, GiveUp, RetryAt, backoff_after, decide_retry, limit_of
from tests.builders import at

NEVER_RETRIED = [cause for cause in Cause if cause not in DEFAULT_LIMITS]


def test_the_budgets_by_default() -> None:
    assert {str(cause): limit for cause, limit in DEFAULT_LIMITS.items()} == {
        "Application": 3, "AttemptTimeout": 3, "OutOfMemory": 5, "HeartbeatLost": 3, "NoProgress": 3,
        "NeverStarted": 3, "Lost": 5, "Disruption": 20, "Preempted": 20,
    }  # fmt: skip


def test_what_is_never_retried() -> None:
    assert {str(cause) for cause in NEVER_RETRIED} == {
        "Completed", "Deadline", "Cancelled", "Suspended", "Permanent", "Rejected"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cause", "retry", "expected"),
    [
        (Cause.APPLICATION, None, 3),
        (Cause.APPLICATION, Retry(), 3),
        (Cause.APPLICATION, Retry(limits=RetryLimits(application=0)), 0),
        (Cause.APPLICATION, Retry(limits=RetryLimits(application=9)), 9),
        (Cause.NEVER_STARTED, Retry(limits=RetryLimits(never_started=1)), 1),
        (Cause.HEARTBEAT_LOST, Retry(limits=RetryLimits(heartbeat_lost=7, no_progress=8)), 7),
        (Cause.NO_PROGRESS, Retry(limits=RetryLimits(heartbeat_lost=7, no_progress=8)), 8),
        (Cause.DISRUPTION, Retry(limits=RetryLimits(application=0)), 20),
        (Cause.PREEMPTED, Retry(limits=RetryLimits(preempted=2, disruption=0)), 2),
        *((cause, None, 0) for cause in NEVER_RETRIED),
    ],
)
def test_the_budget_of_a_cause(cause: Cause, retry: Retry | None, expected: int) -> None:
    assert limit_of(cause, retry) == expected


@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, 10), (2, 20), (3, 40), (6, 320), (7, 600), (8, 600), (10**6, 600)]
)
def test_the_default_wait_doubles_up_to_its_cap(failures: int, seconds: int) -> None:
    assert backoff_after(failures, None, 0.5) == timedelta(seconds=seconds)


@pytest.mark.parametrize(("jitter", "seconds"), [(0.0, 8), (0.5, 10), (0.75, 11)])
def test_chance_moves_the_wait_by_a_fifth_at_most(jitter: float, seconds: float) -> None:
    assert backoff_after(1, None, jitter) == timedelta(seconds=seconds)


def test_a_wait_as_the_spec_asks() -> None:
    asked = Backoff(initial_seconds=3, factor=1, max_seconds=2, jitter_percent=0)
    assert backoff_after(5, asked, 0.99) == timedelta(seconds=2)


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_positive_bounded_and_never_falls(failures: int, jitter: float) -> None:
    wait = backoff_after(failures, None, jitter)
    assert timedelta(seconds=8) <= wait <= timedelta(seconds=720)
    assert backoff_after(failures + 1, None, jitter) >= wait


@pytest.mark.parametrize("cause", NEVER_RETRIED)
def test_a_cause_without_a_budget_is_final(cause: Cause) -> None:
    assert decide_retry(cause, {cause: 1}, None, now=at(0), jitter=0.5) == GiveUp(
        message=f"{cause} is not retried", out_of_budget=False
    )


@pytest.mark.parametrize("cause", list(DEFAULT_LIMITS))
def test_a_budget_of_n_allows_n_retries(cause: Cause) -> None:
    limit = DEFAULT_LIMITS[cause]
    assert isinstance(decide_retry(cause, {cause: limit}, None, now=at(0), jitter=0.5), RetryAt)
    answer = decide_retry(cause, {cause: limit + 1}, None, now=at(0), jitter=0.5)
    message = f"{limit + 1} attempts ended by {cause}; {limit} retries were allowed"
    assert answer == GiveUp(message=message, out_of_budget=True)


def test_a_budget_of_none_allows_no_retry() -> None:
    retry = Retry(limits=RetryLimits(application=0))
    assert isinstance(decide_retry(Cause.APPLICATION, {Cause.APPLICATION: 1}, retry, now=at(0), jitter=0.5), GiveUp)


def test_one_cause_does_not_use_up_the_budget_of_another() -> None:
    counts = {Cause.DISRUPTION: 20, Cause.APPLICATION: 1}
    assert isinstance(decide_retry(Cause.APPLICATION, counts, None, now=at(0), jitter=0.5), RetryAt)


def test_the_wait_grows_with_all_failures_but_not_with_stops_on_request() -> None:
    counts = {Cause.APPLICATION: 1, Cause.LOST: 1, Cause.SUSPENDED: 7, Cause.CANCELLED: 1}
    assert decide_retry(Cause.LOST, counts, None, now=at(100), jitter=0.5) == RetryAt(not_before=at(120))
