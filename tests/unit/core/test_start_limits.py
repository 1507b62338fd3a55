"""How long a start may take, told through `reconcile`, and what is shown of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.api.reasons import ConditionType
from longtask_operator.api.status import LongTaskStatus
from longtask_operator.core.conditions import find_condition
from longtask_operator.core.current import Observed, current_attempt
from longtask_operator.core.decision import StopJob
from longtask_operator.core.observe import _TELLING_WAITS
from longtask_operator.core.policy import Policy
from longtask_operator.core.reconcile import reconcile
from longtask_operator.core.start_limits import KINDS, StartLimits, kind_of, start_limit
from tests.builders import LADDER, a_job, a_longtask, a_pod, an_entry, at, seen, wire

BEGUN: dict[str, Any] = {"run": 1, "attempt": 0, "tenant": "team-a", "runStartTime": wire(0)}
LIMITS = StartLimits(config=20, image=50, container=90)
POLICY = Policy(ladder=LADDER, start_limits=LIMITS)


def starting(waiting: str, *, since: float = 5, spec: dict[str, Any] | None = None, **changes: Any) -> Observed:
    pod = a_pod(waiting=waiting, waiting_since=at(since) if kind_of(waiting) else None)
    return seen(a_longtask(spec, BEGUN), entry=an_entry(), jobs=(a_job(),), pods=(pod,), **changes)


def limit_of(observed: Observed) -> Any:
    return start_limit(observed, current_attempt(observed), LIMITS)


@pytest.mark.parametrize(
    ("waiting", "spec", "expected"),
    [
        ("InvalidImageName: x", {}, 25),
        ("ErrImageNeverPull: x", {}, 25),
        ("CreateContainerConfigError: no Secret", {}, 25),
        ("ErrImagePull: x", {}, 55),
        ("ImagePullBackOff: x", {}, 55),
        ("CreateContainerError: x", {}, 95),
        ("Unschedulable: no room", {}, 600),
        ("", {}, 600),
        ("", {"startTimeoutSeconds": 30}, 30),
        ("ImagePullBackOff: x", {"startTimeoutSeconds": 30}, 30),
        ("InvalidImageName: x", {"startTimeoutSeconds": 3600}, 25),
        ("Unschedulable: no room", {"startTimeoutSeconds": 3600}, 3600),
    ],
)
def test_each_reason_has_its_limit_and_the_tasks_own_caps_all(
    waiting: str, spec: dict[str, Any], expected: float
) -> None:
    observed = starting(waiting, spec=spec)
    assert limit_of(observed).at == at(expected)
    before = reconcile(starting(waiting, spec=spec, now=at(expected - 1)), POLICY)
    assert before.then == ()
    assert before.again_at == at(expected)
    after = reconcile(starting(waiting, spec=spec, now=at(expected)), POLICY)
    assert after.then == (StopJob(job=a_job()),)
    assert after.status is not None
    (attempt,) = after.status.attempts or []
    assert attempt.cause == "NeverStarted"
    assert (attempt.message or "").endswith(f": {waiting}" if waiting else ")")


def test_the_message_names_the_limit() -> None:
    assert limit_of(starting("ErrImagePull: x")).said == "did not start within 50 s"
    assert limit_of(starting("")).said == "did not start within startTimeoutSeconds (600)"


def test_nobody_is_judged_in_the_minute_after_an_outage() -> None:
    assert limit_of(starting("ErrImagePull: x", watching_since=at(1000))).at == at(1060)
    assert limit_of(starting("", watching_since=at(100))).at == at(600)


def test_a_reason_of_which_nobody_noted_the_begin_has_the_tasks_own_limit() -> None:
    pod = a_pod(waiting="ErrImagePull: x")
    assert limit_of(seen(a_longtask(None, BEGUN), jobs=(a_job(),), pods=(pod,))).at == at(600)


@given(
    st.sampled_from([*KINDS, "Unschedulable", ""]),
    st.integers(1, 5000),
    st.integers(0, 5000),
    st.none() | st.integers(0, 5000),
)
def test_no_limit_is_above_the_tasks_own_unless_we_saw_nothing(
    word: str, timeout: int, since: int, sight: int | None
) -> None:
    watching = None if sight is None else at(sight)
    limit = limit_of(starting(word, since=since, spec={"startTimeoutSeconds": timeout}, watching_since=watching))
    assert limit.at <= max(at(timeout), at((sight or 0) + 60))
    assert limit.at >= min(at(timeout), at(since + 20))


def test_every_word_that_people_should_see_has_a_limit() -> None:
    assert set(KINDS) == _TELLING_WAITS


class TestShown:
    def shown(self, first: str, then: str) -> tuple[str | None, str]:
        """Return reason and message after a pod waited for one thing and then for another."""
        status = reconcile(starting(first), POLICY).status
        assert isinstance(status, LongTaskStatus)
        pod = a_pod(waiting=then)
        observed = seen(a_longtask(None, status), entry=an_entry(), jobs=(a_job(),), pods=(pod,), now=at(11))
        after = reconcile(observed, POLICY).status
        assert after is not None
        condition = find_condition(after, ConditionType.SUCCEEDED)
        assert condition is not None
        return after.reason, condition.message

    @pytest.mark.parametrize(
        ("first", "then"),
        [
            ("ErrImagePull: not found", "ImagePullBackOff: Back-off pulling"),
            ("ImagePullBackOff: Back-off pulling", "ErrImagePull: not found"),
            ("Unschedulable: 0/3 nodes are available", "Unschedulable: 0/4 nodes are available"),
        ],
    )
    def test_the_same_in_other_words_is_not_worth_a_write(self, first: str, then: str) -> None:
        assert self.shown(first, then) == (first.partition(":")[0], f"attempt 1 starts: {first}")

    @pytest.mark.parametrize(
        ("first", "then"),
        [
            ("Unschedulable: no room", "Unschedulable: a taint"),
            ("Unschedulable: no room", "ErrImagePull: not found"),
            ("ErrImagePull: not found", "CreateContainerConfigError: no Secret"),
            ("", "ErrImagePull: not found"),
        ],
    )
    def test_something_else_is(self, first: str, then: str) -> None:
        assert self.shown(first, then) == (then.partition(":")[0], f"attempt 1 starts: {then}")

    def test_a_start_that_goes_on_says_so(self) -> None:
        assert self.shown("ErrImagePull: not found", "") == ("Starting", "attempt 1 starts")
