"""What the cluster refuses is a wait: no budget is charged, no quota held, and it ends by itself."""

from __future__ import annotations

from typing import Any

import pytest

from longtask_operator.api.status import LongTaskStatus
from longtask_operator.core.decision import AskWhyNoPod, ConfirmGone, CreateJob, Decision, ReleaseEntry, StopJob
from longtask_operator.core.reconcile import reconcile
from longtask_operator.core.refusal import Refusal
from longtask_operator.core.refusals import ASK_AFTER, is_over
from tests.builders import FINISHED, POLICY, UID, a_job, a_longtask, a_pod, a_running_pod, an_entry, at, seen, wire

BEGUN: dict[str, Any] = {"run": 1, "runStartTime": wire(0), "tenant": "team-a"}
SAID = 'pods "wordcount-1" is forbidden: exceeded quota: q, used: pods=3'


def a_refusal(*, of_pod: bool = True, until: float = 12, generation: int = 1, message: str = SAID) -> Refusal:
    return Refusal(attempt=1, generation=generation, of_pod=of_pod, message=message, in_a_row=1, until=at(until))


def decide(spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **there: Any) -> Decision:
    return reconcile(seen(a_longtask(spec, status or BEGUN), **there), POLICY)


def written(decision: Decision) -> LongTaskStatus:
    assert decision.status is not None
    return decision.status


def wire_of(status: LongTaskStatus) -> dict[str, Any]:
    body: dict[str, Any] = status.model_dump(by_alias=True, exclude_none=True, mode="json")
    return body


class TestOfTheJob:
    def test_it_waits_without_an_entry_and_asks_again_when_the_wait_is_over(self) -> None:
        decision = decide(entry=an_entry(), refusal=a_refusal(of_pod=False))
        assert (written(decision).phase, written(decision).reason) == ("Queued", "RefusedByCluster")
        assert (decision.first, decision.candidate, decision.again_at) == ((), None, at(12))
        assert decision.then == (ReleaseEntry(uid=UID, attempt=1, tenant="team-a"),)

    def test_then_it_queues_at_its_place_and_nothing_is_written_until_the_next_answer(self) -> None:
        waits = wire_of(written(decide(entry=an_entry(), refusal=a_refusal(of_pod=False))))
        over = a_refusal(of_pod=False, until=9)
        queued = decide(status=waits, refusal=over)
        assert queued.candidate is not None
        assert (queued.candidate.entry.attempt, queued.candidate.queued_at, queued.status) == (1, at(0), None)
        admitted = decide(status=waits, refusal=over, entry=an_entry())
        assert [type(action) for action in admitted.first] == [CreateJob]
        again = decide(status=waits, refusal=a_refusal(of_pod=False, message=SAID.replace("3", "4")))
        assert wire_of(written(again)) == waits

    def test_another_spec_is_tried_at_once(self) -> None:
        assert decide(refusal=a_refusal(of_pod=False, generation=0, until=60)).candidate is not None

    @pytest.mark.parametrize(
        ("spec", "ends"),
        [({"cancel": True}, "Cancelled"), ({"suspend": True}, "Suspended"), ({"deadlineSeconds": 5}, "Failed")],
    )
    def test_the_task_itself_still_decides(self, spec: dict[str, Any], ends: str) -> None:
        assert written(decide(spec, refusal=a_refusal(of_pod=False))).phase == ends


class TestOfThePod:
    def test_a_job_without_a_pod_is_asked_about_before_it_is_shown_as_starting(self) -> None:
        young = decide(entry=an_entry(), jobs=(a_job(created=at(9)),))
        assert not any(isinstance(action, AskWhyNoPod) for action in young.first)
        assert young.again_at == at(9) + ASK_AFTER
        old = decide(entry=an_entry(), jobs=(a_job(created=at(6)),))
        assert old.first == (AskWhyNoPod(job=a_job(created=at(6))),)
        assert old.again_at == at(14)

    def test_what_is_no_answer_counts_once_it_has_lasted(self) -> None:
        for age, counts in ((29, False), (30, True)):
            decision = decide(entry=an_entry(), jobs=(a_job(created=at(10 - age)),))
            (question,) = [action for action in decision.first if isinstance(action, AskWhyNoPod)]
            assert question.faults_too is counts

    def test_one_with_a_pod_or_on_its_way_out_is_not(self) -> None:
        for there in ({"pods": (a_pod(),)}, {"jobs": (a_job(deleting=True),)}):
            decision = decide(**{"entry": an_entry(), "jobs": (a_job(),), **there})
            assert not any(isinstance(action, AskWhyNoPod) for action in decision.first)

    def test_it_is_given_up_in_the_status_first_then_the_job_is_deleted(self) -> None:
        starting = written(decide(entry=an_entry(), jobs=(a_job(created=at(6)),)))
        assert starting.attempts
        decision = decide(status=wire_of(starting), entry=an_entry(), jobs=(a_job(),), refusal=a_refusal())
        assert (written(decision).reason, written(decision).attempts, written(decision).attempt) == (
            "RefusedByCluster",
            None,
            1,
        )
        assert written(decision).attempt_counts is None
        assert decision.then == (StopJob(job=a_job()),)

    def test_no_cache_is_believed_that_none_came_after_all(self) -> None:
        """A try whose answer was late may have made one: it would be stopped at its work, and begin anew."""
        decision = decide(entry=an_entry(), jobs=(a_job(),), refusal=a_refusal())
        assert decision.first == (ConfirmGone(namespace="team-a", task_uid=UID, attempt=1),)

    def test_the_quota_comes_back_when_the_job_is_gone_and_no_pod_came_after_all(self) -> None:
        given_up = wire_of(written(decide(entry=an_entry(), jobs=(a_job(),), refusal=a_refusal())))
        decision = decide(status=given_up, entry=an_entry(), refusal=a_refusal())
        assert decision.first == (ConfirmGone(namespace="team-a", task_uid=UID, attempt=1),)
        assert decision.then == (ReleaseEntry(uid=UID, attempt=1, tenant="team-a"),)
        assert wire_of(written(decision)) == given_up

    def test_a_restart_that_forgets_the_refusal_charges_nothing_either(self) -> None:
        given_up = wire_of(written(decide(entry=an_entry(), jobs=(a_job(),), refusal=a_refusal())))
        for there in ({"jobs": (a_job(),)}, {"jobs": (a_job(deleting=True),)}, {}):
            decision = decide(status=given_up, entry=an_entry(), **there)
            assert decision.status is None or written(decision).attempt_counts is None
            assert decision.candidate is not None
            assert decision.candidate.entry.attempt == 2

    def test_a_pod_that_came_after_all_is_no_refusal(self) -> None:
        decision = decide(entry=an_entry(), jobs=(a_job(),), pods=(a_running_pod(),), refusal=a_refusal())
        assert written(decision).phase == "Running"

    def test_a_stop_that_was_decided_before_goes_on(self) -> None:
        stopping = written(decide({"suspend": True}, entry=an_entry(), jobs=(a_job(),)))
        decision = decide({"suspend": True}, wire_of(stopping), entry=an_entry(), jobs=(a_job(),), refusal=a_refusal())
        assert decision.then == (StopJob(job=a_job()),)
        assert written(decision).reason == "Suspended"


def test_it_is_forgotten_with_the_next_pod_or_the_end() -> None:
    waiting = seen(a_longtask(status=BEGUN), refusal=a_refusal())
    assert not is_over(waiting, None)
    assert is_over(seen(a_longtask(status=BEGUN), refusal=a_refusal(), pods=(a_pod(attempt=2),)), None)
    assert is_over(seen(a_longtask(status=FINISHED), refusal=a_refusal()), None)
