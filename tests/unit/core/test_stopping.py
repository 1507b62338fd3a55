"""How an attempt is stopped, told through `reconcile`."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from longtask_operator.api.longtask import LongTaskSpec
from longtask_operator.api.report import SavedCheckpoint
from longtask_operator.api.status import LongTaskStatus, Progress
from longtask_operator.core.checkpoints import Offer
from longtask_operator.core.decision import (
    ConfirmEvicted,
    ConfirmPod,
    ConfirmUnbegun,
    Decision,
    ReleaseEntry,
    StopJob,
    StopPod,
)
from longtask_operator.core.reconcile import reconcile
from longtask_operator.core.stop_waits import StopWaits, wants_checkpoint
from tests.builders import POLICY, UID, a_job, a_longtask, a_running_pod, an_ended_pod, an_entry, at, seen, wire

ATTEMPT = {"number": 1, "run": 1, "generation": 1, "jobName": "wordcount-7c9d4f-1", "cpu": "250m", "memory": "512Mi"}
BEGUN: dict[str, Any] = {"run": 1, "attempt": 0, "tenant": "team-a", "runStartTime": wire(0)}
STARTED = {
    **BEGUN,
    "attempt": 1,
    "attempts": [{**ATTEMPT, "podName": "wordcount-7c9d4f-1-x", "podUid": "pod-1", "startTime": wire(1)}],
}
CHECKPOINT = {"checkpoint": {"uri": "s3://bucket/ckpt/"}}
SHA = "ab" * 32
PROGRESS = Progress(done=4)


def stopping(cause: str, **more: Any) -> dict[str, Any]:
    return {**STARTED, "attempts": [{**STARTED["attempts"][0], "cause": cause, **more}]}


def decide(
    spec: dict[str, Any] | None = None, status: dict[str, Any] | LongTaskStatus | None = None, **there: Any
) -> Decision:
    there.setdefault("entry", an_entry())
    return reconcile(seen(a_longtask(spec, status or BEGUN), **there), POLICY)


def running(**there: Any) -> dict[str, Any]:
    """Return what is there of an attempt whose worker reports."""
    return {"jobs": (a_job(),), "pods": (a_running_pod(),), "progress": PROGRESS, **there}


def an_offer(number: int) -> Offer:
    uri = f"s3://bucket/ckpt/{UID}/1/{number}/manifest.json"
    return Offer(saved=SavedCheckpoint(uri=uri, sha256=SHA), attempt=1, pod_uid="pod-1", sequence=number)


def written(decision: Decision) -> LongTaskStatus:
    assert decision.status is not None
    return decision.status


STOP = (StopJob(job=a_job()),)


class TestStopping:
    @pytest.mark.parametrize(
        ("spec", "cause", "phase", "reason"),
        [
            ({"cancel": True}, "Cancelled", "Cancelling", "Cancelling"),
            ({"suspend": True}, "Suspended", "Running", "Suspended"),
            ({"deadlineSeconds": 10}, "Deadline", "Running", "Deadline"),
            ({"cancel": True, "suspend": True, "deadlineSeconds": 1}, "Cancelled", "Cancelling", "Cancelling"),
            ({"suspend": True, "deadlineSeconds": 1}, "Deadline", "Running", "Deadline"),
        ],
    )
    def test_the_cause_is_recorded_before_the_job_is_deleted(
        self, spec: dict[str, Any], cause: str, phase: str, reason: str
    ) -> None:
        decision = decide(spec, STARTED, jobs=(a_job(),), pods=(a_running_pod(),))
        status = written(decision)
        (attempt,) = status.attempts or []
        assert (attempt.cause, attempt.completion_time) == (cause, None)
        assert (status.phase, status.reason) == (phase, reason)
        assert (decision.first, decision.then) == ((), (StopJob(job=a_job()),))

    def test_what_was_decided_stays_when_the_spec_changes_back(self) -> None:
        decision = decide({}, stopping("Suspended"), jobs=(a_job(),), pods=(a_running_pod(),))
        assert decision.then == (StopJob(job=a_job()),)

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("Suspended", "Cancelled"),
            ("NeverStarted", "Cancelled"),
            ("Cancelled", "Cancelled"),
            ("Deadline", "Deadline"),
        ],
    )
    def test_a_cancellation_outranks_what_the_task_would_outlive(self, before: str, after: str) -> None:
        decision = decide({"cancel": True}, stopping(before), jobs=(a_job(),), pods=(a_running_pod(),))
        assert [attempt.cause for attempt in written(decision).attempts or ()] == [after]

    def test_a_job_is_deleted_once(self) -> None:
        decision = decide({"cancel": True}, STARTED, jobs=(a_job(deleting=True),), pods=(a_running_pod(),))
        assert decision.then == ()

    def test_pods_without_a_job_are_deleted_themselves(self) -> None:
        pods = (a_running_pod(), a_running_pod(uid="leaving", deleted_at=at(40)))
        decision = decide({"cancel": True}, STARTED, pods=pods)
        assert decision.then == (StopPod(pod=pods[0]),)

    def test_a_job_that_never_had_a_pod_is_stopped_too(self) -> None:
        decision = decide({"suspend": True}, jobs=(a_job(),))
        assert (written(decision).phase, decision.then) == ("Starting", (StopJob(job=a_job()),))


class TestGivingWay:
    WHY = "TenantQuota team-a says stopPolicy HoldAndDrain"
    CONFIRM = ConfirmEvicted(task_uid=UID, attempt=1, tenant="team-a")

    def test_an_attempt_that_has_to_give_way_is_preempted(self) -> None:
        decision = decide({}, STARTED, jobs=(a_job(),), pods=(a_running_pod(),), evicted=self.WHY)
        (attempt,) = written(decision).attempts or []
        assert (attempt.cause, attempt.message, attempt.completion_time) == ("Preempted", self.WHY, None)
        assert decision.then == STOP
        assert decision.first == (self.CONFIRM,), "what this operator knows may be out of date"

    def test_its_worker_is_asked_for_a_checkpoint_first(self) -> None:
        decision = decide(CHECKPOINT, STARTED, **running(evicted=self.WHY))
        assert (decision.then, decision.again_at) == ((), at(40))
        assert wants_checkpoint(written(decision), LongTaskSpec.model_validate(CHECKPOINT), StopWaits(), at(11))

    def test_what_was_decided_stays_when_nobody_needs_it_any_more(self) -> None:
        decision = decide({}, stopping("Preempted", message=self.WHY), jobs=(a_job(),), pods=(a_running_pod(),))
        assert (decision.then, (written(decision).attempts or [])[0].message) == (STOP, self.WHY)

    def test_it_waits_with_its_own_budget_and_keeps_its_place(self) -> None:
        pods = (an_ended_pod(137, deleted_at=at(5)),)
        status = written(decide({}, stopping("Preempted", message=self.WHY), jobs=(a_job(),), pods=pods))
        assert (status.phase, status.next_attempt_time) == ("Backoff", wire(20))
        assert status.attempt_counts == {"preempted": 1}
        assert status.run_start_time == BEGUN["runStartTime"]

    def test_it_fails_once_its_budget_is_spent(self) -> None:
        spec, pods = {"retry": {"limits": {"preempted": 0}}}, (an_ended_pod(137, deleted_at=at(5)),)
        status = written(decide(spec, stopping("Preempted"), jobs=(a_job(),), pods=pods))
        assert (status.phase, status.reason, status.dead_lettered) == ("Failed", "Preempted", True)

    def test_what_was_admitted_and_not_begun_gives_its_place_back(self) -> None:
        """The number stays used: a Job of it may be on its way."""
        decision = decide({}, BEGUN, evicted=self.WHY)
        status = written(decision)
        assert (status.attempt, status.attempts, status.phase) == (1, None, "Queued")
        assert decision.first == (ConfirmUnbegun.of(a_longtask(), 1), self.CONFIRM)
        assert decision.then == (ReleaseEntry(uid=UID, attempt=1, tenant="team-a"),)
        after = decide({}, status, evicted=self.WHY)
        assert after.candidate is not None
        assert after.candidate.entry.attempt == 2
        assert after.then == decision.then

    def test_who_only_waits_is_not_concerned(self) -> None:
        decision = decide({}, BEGUN, entry=None, evicted=self.WHY)
        assert decision.candidate is not None


class TestCheckpointFirst:
    SUSPEND = CHECKPOINT | {"suspend": True}

    def test_a_worker_that_reports_is_asked_and_waited_for(self) -> None:
        decision = decide(self.SUSPEND, STARTED, **running())
        (attempt,) = written(decision).attempts or []
        assert (attempt.cause, attempt.stop_time) == ("Suspended", wire(10))
        assert (decision.then, decision.again_at) == ((), at(40))

    def test_what_it_had_saved_before_is_accepted_at_once_but_is_no_answer(self) -> None:
        decision = decide(self.SUSPEND, STARTED, **running(offered=an_offer(1)))
        checkpoint = written(decision).checkpoint
        assert checkpoint is not None
        assert (checkpoint.sequence, decision.then) == (1, ())

    def test_it_is_stopped_as_soon_as_its_checkpoint_stands_in_the_status(self) -> None:
        before = written(decide(self.SUSPEND, STARTED, **running(offered=an_offer(1))))
        decision = decide(self.SUSPEND, before, **running(offered=an_offer(2), now=at(12)))
        checkpoint = written(decision).checkpoint
        assert checkpoint is not None
        assert (checkpoint.sequence, decision.then) == (2, STOP)
        again = decide(self.SUSPEND, written(decision), **running(offered=an_offer(2), now=at(13)))
        assert (written(again), again.then) == (written(decision), STOP)

    def test_another_operator_that_knows_only_the_status_stops_it_too(self) -> None:
        saved = {"uri": an_offer(2).saved.uri, "sha256": SHA, "attempt": 1, "time": wire(12)}
        status = stopping("Suspended", stopTime=wire(10)) | {"checkpoint": saved, "progress": {"done": 4}}
        assert decide(self.SUSPEND, status, **running(progress=None, now=at(13))).then == STOP
        earlier = status | {"checkpoint": saved | {"time": wire(9)}}
        assert decide(self.SUSPEND, earlier, **running(progress=None, now=at(13))).then == ()

    @pytest.mark.parametrize(("seconds", "stopped"), [(39, False), (40, True), (400, True)])
    def test_it_is_not_waited_for_longer_than_the_bound(self, seconds: float, stopped: bool) -> None:
        decision = decide(self.SUSPEND, stopping("Suspended", stopTime=wire(10)), **running(now=at(seconds)))
        assert (decision.then == STOP) is stopped

    def test_it_goes_on_being_waited_for_when_the_spec_changes_back(self) -> None:
        decision = decide(CHECKPOINT, stopping("Suspended", stopTime=wire(10)), **running(now=at(11)))
        assert ([a.cause for a in written(decision).attempts or ()], decision.then) == (["Suspended"], ())

    def test_a_cancellation_ends_the_wait_for_a_checkpoint_and_begins_its_own(self) -> None:
        status = stopping("Suspended", stopTime=wire(10))
        decision = decide(self.SUSPEND | {"cancel": True}, status, **running(now=at(30)))
        (attempt,) = written(decision).attempts or []
        assert (attempt.cause, attempt.stop_time, decision.again_at) == ("Cancelled", wire(30), at(40))

    def test_the_checkpoint_in_its_last_words_counts(self) -> None:
        uri = an_offer(3).saved.uri
        message = f'{{"longtask":1,"checkpoint":{{"uri":"{uri}","sha256":"{SHA}","sizeBytes":5}}}}'
        pod = an_ended_pod(143, message=message)
        status = written(decide(self.SUSPEND, stopping("Suspended", stopTime=wire(4)), pods=(pod,)))
        assert status.checkpoint is not None
        assert (status.phase, status.checkpoint.uri, status.checkpoint.size_bytes) == ("Suspended", uri, 5)

    @pytest.mark.parametrize(
        ("spec", "there"),
        [
            pytest.param({"suspend": True}, {}, id="no-checkpoint-in-spec"),
            pytest.param(SUSPEND | {"deadlineSeconds": 5}, {}, id="deadline"),
            pytest.param(SUSPEND, {"progress": None}, id="never-reported"),
            pytest.param(SUSPEND | {"progressFile": True}, {}, id="the-sidecar-reports"),
        ],
    )
    def test_others_are_stopped_at_once(self, spec: dict[str, Any], there: dict[str, Any]) -> None:
        assert decide(spec, STARTED, **running(**there)).then == STOP

    def test_one_whose_pod_is_deleted_already_is_not_waited_for(self) -> None:
        there = running(jobs=(), pods=(a_running_pod(deleted_at=at(40)), a_running_pod(uid="pod-2")))
        assert decide(self.SUSPEND, STARTED, **there).then == (StopPod(pod=there["pods"][1]),)

    def test_a_policy_of_zero_asks_nobody(self) -> None:
        task = a_longtask(self.SUSPEND, STARTED)
        policy = replace(POLICY, stop_waits=StopWaits(checkpoint=timedelta()))
        assert reconcile(seen(task, entry=an_entry(), **running()), policy).then == STOP


class TestCancel:
    def test_a_worker_that_reports_may_end_by_itself(self) -> None:
        decision = decide({"cancel": True}, STARTED, **running())
        assert (written(decision).phase, decision.then, decision.again_at) == ("Cancelling", (), at(20))

    def test_then_it_is_stopped(self) -> None:
        status = stopping("Cancelled", stopTime=wire(10))
        assert decide({"cancel": True}, status, **running(now=at(20))).then == STOP

    def test_its_own_end_is_the_end(self) -> None:
        status = written(decide({"cancel": True}, stopping("Cancelled", stopTime=wire(4)), pods=(an_ended_pod(130),)))
        assert [attempt.cause for attempt in status.attempts or ()] == ["Cancelled"]

    def test_a_stop_that_an_older_operator_recorded_without_a_time_goes_on(self) -> None:
        assert decide({"cancel": True}, stopping("Cancelled"), **running()).then == STOP


@pytest.mark.parametrize(
    ("status", "seconds", "wanted"),
    [
        (stopping("Suspended", stopTime=wire(10)), 11, True),
        (stopping("Suspended", stopTime=wire(10)), 40, False),
        (stopping("Cancelled", stopTime=wire(10)), 11, False),
        (stopping("Suspended", stopTime=wire(10), completionTime=wire(11)), 12, False),
        (STARTED, 11, False),
        ({}, 11, False),
    ],
)
def test_a_checkpoint_is_asked_for_only_while_it_is_waited_for(
    status: dict[str, Any], seconds: float, wanted: bool
) -> None:
    task = a_longtask(CHECKPOINT | {"suspend": True}, status)
    assert wants_checkpoint(task.status, task.spec, StopWaits(), at(seconds)) is wanted
    assert not wants_checkpoint(task.status, LongTaskSpec(), StopWaits(), at(seconds))


def test_progress_of_an_older_attempt_does_not_pass_for_that_of_the_one_being_stopped() -> None:
    ended = {**ATTEMPT, "cause": "Application", "completionTime": wire(2)}
    status = {**BEGUN, "attempt": 1, "attempts": [ended], "progress": {"done": 9}}
    there = running(jobs=(a_job(attempt=2),), pods=(a_running_pod(attempt=2),), progress=None)
    decision = decide({"suspend": True}, status, entry=an_entry(attempt=2), **there)
    assert (written(decision).progress, decision.then) == (None, (StopJob(job=a_job(attempt=2)),))


class TestReplacedPod:
    """The recorded pod vanished without a word, and the Job's controller made another one for the same attempt."""

    OTHER = a_running_pod(uid="pod-2", name="wordcount-7c9d4f-1-other")

    def test_the_attempt_is_lost_and_its_job_is_stopped(self) -> None:
        decision = decide(None, STARTED, jobs=(a_job(),), pods=(self.OTHER,))
        assert decision.first == (ConfirmPod(pod=self.OTHER, gone="pod-1"),)
        assert decision.then == STOP
        attempt = (written(decision).attempts or [])[-1]
        assert (attempt.cause, attempt.completion_time) == ("Lost", None)
        assert attempt.message == "pod wordcount-7c9d4f-1-x is gone without a word, and its Job made another one"

    def test_a_second_pod_beside_the_recorded_one_is_another_matter(self) -> None:
        decision = decide(None, STARTED, jobs=(a_job(),), pods=(self.OTHER, a_running_pod()))
        assert (written(decision).phase, decision.then) == ("Running", ())

    def test_a_replacement_that_ended_by_itself_decides(self) -> None:
        ended = an_ended_pod(0, uid="pod-2")
        assert written(decide(None, STARTED, jobs=(a_job(),), pods=(ended,))).phase == "Succeeded"
