"""`Stuck` and `DeadlineAtRisk`, told through `reconcile`: when they begin, stay and end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from longtask_operator.api.reasons import ConditionType, QueueReason
from longtask_operator.api.status import Condition, LongTaskStatus, Progress
from longtask_operator.core.conditions import find_condition
from longtask_operator.core.current import Observed
from longtask_operator.core.decision import Decision
from longtask_operator.core.estimate import Pace
from longtask_operator.core.reconcile import reconcile
from longtask_operator.core.why_waiting import HeldBack
from tests.builders import POLICY, a_longtask, a_running_pod, an_ended_pod, at, seen, wire
from tests.unit.core.test_liveness import STARTED, running, signs


def status_of(decision: Decision) -> LongTaskStatus:
    assert decision.status is not None
    return decision.status


def stuck(observed: Observed) -> Condition | None:
    return find_condition(status_of(reconcile(observed, POLICY)), ConditionType.STUCK)


def at_risk(observed: Observed) -> Condition | None:
    return find_condition(status_of(reconcile(observed, POLICY)), ConditionType.DEADLINE_AT_RISK)


def pace_at(position: int, quick: float) -> dict[str, Any]:
    """Return what is seen of a full quota in which two attempts run at once and each takes *quick* seconds at least."""
    held_back = HeldBack(reason=QueueReason.QUOTA_EXHAUSTED, message="full", position=position)
    return {"held_back": held_back, "pace": Pace(quick=quick, slow=2 * quick, samples=40, live=2)}


def queued(position: int, quick: float) -> Observed:
    """Return a task whose run ends at second 1000 at that place of a queue, seen at second 10."""
    status = {"run": 1, "tenant": "team-a", "runStartTime": wire(0)}
    task = a_longtask({"deadlineSeconds": 1000}, status)
    return seen(task, waiting_since=at(0), **pace_at(position, quick))


def then(observed: Observed, **changes: Any) -> Observed:
    """Return what is seen after the decision of *observed* was written and *changes* came."""
    task = observed.task.model_copy(update={"status": status_of(reconcile(observed, POLICY))})
    return replace(observed, task=task, **changes)


class TestSilent:
    def test_a_reporter_that_is_silent_for_five_minutes_is_stuck(self) -> None:
        assert stuck(running({}, 309, signs(10))) is None
        found = stuck(running({}, 310, signs(10)))
        assert found is not None
        assert (found.status, found.reason, found.last_transition_time) == ("True", "Silent", wire(310))
        assert found.message == f"attempt 1 has not reported since {wire(10)}"

    def test_somebody_looks_when_it_would_be(self) -> None:
        assert reconcile(running({}, 20, signs(10)), POLICY).again_at == at(310)

    def test_a_slow_reporter_has_ten_of_its_own_intervals(self) -> None:
        slow = signs(102, first=2)
        assert stuck(running({}, 1101, slow)) is None
        assert stuck(running({}, 1102, slow)) is not None

    def test_a_program_that_never_reported_is_not_stuck(self) -> None:
        assert stuck(running({}, 10**6)) is None
        assert reconcile(running({}, 500), POLICY).again_at is None

    def test_it_is_written_once_and_ends_with_the_next_report(self) -> None:
        first = running({}, 310, signs(10))
        later = then(first, now=at(400))
        assert status_of(reconcile(later, POLICY)) == later.task.status
        assert stuck(replace(later, signs=signs(401), now=at(402))) is None

    def test_a_new_leader_does_not_take_it_back_before_it_heard_anything(self) -> None:
        later = then(running({}, 310, signs(10)), now=at(400))
        assert status_of(reconcile(replace(later, hearing_since=at(399)), POLICY)) == later.task.status
        assert status_of(reconcile(replace(later, hearing_since=None), POLICY)) == later.task.status

    @pytest.mark.parametrize("since", [None, 200])
    def test_what_we_did_not_hear_is_no_silence(self, since: float | None) -> None:
        assert stuck(running({}, 400, signs(10), hearing_since=None if since is None else at(since))) is None

    def test_the_next_attempt_begins_without_it(self) -> None:
        later = then(running({}, 310, signs(10)), now=at(400), pods=(an_ended_pod(1),))
        status = status_of(reconcile(later, POLICY))
        assert (status.phase, find_condition(status, ConditionType.STUCK)) == ("Backoff", None)


class TestNoProgress:
    def test_ten_of_its_own_steps_and_ten_minutes_at_least(self) -> None:
        assert stuck(running({}, 629, signs(629, progress=30, step=5))) is None
        found = stuck(running({}, 630, signs(630, progress=30, step=5)))
        assert found is not None
        assert found.reason == "NoProgress"
        assert found.message == f"attempt 1 reports and has made no progress since {wire(30)}"
        assert stuck(running({}, 1029, signs(1029, progress=30, step=100))) is None
        assert stuck(running({}, 1030, signs(1030, progress=30, step=100))) is not None

    def test_one_that_named_no_count_is_not_judged(self) -> None:
        assert stuck(running({}, 10**6, signs(10**6))) is None
        assert stuck(running({}, 10**6, signs(10**6), progress=Progress(total=9, stage="loading"))) is None

    @pytest.mark.parametrize(
        ("spec", "limit"),
        [
            pytest.param({}, 3600, id="an-hour"),
            pytest.param({"attemptTimeoutSeconds": 3000}, 1500, id="half-of-what-its-attempt-may-take"),
            pytest.param({"attemptTimeoutSeconds": 900}, 600, id="ten-minutes-at-least"),
            pytest.param({"attemptTimeoutSeconds": 10**6}, 3600, id="an-hour-at-most"),
        ],
    )
    @pytest.mark.parametrize("gone_on", [None, 2.0])
    def test_a_count_without_a_first_step_is_measured_from_its_first_report(
        self, spec: dict[str, Any], limit: int, gone_on: float | None
    ) -> None:
        counted = Progress(done=0, total=9)
        before, after = signs(limit + 1, progress=gone_on), signs(limit + 2, progress=gone_on)
        assert stuck(running(spec, limit + 2, before, progress=counted)) is None
        found = stuck(running(spec, limit + 2, after, progress=counted))
        assert found is not None
        assert (found.reason, wire(2) in found.message) == ("NoProgress", True)
        works = signs(limit + 9, progress=limit + 9, step=limit)
        assert stuck(then(running(spec, limit + 2, after, progress=counted), now=at(limit + 9), signs=works)) is None

    def test_what_a_new_leader_has_not_watched_for_so_long_is_not_judged(self) -> None:
        waits = running({}, 4000, signs(4000), progress=Progress(done=0), hearing_since=at(500))
        assert stuck(waits) is None

    def test_it_stays_until_there_is_progress(self) -> None:
        first = running({}, 630, signs(630, progress=30, step=5))
        later = then(first, now=at(700), signs=signs(700, progress=30, step=5))
        assert status_of(reconcile(later, POLICY)) == later.task.status
        restarted = replace(later, signs=signs(699, first=690, step=5), hearing_since=at(690))
        assert stuck(restarted) is not None
        assert stuck(replace(later, signs=signs(700, progress=700, step=5))) is None


def projected(finish: float, now: float = 100, deadline: int = 1000, **changes: Any) -> Observed:
    progress = Progress(done=1, total=9, estimated_finish=wire(finish), last_report_time=wire(now))
    observed = running({"deadlineSeconds": deadline}, now, signs(now, progress=now), **changes)
    return replace(observed, progress=progress)


class TestDeadlineAtRisk:
    def test_a_projected_end_beyond_the_deadline_warns(self) -> None:
        found = at_risk(projected(1100))
        assert found is not None
        assert (found.status, found.reason) == ("True", "TooSlow")
        assert found.message == f"at its present rate the attempt ends at {wire(1100)}, after the deadline {wire(1000)}"

    @pytest.mark.parametrize("finish", [900, 1000, 1045])
    def test_one_within_the_margin_does_not(self, finish: float) -> None:
        assert at_risk(projected(finish)) is None

    def test_it_neither_flaps_nor_changes_its_words(self) -> None:
        first = projected(1100)
        for finish in (1046, 1000, 960, 5000):
            later = then(first, progress=projected(finish).progress)
            assert at_risk(later) == at_risk(first)
        assert at_risk(then(first, progress=projected(950).progress)) is None

    def test_another_deadline_is_another_sentence(self) -> None:
        later = then(projected(1100))
        moved = replace(later, task=a_longtask({"deadlineSeconds": 1090}, later.task.status))
        found = at_risk(moved)
        assert found is None
        sooner = at_risk(replace(later, task=a_longtask({"deadlineSeconds": 500}, later.task.status)))
        assert sooner is not None
        assert wire(500) in sooner.message

    def test_without_evidence_nothing_is_said(self) -> None:
        assert at_risk(projected(1100, now=20)) is None
        assert at_risk(replace(projected(1100), progress=Progress(done=1, total=9))) is None
        assert at_risk(replace(projected(1100), pods=(a_running_pod(running_since=at(95)),))) is None

    def test_without_a_new_estimate_it_stays_until_all_is_done(self) -> None:
        first = projected(1100)
        assert at_risk(then(first, progress=Progress(done=1, total=9))) is not None
        assert at_risk(then(first, progress=Progress(done=9, total=9))) is None

    def test_a_next_attempt_after_the_deadline_is_certain(self) -> None:
        status = {**STARTED, "nextAttemptTime": wire(600)}
        status["attempts"] = [{**STARTED["attempts"][0], "cause": "Lost", "completionTime": wire(50)}]
        waits = replace(running({}, 60), jobs=(), pods=(), entry=None)
        late = replace(waits, task=a_longtask({"deadlineSeconds": 600}, status))
        found = at_risk(late)
        assert found is not None
        assert (found.reason, found.message) == (
            "TooLate",
            f"the next attempt starts at {wire(600)}, not before the deadline {wire(600)}",
        )
        assert at_risk(replace(waits, task=a_longtask({"deadlineSeconds": 601}, status))) is None

    def test_a_task_in_the_queue_that_starts_too_late_for_a_quick_attempt_is_at_risk(self) -> None:
        assert at_risk(queued(position=9, quick=100)) is None  # it may run from 360 to 460; its deadline is at 1000
        found = at_risk(queued(position=21, quick=100))
        assert found is not None
        assert (found.status, found.reason) == ("True", "TooLate")
        assert found.message == (
            f"it may start at {wire(960)} at the earliest, and quick attempts of this tenant take 100 s: "
            f"that is after the deadline {wire(1000)}"
        )

    def test_it_is_said_once_while_the_estimate_moves_a_little_and_ends_when_it_is_clearly_better(self) -> None:
        first = queued(position=21, quick=100)
        for position, quick in ((20, 100), (19, 100), (21, 120), (40, 100)):
            assert at_risk(then(first, **pace_at(position, quick))) == at_risk(first)
        assert at_risk(then(first, pace=None)) == at_risk(first)
        assert at_risk(then(first, **pace_at(9, 100))) is None

    def test_who_waits_on_where_he_is_is_looked_at_when_a_quick_attempt_becomes_too_long(self) -> None:
        waits = queued(position=9, quick=100)
        assert reconcile(waits, POLICY).again_at == at(900)
        assert at_risk(then(waits, now=at(899))) is None
        assert at_risk(then(waits, now=at(900))) is not None

    def test_without_an_estimate_nothing_is_known_of_a_queue(self) -> None:
        assert at_risk(replace(queued(position=40, quick=100), pace=None)) is None
        stopped = HeldBack(reason=QueueReason.TENANT_STOPPED, message="held", position=40)
        assert at_risk(replace(queued(position=40, quick=100), held_back=stopped)) is None
        assert at_risk(then(queued(position=40, quick=100), held_back=stopped)) is None

    def test_another_deadline_of_a_waiting_task_is_weighed_anew(self) -> None:
        later = then(queued(position=21, quick=100))
        assert at_risk(replace(later, task=a_longtask({"deadlineSeconds": 2000}, later.task.status))) is None

    def test_it_ends_with_the_run(self) -> None:
        later = then(projected(1100), pods=(an_ended_pod(0),))
        status = status_of(reconcile(later, POLICY))
        assert (status.phase, find_condition(status, ConditionType.DEADLINE_AT_RISK)) == ("Succeeded", None)
