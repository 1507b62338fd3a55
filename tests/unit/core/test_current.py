from __future__ import annotations

from typing import Any

import pytest

from longtask_operator.api.reasons import Cause
from longtask_operator.core.current import current_attempt
from tests.builders import FINISHED, a_job, a_longtask, a_pod, an_ended_pod, an_entry, at, seen

OPEN = {"attempt": 3, "attempts": [{"number": 3, "run": 1, "generation": 1, "podUid": "mine"}]}
ENDED = {
    "attempt": 3,
    "attempts": [{"number": 3, "run": 1, "generation": 1, "cause": "Lost", "completionTime": "2026-01-31T08:00:05Z"}],
}


@pytest.mark.parametrize(
    ("status", "there", "number", "is_open"),
    [
        pytest.param({}, {}, 0, False, id="nothing"),
        pytest.param({}, {"entry": an_entry(attempt=1)}, 1, True, id="an-entry"),
        pytest.param({}, {"jobs": (a_job(attempt=2),)}, 2, True, id="a-job-without-an-entry"),
        pytest.param({}, {"pods": (a_pod(attempt=2),)}, 2, True, id="a-pod-without-a-job"),
        pytest.param(OPEN, {}, 3, True, id="recorded-and-nothing-there"),
        pytest.param(ENDED, {}, 3, False, id="ended"),
        pytest.param(ENDED, {"entry": an_entry(attempt=3), "jobs": (a_job(attempt=3),)}, 3, False, id="and-there"),
        pytest.param(ENDED, {"entry": an_entry(attempt=4)}, 4, True, id="the-next-is-admitted"),
        pytest.param(OPEN, {"jobs": (a_job(attempt=1), a_job(attempt=2))}, 3, True, id="older-jobs"),
        pytest.param({"attempt": 4}, {"jobs": (a_job(attempt=4),)}, 4, False, id="given-up-before-it-was-seen"),
        pytest.param({"attempt": 4}, {"entry": an_entry(attempt=4)}, 4, False, id="given-up-and-still-in-the-ledger"),
    ],
)
def test_the_newest_attempt_is_the_highest_that_anything_names(
    status: dict[str, Any], there: dict[str, Any], number: int, is_open: bool
) -> None:
    attempt = current_attempt(seen(a_longtask(status=status), **there))
    assert (attempt.number, attempt.is_open) == (number, is_open)


@pytest.mark.parametrize(
    ("counted", "job_run", "is_open", "is_from_before"),
    [(1, 1, False, True), (1, 2, True, False), (2, 1, False, False)],
    ids=["of-an-earlier-run", "of-this-run", "of-an-earlier-run-and-counted"],
)
def test_an_attempt_of_an_earlier_run_that_was_never_shown_is_not_open(
    counted: int, job_run: int, is_open: bool, is_from_before: bool
) -> None:
    task = a_longtask(status={"run": 2, "attempt": counted})
    attempt = current_attempt(seen(task, jobs=(a_job(attempt=2, run=job_run),), entry=an_entry(attempt=2)))
    assert (attempt.number, attempt.is_open, attempt.is_from_before) == (2, is_open, is_from_before)


def test_what_belongs_to_other_attempts_is_not_its_own() -> None:
    attempt = current_attempt(
        seen(a_longtask(status=OPEN), entry=an_entry(attempt=2), jobs=(a_job(attempt=1),), pods=(a_pod(attempt=2),))
    )
    assert (attempt.entry, attempt.job, attempt.pods) == (None, None, ())


@pytest.mark.parametrize(("cause", "expected"), [(None, None), ("Deadline", Cause.DEADLINE), ("NewWord", None)])
def test_a_stop_that_was_decided(cause: str | None, expected: Cause | None) -> None:
    status = {"attempt": 3, "attempts": [{"number": 3, "run": 1, "generation": 1, "cause": cause}]}
    assert current_attempt(seen(a_longtask(status=status))).stop is expected


def test_an_end_is_no_stop() -> None:
    assert current_attempt(seen(a_longtask(status=FINISHED))).stop is None


@pytest.mark.parametrize(
    ("pods", "first"),
    [
        ((a_pod(uid="b", attempt=3), a_pod(uid="mine", attempt=3, created=at(9))), "mine"),
        ((a_pod(uid="b", attempt=3), an_ended_pod(0, uid="c", attempt=3, created=at(9))), "c"),
        ((a_pod(uid="c", attempt=3, created=at(1)), a_pod(uid="b", attempt=3, created=at(2))), "c"),
        ((a_pod(uid="c", attempt=3), a_pod(uid="b", attempt=3)), "b"),
    ],
    ids=["the-recorded-one", "then-one-that-succeeded", "then-the-oldest", "then-by-uid"],
)
def test_which_of_two_pods_decides(pods: Any, first: str) -> None:
    for order in (pods, pods[::-1]):
        assert current_attempt(seen(a_longtask(status=OPEN), pods=order)).pods[0].uid == first
