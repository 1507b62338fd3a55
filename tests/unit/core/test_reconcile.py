from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from longtask_operator.api.longtask import LongTask
from longtask_operator.api.reasons import Cause, QueueReason, SizeSource
from longtask_operator.api.status import Attempt, LongTaskStatus
from longtask_operator.core.attempt_size import Suggestion
from longtask_operator.core.causes import AttemptEnd
from longtask_operator.core.decision import Decision, DeleteTask, ReleaseEntry, StopPod
from longtask_operator.core.ending import end_attempt
from longtask_operator.core.policy import Policy
from longtask_operator.core.precedence import HeldBack
from longtask_operator.core.reconcile import LETTING_GO, reconcile
from longtask_operator.core.sizing import Size
from tests.builders import (
    FINISHED,
    POLICY,
    SMALLEST,
    UID,
    a_job,
    a_longtask,
    a_running_pod,
    an_ended_pod,
    an_entry,
    at,
    seen,
    wire,
)

BEGUN: dict[str, Any] = {"run": 1, "attempt": 0, "tenant": "team-a", "runStartTime": wire(0)}
WAITED: dict[str, Any] = {"waiting_since": at(0)}
#: After attempt 1 failed; the next may start at second 20.
BACKOFF = {
    **BEGUN,
    "attempt": 1,
    "nextAttemptTime": wire(20),
    "attempts": [{"number": 1, "run": 1, "generation": 1, "cause": "Application", "completionTime": wire(5)}],
    "attemptCounts": {"application": 1},
    "attemptTotals": {"application": 1},
}


def decide(spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **there: Any) -> Decision:
    return reconcile(seen(a_longtask(spec, BEGUN if status is None else status), **there), POLICY)


def written(decision: Decision) -> LongTaskStatus:
    assert decision.status is not None
    return decision.status


def words(decision: Decision) -> str:
    return " ".join(type(action).__name__ for action in (*decision.first, *decision.then))


def condition(status: LongTaskStatus, kind: str) -> tuple[str, str, str]:
    found = next(c for c in status.conditions or () if c.type == kind)
    return found.status, found.reason, found.message


class TestQueued:
    def test_a_new_task_waits_for_admission_without_a_write(self) -> None:
        decision = decide(None, {})
        assert (decision.status, words(decision), decision.again_at) == (None, "", at(12))
        candidate = decision.candidate
        assert candidate is not None
        assert (candidate.key, candidate.tenant, candidate.priority) == ("team-a/wordcount", "team-a", 0)
        assert candidate.queued_at == at(0)
        assert candidate.entry == an_entry()

    def test_a_wait_of_two_seconds_is_shown(self) -> None:
        decision = decide(None, {}, waiting_since=at(8))
        status = written(decision)
        assert (status.phase, status.reason, status.tenant, status.run) == ("Queued", "BehindOthers", "team-a", 1)
        assert decision.candidate is not None

    def test_why_it_is_held_back_is_shown_at_once(self) -> None:
        full = HeldBack(reason=QueueReason.COHORT_EXHAUSTED, message="full")
        assert condition(written(decide(held_back=full)), "Admitted") == ("False", "CohortExhausted", "full")

    @pytest.mark.parametrize(("reason", "waits"), [("QuotaExhausted", True), ("NeverFits", False)])
    def test_while_many_are_held_back_only_that_it_never_fits_is_urgent(self, reason: str, waits: bool) -> None:
        decision = decide(None, {}, held_back=HeldBack(reason=QueueReason(reason), message="so it is"))
        assert written(decision)
        assert decision.can_wait is waits

    def test_priority_and_size_are_the_specs(self) -> None:
        decision = decide({"priority": -3, "resources": {"cpu": "1"}})
        assert decision.candidate is not None
        assert decision.candidate.priority == -3
        assert decision.candidate.entry.size == Size(cpu=1000, memory=2 * 1024**3)

    def test_the_place_in_the_queue_is_that_of_the_run(self) -> None:
        decision = decide(None, {**BEGUN, "run": 2, "runStartTime": wire(7)})
        assert decision.candidate is not None
        assert decision.candidate.queued_at == at(7)

    def test_a_deadline_wakes_it(self) -> None:
        assert decide({"deadlineSeconds": 11}).again_at == at(11)
        assert decide({"deadlineSeconds": 50}, **WAITED).again_at == at(50)


class TestSizesOfInputs:
    """A task whose inputs are being asked for is no candidate yet, but not for long."""

    POLICY = replace(POLICY, input_wait=timedelta(seconds=5))

    def decide(self, asked: float | None, now: float, **there: Any) -> Decision:
        suggestion = Suggestion(
            memory=None, source=SizeSource.INPUT_HINT, message="not yet", asked=None if asked is None else at(asked)
        )
        return reconcile(seen(a_longtask(None, BEGUN), suggestion=suggestion, now=at(now), **there), self.POLICY)

    def test_it_waits_for_the_answer_quietly_then_says_so(self) -> None:
        decision = self.decide(asked=10, now=11)
        assert (decision.candidate, decision.status, decision.again_at) == (None, None, at(12))
        decision = self.decide(asked=10, now=12)
        assert (decision.candidate, decision.again_at) == (None, at(15))
        queue = written(decision).queue
        assert queue
        assert (queue.reason, queue.message) == ("BehindOthers", "the sizes of its inputs are asked for")

    def test_an_answer_that_is_late_or_not_owed_is_not_awaited(self) -> None:
        for decision in (self.decide(asked=10, now=15), self.decide(asked=None, now=10)):
            assert decision.candidate
            assert decision.candidate.entry.size == SMALLEST

    def test_what_is_admitted_already_goes_on(self) -> None:
        assert words(self.decide(asked=10, now=11, entry=an_entry())) != ""

    def test_suspension_and_the_deadline_hold_meanwhile(self) -> None:
        suggestion = Suggestion(memory=None, source=SizeSource.INPUT_HINT, message="", asked=at(10))
        there = {"suggestion": suggestion, "now": at(11)}
        assert written(decide({"suspend": True}, **there)).queue.reason == "Suspended"  # type: ignore[union-attr]
        assert decide({"deadlineSeconds": 12}, **there).again_at == at(12)
        assert written(decide({"deadlineSeconds": 11}, **there)).reason == "Deadline"


class TestInadmissible:
    @pytest.mark.parametrize(
        ("spec", "there", "message"),
        [
            ({"resources": {"cpu": "3"}}, {}, "spec.resources: cpu must be one of 250m, 500m, 1, 2, 4, or left out"),
            ({"image": None}, {}, "spec.image: is needed: the container image to run"),
            ({"payload": {"k": "x" * 20_000}}, {}, "spec.payload: has 20008 bytes as compact JSON, at most 16384"),
            ({"env": [{"name": "LONGTASK_X"}]}, {}, "spec.env[0].name: LONGTASK_X: names that start with"),
            ({}, {"tenant": None}, "metadata.namespace: namespace team-a has no label longtask.dev/tenant"),
        ],
    )
    def test_a_task_that_cannot_start_says_what_to_do(
        self, spec: dict[str, Any], there: dict[str, Any], message: str
    ) -> None:
        decision = decide(spec, None if there else BEGUN, **there)
        status = written(decision)
        assert (status.phase, status.reason) == ("Queued", "Invalid")
        assert condition(status, "Succeeded")[:2] == ("Unknown", "Inadmissible")
        assert condition(status, "Stalled")[:2] == ("True", "Invalid")
        assert condition(status, "Ready")[2].startswith(message)
        assert [notice.reason for notice in decision.notices] == ["Invalid"]
        assert decision.candidate is None

    def test_it_is_said_in_an_event_once(self) -> None:
        task = {"resources": {"cpu": "3"}}
        status = written(decide(task))
        assert reconcile(seen(a_longtask(task, status)), POLICY).notices == ()

    def test_another_ladder_makes_it_admissible(self) -> None:
        spec = {"resources": {"cpu": "3"}}
        ladder = (Size(cpu=3000, memory=1024**3),)
        task = a_longtask(spec, written(decide(spec)))
        decision = reconcile(seen(task, **WAITED), Policy(ladder=ladder))
        assert decision.candidate is not None
        assert {c.type for c in written(decision).conditions or ()} == {"Admitted", "Succeeded", "Finished", "Ready"}


class TestWaiting:
    def test_a_suspended_task_waits_and_gives_back_what_it_holds(self) -> None:
        decision = decide({"suspend": True}, entry=an_entry())
        assert (written(decision).phase, words(decision), decision.candidate) == (
            "Suspended",
            "ConfirmUnbegun ReleaseEntry",
            None,
        )

    def test_a_backoff_is_waited_for(self) -> None:
        decision = decide(None, BACKOFF)
        assert (written(decision).phase, decision.again_at, decision.candidate) == ("Backoff", at(20), None)

    def test_the_words_of_a_backoff_are_written_once(self) -> None:
        end = AttemptEnd(cause=Cause.APPLICATION, exit_code=1, message="exit code 1")
        task = a_longtask(None, BEGUN)
        attempt = Attempt.model_validate(BACKOFF["attempts"][0] | {"cause": None, "completionTime": None})
        ended = written(end_attempt(seen(task), attempt, task.status, end, POLICY))
        again = decide(None, ended.model_dump(by_alias=True, exclude_none=True))
        assert ended.phase == "Backoff"
        assert again.status == ended

    def test_a_pod_that_is_gone_soon_after_the_backoff_is_not_worth_a_write(self) -> None:
        decision = decide(None, BACKOFF, now=at(21), pods=(a_running_pod(),), entry=an_entry())
        assert (decision.status, decision.candidate, decision.again_at) == (None, None, at(22))

    def test_then_the_next_number_asks_for_admission(self) -> None:
        decision = decide(None, BACKOFF, now=at(20))
        assert decision.candidate is not None
        assert decision.candidate.entry == an_entry(attempt=2)

    def test_a_deadline_may_come_before_the_backoff_ends(self) -> None:
        assert decide({"deadlineSeconds": 15}, BACKOFF).again_at == at(15)

    def test_suspension_is_shown_before_a_backoff(self) -> None:
        assert written(decide({"suspend": True}, BACKOFF)).phase == "Suspended"

    def test_the_previous_pod_has_to_be_gone(self) -> None:
        decision = decide(None, BACKOFF, now=at(30), pods=(a_running_pod(),), entry=an_entry())
        assert (written(decision).reason, decision.candidate) == ("ReleasingPrevious", None)
        assert words(decision) == "ReleasePod StopPod"

    def test_what_is_over_is_let_go_of_while_the_next_one_waits(self) -> None:
        decision = decide(None, BACKOFF, now=at(30), pods=(an_ended_pod(1),), jobs=(a_job(),), entry=an_entry())
        assert words(decision) == "ReleasePod ReleaseEntry"
        assert decision.candidate is not None

    def test_an_entry_that_started_nothing_is_not_released_while_it_is_admitted_anew(self) -> None:
        decision = decide(None, BACKOFF, now=at(30), pods=(an_ended_pod(1),), entry=an_entry(attempt=2, generation=0))
        assert words(decision) == "ConfirmUnbegun ReleasePod"
        assert decision.candidate is not None
        assert decision.candidate.entry == an_entry(attempt=2)

    def test_but_one_that_is_too_small_for_the_spec_of_today_is_given_up(self) -> None:
        """Its task would take what nobody has admitted; a number that may have begun is never used again."""
        large = {"resources": {"cpu": "1", "memory": "2Gi"}}
        decision = decide(large, entry=an_entry(generation=0))
        assert (written(decision).attempt, words(decision)) == (1, "ConfirmUnbegun ReleaseEntry")
        assert decision.candidate is None
        same = decide(large, entry=replace(an_entry(), size=Size(cpu=1000, memory=2 * 1024**3), generation=0))
        assert same.candidate is not None


class TestEndingWithoutAnAttempt:
    def test_cancelled(self) -> None:
        status = written(decide({"cancel": True}))
        assert (status.phase, status.completion_time) == ("Cancelled", wire(10))

    def test_too_late(self) -> None:
        status = written(decide({"deadlineSeconds": 10}))
        assert (status.phase, status.reason) == ("Failed", "Deadline")
        assert condition(status, "Succeeded")[2] == "deadlineSeconds (10) passed"

    def test_not_a_second_too_early(self) -> None:
        assert decide({"deadlineSeconds": 11}).status is None

    def test_cancelled_comes_before_too_late(self) -> None:
        assert written(decide({"cancel": True, "deadlineSeconds": 1})).phase == "Cancelled"

    @pytest.mark.parametrize("spec", [{"cancel": True}, {"deadlineSeconds": 10}])
    def test_the_number_of_an_attempt_that_may_still_appear_is_spent(self, spec: dict[str, Any]) -> None:
        decision = decide(spec, entry=an_entry())
        assert (written(decision).attempt, words(decision)) == (1, "ConfirmUnbegun ReleaseEntry")

    def test_the_deadline_of_a_backoff(self) -> None:
        assert written(decide({"deadlineSeconds": 9}, BACKOFF)).reason == "Deadline"


class TestFinished:
    def finished(self, spec: dict[str, Any] | None = None, **metadata: Any) -> LongTask:
        return a_longtask(spec, FINISHED, **metadata)

    def test_nothing_is_done_any_more(self) -> None:
        decision = reconcile(seen(self.finished()), POLICY)
        assert (words(decision), decision.again_at, decision.candidate) == ("", None, None)
        assert written(decision) == self.finished().status.model_copy(update={"observed_generation": 1})

    def test_a_new_generation_is_observed_and_nothing_else(self) -> None:
        status = written(reconcile(seen(self.finished({"image": "other", "cancel": True}, generation=5)), POLICY))
        assert (status.observed_generation, status.phase, status.reason) == (5, "Succeeded", "Completed")

    def test_what_it_held_is_let_go_of(self) -> None:
        there = {"entry": an_entry(), "jobs": (a_job(finished=True),), "pods": (an_ended_pod(),)}
        assert words(reconcile(seen(self.finished(), **there), POLICY)) == "ReleasePod ReleaseEntry"

    def test_what_appears_late_is_stopped_and_its_number_spent(self) -> None:
        late = a_running_pod(attempt=2, held=False)
        decision = reconcile(seen(self.finished(), pods=(late,)), POLICY)
        assert decision.then == (StopPod(pod=late),)
        assert (written(decision).attempt, written(decision).phase) == (2, "Succeeded")

    @pytest.mark.parametrize(("ttl", "expected"), [(0, DeleteTask()), (5, DeleteTask()), (6, None), (None, None)])
    def test_its_ttl(self, ttl: int | None, expected: DeleteTask | None) -> None:
        decision = reconcile(seen(self.finished({"ttlSecondsAfterFinished": ttl})), POLICY)
        assert decision.then == ((expected,) if expected else ())
        assert decision.again_at == (at(11) if ttl == 6 else None)

    def test_a_ttl_is_ignored_with_a_word_where_gitops_would_create_it_anew(self) -> None:
        task = self.finished({"ttlSecondsAfterFinished": 0}, labels={"argocd.argoproj.io/instance": "x"})
        decision = reconcile(seen(task), POLICY)
        assert (decision.then, [notice.reason for notice in decision.notices]) == ((), ["TTLIgnored"])
        task = a_longtask(task.spec.model_dump(by_alias=True), written(decision), labels=task.metadata.labels)
        assert reconcile(seen(task), POLICY).notices == ()

    def test_a_ttl_is_looked_at_again_also_while_the_ledger_still_lets_go(self) -> None:
        decision = reconcile(seen(self.finished({"ttlSecondsAfterFinished": 60}), entry=an_entry()), POLICY)
        assert decision.then == (ReleaseEntry(uid=UID, attempt=1, tenant="team-a"),)
        assert decision.again_at == at(65)

    def test_a_ttl_that_has_passed_waits_for_the_ledger(self) -> None:
        decision = reconcile(seen(self.finished({"ttlSecondsAfterFinished": 1}), entry=an_entry()), POLICY)
        assert decision.again_at == at(10) + LETTING_GO


class TestRuns:
    def test_a_redrive_is_written_before_anything_else(self) -> None:
        decision = reconcile(seen(a_longtask({"redrive": "2"}, FINISHED), entry=an_entry()), POLICY)
        assert (written(decision).run, words(decision), decision.again_at) == (2, "", at(10))
        assert [notice.reason for notice in decision.notices] == ["Redriven"]

    def test_the_new_run_goes_on_with_the_next_number(self) -> None:
        begun = written(reconcile(seen(a_longtask({"redrive": "2"}, FINISHED)), POLICY))
        decision = reconcile(seen(a_longtask({"redrive": "2"}, begun)), POLICY)
        assert decision.candidate is not None
        assert decision.candidate.entry.attempt == 2
        assert decision.candidate.queued_at == at(10)

    def test_an_ignored_redrive_is_told_of_with_whatever_else_is_decided(self) -> None:
        decision = decide({"redrive": "2"}, {**BACKOFF, "lastRedrive": "1"})
        assert (written(decision).last_redrive, written(decision).phase) == ("2", "Backoff")
        assert [notice.reason for notice in decision.notices] == ["RedriveIgnored"]

    def test_an_attempt_that_another_operator_began_for_the_run_before_is_counted_then_let_go(self) -> None:
        run = {**BEGUN, "run": 2, "attempt": 1}
        there = {"entry": an_entry(attempt=2), "jobs": (a_job(attempt=2, run=1),)}
        for pods in ((), (a_running_pod(attempt=2),), (an_ended_pod(0, attempt=2),)):
            decision = decide({}, run, pods=pods, **there)
            assert (written(decision).attempt, written(decision).attempts, words(decision)) == (2, None, "")
        decision = decide({}, {**run, "attempt": 2}, pods=(a_running_pod(attempt=2),), **there)
        assert words(decision) == "ReleasePod StopJob"
        decision = decide({}, {**run, "attempt": 2}, entry=an_entry(attempt=2))
        assert words(decision) == "ReleaseEntry"


class TestDeleted:
    def test_a_task_that_is_being_deleted_is_let_go_of_and_not_written(self) -> None:
        task = a_longtask(None, BEGUN, deletionTimestamp=wire(9))
        decision = reconcile(seen(task, entry=an_entry(), jobs=(a_job(),), pods=(a_running_pod(),)), POLICY)
        assert (decision.status, decision.candidate) == (None, None)
        assert words(decision) == "StopJob StopPod ReleasePod"

    def test_its_entry_goes_last(self) -> None:
        task = a_longtask(None, BEGUN, deletionTimestamp=wire(9))
        decision = reconcile(seen(task, entry=an_entry(), pods=(an_ended_pod(),)), POLICY)
        assert words(decision) == "ReleasePod ReleaseEntry"


def test_a_dead_letter_outlives_its_ttl_and_another_failure_does_not() -> None:
    finished = {"type": "Finished", "status": "True", "reason": "x", "message": "", "lastTransitionTime": wire(0)}
    status = {"run": 1, "runStartTime": wire(0), "completionTime": wire(0), "conditions": [finished], "phase": "Failed"}
    spec = {"ttlSecondsAfterFinished": 1}
    gone = reconcile(seen(a_longtask(spec, status)), POLICY)
    kept = reconcile(seen(a_longtask(spec, {**status, "deadLettered": True})), POLICY)
    assert gone.then == (DeleteTask(),)
    assert kept.then == ()
