"""Silence and no progress, told through `reconcile`: what ends an attempt, and what must not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtask_operator.core.current import Observed
from longtask_operator.core.decision import ConfirmHearing, ConfirmNode, ConfirmPod, Decision, StopJob
from longtask_operator.core.reconcile import reconcile
from longtask_operator.core.signs import Signs
from tests.builders import POLICY, a_container_end, a_job, a_longtask, a_running_pod, an_entry, at, seen, wire

STARTED: dict[str, Any] = {
    "run": 1,
    "attempt": 1,
    "tenant": "team-a",
    "runStartTime": wire(0),
    "attempts": [
        {"number": 1, "run": 1, "generation": 1, "podUid": "pod-1", "startTime": wire(1), "cpu": "250m",
         "memory": "512Mi"}
    ],
}  # fmt: skip
HEARTBEAT = {"heartbeatTimeoutSeconds": 60}
PROGRESS = {"noProgressTimeoutSeconds": 100}


def signs(last: float = 10, progress: float | None = None, step: float = 0, first: float = 2) -> Signs:
    return Signs(
        pod_uid="pod-1",
        first_report=at(first),
        last_report=at(last),
        reports=2,
        last_progress=None if progress is None else at(progress),
        longest_step=timedelta(seconds=step),
    )


def running(spec: dict[str, Any], now: float, found: Signs | None = None, **changes: Any) -> Observed:
    observed = seen(
        a_longtask(spec, STARTED),
        entry=an_entry(),
        jobs=(a_job(),),
        pods=(a_running_pod(),),
        signs=found,
        heard=found.last_report if found else None,
        hearing_since=at(0),
        now=at(now),
    )
    return replace(observed, **changes)


def cause_of(decision: Decision) -> str | None:
    assert decision.status is not None
    (attempt,) = decision.status.attempts or []
    return attempt.cause


class TestSilence:
    def test_it_ends_the_attempt_once_the_pod_was_asked(self) -> None:
        assert cause_of(reconcile(running(HEARTBEAT, 69, signs(10)), POLICY)) is None
        decision = reconcile(running(HEARTBEAT, 70, signs(10)), POLICY)
        asked = ConfirmPod(pod=a_running_pod(), silent=True, heard=at(10))
        assert decision.first == (ConfirmNode(node="node-1", moment=at(70)), ConfirmHearing(), asked)
        assert (cause_of(decision), decision.then) == ("HeartbeatLost", (StopJob(job=a_job()),))
        assert decision.status is not None
        assert (decision.status.phase, decision.status.reason) == ("Running", "HeartbeatLost")
        (attempt,) = decision.status.attempts or []
        assert attempt.message == f"no report for 60 s since {wire(10)}; heartbeatTimeoutSeconds (60)"

    def test_somebody_looks_when_it_would(self) -> None:
        assert reconcile(running(HEARTBEAT, 20, signs(10)), POLICY).again_at == at(70)

    @pytest.mark.parametrize("spec", [{}, {"heartbeatTimeoutSeconds": 0}])
    def test_without_a_timeout_it_never_does(self, spec: dict[str, Any]) -> None:
        assert cause_of(reconcile(running(spec, 10**6, signs(10)), POLICY)) is None

    def test_a_program_that_never_reported_is_ended_with_advice(self) -> None:
        decision = reconcile(running(HEARTBEAT, 61), POLICY)
        assert cause_of(decision) == "HeartbeatLost"
        assert decision.status is not None
        (attempt,) = decision.status.attempts or []
        assert "needs a program that reports" in (attempt.message or "")
        assert cause_of(reconcile(running(HEARTBEAT, 60), POLICY)) is None

    @pytest.mark.parametrize("found", [None, signs(10), signs(39)])
    def test_who_could_not_report_for_a_while_is_given_time_to_come_back(self, found: Signs | None) -> None:
        short = {"heartbeatTimeoutSeconds": 5}
        assert cause_of(reconcile(running(short, 99, found, hearing_since=at(40)), POLICY)) is None
        assert reconcile(running(short, 99, found, hearing_since=at(40)), POLICY).again_at == at(100)
        assert cause_of(reconcile(running(short, 100, found, hearing_since=at(40)), POLICY)) == "HeartbeatLost"

    @pytest.mark.parametrize("found", [None, signs(10), signs(39)])
    def test_so_is_one_whose_node_was_away(self, found: Signs | None) -> None:
        pods = (a_running_pod(node_back_at=at(40)),)
        short = {"heartbeatTimeoutSeconds": 5}
        assert cause_of(reconcile(running(short, 99, found, pods=pods), POLICY)) is None
        assert cause_of(reconcile(running(short, 100, found, pods=pods), POLICY)) == "HeartbeatLost"
        heard = running(short, 56, signs(41), pods=pods)
        assert cause_of(reconcile(heard, POLICY)) == "HeartbeatLost"

    def test_who_was_heard_since_has_come_back(self) -> None:
        back = running({"heartbeatTimeoutSeconds": 5}, 56, signs(41), hearing_since=at(40))
        assert cause_of(reconcile(back, POLICY)) == "HeartbeatLost"

    def test_never_before_three_reports_at_our_own_pace_are_missing(self) -> None:
        slow = running(HEARTBEAT, 609, signs(10), report_interval=200.0)
        assert cause_of(reconcile(slow, POLICY)) is None
        assert cause_of(reconcile(replace(slow, now=at(610)), POLICY)) == "HeartbeatLost"

    def test_what_was_decided_needs_no_second_look(self) -> None:
        status = {**STARTED, "attempts": [{**STARTED["attempts"][0], "cause": "HeartbeatLost"}]}
        observed = running(HEARTBEAT, 200, signs(199))
        decision = reconcile(replace(observed, task=a_longtask(HEARTBEAT, status)), POLICY)
        assert (decision.first, cause_of(decision)) == ((), "HeartbeatLost")


class TestNoProgress:
    def test_reports_without_progress_end_the_attempt(self) -> None:
        assert cause_of(reconcile(running(PROGRESS, 130, signs(129, progress=30)), POLICY)) is None
        decision = reconcile(running(PROGRESS, 130, signs(130, progress=30)), POLICY)
        assert cause_of(decision) == "NoProgress"
        assert decision.status is not None
        (attempt,) = decision.status.attempts or []
        assert attempt.message == f"reports without progress since {wire(30)}; noProgressTimeoutSeconds (100)"

    def test_a_task_of_large_steps_has_three_of_them(self) -> None:
        slow = signs(629, progress=30, step=200)
        assert cause_of(reconcile(running(PROGRESS, 629, slow), POLICY)) is None
        late = replace(slow, last_report=at(630))
        decision = reconcile(running(PROGRESS, 630, late), POLICY)
        assert cause_of(decision) == "NoProgress"
        assert decision.status is not None
        assert (decision.status.attempts or [])[0].message == (
            f"reports without progress since {wire(30)}; noProgressTimeoutSeconds (100), its longest step took 200 s"
        )

    def test_one_that_never_made_any_is_measured_from_its_first_report(self) -> None:
        assert cause_of(reconcile(running(PROGRESS, 102, signs(101)), POLICY)) is None
        assert cause_of(reconcile(running(PROGRESS, 102, signs(102)), POLICY)) == "NoProgress"

    def test_it_is_said_from_when_on_a_report_would_show_it(self) -> None:
        assert reconcile(running(PROGRESS, 60, signs(60, progress=30)), POLICY).still_at == at(130)
        assert reconcile(running(PROGRESS, 60, signs(60, progress=30, step=200)), POLICY).still_at == at(630)
        assert reconcile(running(PROGRESS, 60, signs(60)), POLICY).still_at == at(102)

    def test_before_the_first_report_it_is_not_later_than_after_it(self) -> None:
        early = reconcile(running(PROGRESS, 2), POLICY).still_at
        first = reconcile(running(PROGRESS, 2, signs(2)), POLICY).still_at
        assert early is not None
        assert first is not None
        assert early <= first

    def test_nobody_looks_for_it_without_a_report(self) -> None:
        found = signs(60, progress=30)
        watched, free = (reconcile(running(spec, 60, found), POLICY) for spec in (PROGRESS, {}))
        assert watched.again_at == free.again_at

    @pytest.mark.parametrize("spec", [{}, {"noProgressTimeoutSeconds": 0}, HEARTBEAT])
    def test_without_a_timeout_no_report_can(self, spec: dict[str, Any]) -> None:
        assert reconcile(running(spec, 60, signs(60, progress=30)), POLICY).still_at is None

    def test_once_it_is_to_end_no_report_can(self) -> None:
        assert reconcile(running(PROGRESS, 130, signs(130, progress=30)), POLICY).still_at is None

    def test_silence_is_another_matter(self) -> None:
        assert cause_of(reconcile(running(PROGRESS, 10**6, signs(60, progress=30)), POLICY)) is None
        assert cause_of(reconcile(running(PROGRESS, 10**6), POLICY)) is None

    def test_of_both_silence_is_said(self) -> None:
        both = HEARTBEAT | PROGRESS
        assert cause_of(reconcile(running(both, 500, signs(200, progress=30)), POLICY)) == "HeartbeatLost"


#: Facts that leave no doubt about the attempt, or leave all of it.
UNJUDGED: list[Any] = [
    pytest.param({"hearing_since": None}, id="nobody-is-heard"),
    pytest.param({"hearing_since": at(995)}, id="heard-again-only-now"),
    pytest.param({"pods": (a_running_pod(node_lost_at=at(50)),)}, id="its-node-is-lost"),
    pytest.param({"pods": (a_running_pod(deleted_at=at(1030), grace_seconds=30),)}, id="it-is-being-deleted"),
    pytest.param({"pods": (a_running_pod(running_since=at(990)),)}, id="it-just-started"),
]


@pytest.mark.parametrize("changes", UNJUDGED)
@pytest.mark.parametrize("found", [signs(10, progress=5), signs(999, progress=5)])
def test_nobody_is_ended_while_there_is_a_reason_to_doubt(changes: dict[str, Any], found: Signs) -> None:
    decision = reconcile(running(HEARTBEAT | PROGRESS, 1000, found, **changes), POLICY)
    assert cause_of(decision) is None
    assert decision.then == ()


def test_signs_of_another_pod_say_nothing() -> None:
    other = replace(signs(10, progress=5), pod_uid="another")
    assert cause_of(reconcile(running(HEARTBEAT | PROGRESS, 1000, other), POLICY)) is None


def test_an_end_that_is_seen_is_its_own_cause() -> None:
    pod = a_running_pod(phase="Succeeded", ended=a_container_end(0), running_since=None)
    assert cause_of(reconcile(running(HEARTBEAT, 1000, signs(10), pods=(pod,)), POLICY)) == "Completed"


TIMES = st.integers(1, 2000)


@settings(deadline=None)
@given(TIMES, TIMES, TIMES, TIMES, st.integers(1, 300), st.integers(1, 300), st.integers(0, 100))
def test_a_worker_that_reports_and_goes_on_is_never_ended(
    now: int, hearing: int, silence: int, stillness: int, heartbeat: int, progress: int, step: int
) -> None:
    """Whatever the clocks: it reported within its timeout, and worked within its timeout."""
    last = max(2, now - min(silence, heartbeat - 1))
    went_on = max(2, last - min(stillness, progress - 1))
    spec = {"heartbeatTimeoutSeconds": heartbeat, "noProgressTimeoutSeconds": progress}
    found = signs(last, progress=went_on, step=step)
    decision = reconcile(running(spec, now, found, hearing_since=at(hearing)), POLICY)
    assert cause_of(decision) is None


@settings(deadline=None)
@given(TIMES, TIMES, st.none() | TIMES, st.integers(1, 300), st.integers(0, 100), st.integers(0, 2000))
def test_a_report_ends_an_attempt_that_stands_still_from_the_moment_that_was_said(
    last: int, hearing: int, went_on: int | None, limit: int, step: int, later: int
) -> None:
    """No report without progress before it does, and each one from then on does."""
    spec = {"noProgressTimeoutSeconds": limit}
    found = signs(last, progress=went_on and min(went_on, last), step=step, first=1)
    decision = reconcile(running(spec, last, found, hearing_since=at(hearing)), POLICY)
    if cause_of(decision):
        return
    assert decision.still_at is not None
    found = replace(found, last_report=max(at(last), at(later)))
    next_one = reconcile(running(spec, max(last, later), found, hearing_since=at(hearing)), POLICY)
    assert (cause_of(next_one) == "NoProgress") is (found.last_report >= decision.still_at)


@settings(deadline=None)
@given(TIMES, st.none() | TIMES, TIMES, st.integers(1, 300))
def test_silence_ends_only_after_the_whole_timeout_in_which_we_listened(
    now: int, hearing: int | None, last: int, heartbeat: int
) -> None:
    changes: dict[str, Any] = {"hearing_since": None if hearing is None else at(hearing)}
    found = signs(min(last, now), first=1)
    decision = reconcile(running({"heartbeatTimeoutSeconds": heartbeat}, now, found, **changes), POLICY)
    limit = max(heartbeat, 15 if hearing is None or min(last, now) > hearing else 60)
    overdue = hearing is not None and now - max(hearing, min(last, now)) >= limit
    assert (cause_of(decision) == "HeartbeatLost") is overdue
