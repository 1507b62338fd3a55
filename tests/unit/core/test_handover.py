"""Tasks that Kueue admits, told through `reconcile`: what the operator makes of what Kueue does to their Jobs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from longtask_operator.api.status import LongTaskStatus
from longtask_operator.core.decision import ConfirmGone, ConfirmSuspended, CreateJob, Decision, KeepEntry, StopJob
from longtask_operator.core.observe import JobView
from longtask_operator.core.reconcile import reconcile
from tests.builders import POLICY, a_job, a_longtask, a_pod, a_running_pod, an_ended_pod, an_entry, at, seen, wire

ALLOWED = replace(POLICY, kueue=True)
ENTRY = an_entry(handed_over=True)
BEGUN: dict[str, Any] = {"run": 1, "attempt": 0, "tenant": "team-a", "runStartTime": wire(0)}
ATTEMPT = {"number": 1, "run": 1, "generation": 1, "jobName": "wordcount-7c9d4f-1", "cpu": "250m", "memory": "512Mi"}
RECORDED = {**BEGUN, "attempt": 1, "attempts": [ATTEMPT]}
STARTED = {**BEGUN, "attempt": 1, "attempts": [{**ATTEMPT, "podUid": "pod-1", "startTime": wire(1)}]}
PREEMPTED = {**STARTED, "attempts": [{**STARTED["attempts"][0], "cause": "Preempted", "stopTime": wire(8)}]}
SIGTERMED = {"deleted_at": at(38), "grace_seconds": 30, "finished": at(9)}


def queued(**changes: Any) -> JobView:
    """Return the Job as Kueue holds it."""
    return a_job(**{"queue": "gpu-queue", "suspended": True, **changes})


def let_go(started: float | None = 1, **changes: Any) -> JobView:
    """Return the Job as Kueue has unsuspended it, and its controller begun with it."""
    return queued(suspended=False, started=None if started is None else at(started), **changes)


def decide(spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **there: Any) -> Decision:
    there.setdefault("entry", ENTRY)
    policy = there.pop("policy", ALLOWED)
    return reconcile(seen(a_longtask({"queueName": "gpu-queue", **(spec or {})}, status or BEGUN), **there), policy)


def written(decision: Decision) -> LongTaskStatus:
    assert decision.status is not None
    return decision.status


def conditions(status: LongTaskStatus) -> dict[str, tuple[str, str]]:
    return {condition.type: (condition.status, condition.reason) for condition in status.conditions or ()}


class TestHandingOver:
    def test_the_entry_says_that_it_counts_for_nothing(self) -> None:
        candidate = decide(entry=None).candidate
        assert candidate
        assert candidate.entry == ENTRY
        assert decide().first == (CreateJob(entry=ENTRY, tenant="team-a", run=1, deadline=None),)

    def test_without_the_switch_it_waits_and_says_what_to_do(self) -> None:
        decision = decide(entry=None, policy=POLICY)
        status = written(decision)
        assert (status.phase, status.reason, decision.candidate) == ("Queued", "Invalid", None)
        assert status.queue
        assert "ask an administrator to set kueue.enabled" in status.queue.message
        assert conditions(status)["Stalled"] == ("True", "Invalid")

    def test_a_switch_turned_off_between_entry_and_job_gives_the_entry_back(self) -> None:
        decision = decide(policy=POLICY)
        actions = [type(action).__name__ for action in (*decision.first, *decision.then)]
        assert actions == ["ConfirmUnbegun", "ReleaseEntry"]

    def test_an_entry_of_another_kind_is_admitted_anew(self) -> None:
        candidate = decide(entry=an_entry()).candidate
        assert candidate
        assert candidate.entry.handed_over


class TestHeldByKueue:
    def test_a_job_that_is_let_go_at_once_is_not_worth_a_write(self) -> None:
        decision = decide(jobs=(queued(),), now=at(1))
        assert (decision.status, decision.again_at) == (None, at(2))

    def test_the_wait_is_shown(self) -> None:
        status = written(decide(jobs=(queued(),)))
        assert (status.phase, status.reason, status.attempt) == ("Queued", "BehindOthers", 1)
        assert status.queue
        assert status.queue.message == (
            "waits in queue gpu-queue of Kueue, which has not admitted Job wordcount-7c9d4f-1 yet"
        )
        assert conditions(status)["Admitted"] == ("False", "BehindOthers")
        assert conditions(status)["Ready"] == ("True", "Accepted")

    def test_it_is_written_once_and_nothing_is_due(self) -> None:
        status = written(decide(jobs=(queued(),)))
        body = status.model_dump(by_alias=True, exclude_none=True, mode="json")
        again = decide(status=body, jobs=(queued(),), now=at(1_000_000))
        assert (again.status, again.first, again.then, again.again_at) == (status, (), (), None)

    @pytest.mark.parametrize("job", [queued(), let_go(None)], ids=["suspended", "not-begun-yet"])
    def test_its_clocks_stand_still(self, job: JobView) -> None:
        decision = decide(status=RECORDED, jobs=(job,), now=at(100_000))
        assert (written(decision).phase, decision.then) == ("Queued", ())

    def test_they_run_from_the_time_that_it_was_let_go(self) -> None:
        job = let_go(50_000)
        assert written(decide(status=RECORDED, jobs=(job,), now=at(50_010))).phase == "Starting"
        late = decide(status=RECORDED, jobs=(job,), now=at(50_600))
        assert written(late).attempts[0].cause == "NeverStarted"  # type: ignore[index]
        assert late.then == (StopJob(job=job),)

    def test_the_pod_tells_that_time_till_the_job_does(self) -> None:
        """A Job's controller makes the pod first and writes the Job's startTime later."""
        pod = a_pod(created=at(50_000))
        soon = decide(status=RECORDED, jobs=(let_go(None),), pods=(pod,), now=at(50_002))
        assert (written(soon).attempts[0].cause, soon.then) == (None, ())  # type: ignore[index]
        late = decide(status=RECORDED, jobs=(let_go(None),), pods=(pod,), now=at(50_600))
        assert written(late).attempts[0].cause == "NeverStarted"  # type: ignore[index]

    def test_suspended_again_before_it_had_a_pod_it_waits_on(self) -> None:
        decision = decide(status=RECORDED, jobs=(queued(started=None),), now=at(90))
        assert (written(decision).phase, decision.then) == ("Queued", ())

    def test_the_deadline_is_the_runs_and_goes_on(self) -> None:
        assert decide({"deadlineSeconds": 60}, RECORDED, jobs=(queued(),)).again_at == at(60)
        late = decide({"deadlineSeconds": 60}, RECORDED, jobs=(queued(),), now=at(60))
        assert (written(late).attempts[0].cause, late.then) == ("Deadline", (StopJob(job=queued()),))  # type: ignore[index]

    @pytest.mark.parametrize(
        ("spec", "cause", "phase"),
        [({"cancel": True}, "Cancelled", "Cancelled"), ({"suspend": True}, "Suspended", "Suspended")],
    )
    def test_cancelled_or_suspended_the_job_is_ended_for_good(self, spec: Any, cause: str, phase: str) -> None:
        stop = decide(spec, RECORDED, jobs=(queued(),))
        assert (written(stop).attempts[0].cause, stop.then) == (cause, (StopJob(job=queued()),))  # type: ignore[index]
        body = written(stop).model_dump(by_alias=True, exclude_none=True, mode="json")
        ended = decide(spec, body)
        assert (written(ended).phase, [type(action) for action in ended.first]) == (phase, [ConfirmGone])

    def test_a_lost_entry_comes_back_as_one_that_counts_for_nothing(self) -> None:
        decision = decide(status=RECORDED, jobs=(queued(),), entry=None)
        assert decision.first == (KeepEntry(entry=ENTRY, tenant="team-a"),)


class TestTakenBack:
    def test_it_is_made_sure_of_recorded_and_the_job_deleted(self) -> None:
        job, pod = queued(), a_running_pod()
        decision = decide(status=STARTED, jobs=(job,), pods=(pod,))
        assert decision.first == (ConfirmSuspended(job=job),)
        attempt = (written(decision).attempts or [])[0]
        assert (attempt.cause, attempt.stop_time, attempt.completion_time) == ("Preempted", wire(10), None)
        assert attempt.message == "Kueue suspended the attempt's Job: it had to make room"
        assert decision.then == (StopJob(job=job),)

    def test_also_before_its_container_ran(self) -> None:
        decision = decide(status=BEGUN, jobs=(queued(),), pods=(a_pod(),))
        assert (written(decision).attempts[0].cause, written(decision).phase) == ("Preempted", "Starting")  # type: ignore[index]

    def test_let_go_again_while_its_pod_still_ends_the_job_is_deleted_before_it_makes_another_one(self) -> None:
        job, pod = let_go(9), a_running_pod(deleted_at=at(38), grace_seconds=30)
        decision = decide(status=STARTED, jobs=(job,), pods=(pod,))
        assert (decision.first, decision.then) == ((), (StopJob(job=job),))
        assert (written(decision).attempts or [])[0].cause == "Preempted"
        others = decide(status=STARTED, jobs=(let_go(0),), pods=(pod,))
        assert others.then == ()

    def test_its_end_has_a_budget_of_its_own_and_another_attempt_follows(self) -> None:
        pod = an_ended_pod(143, **SIGTERMED)
        decision = decide(status=PREEMPTED, jobs=(queued(deleting=True),), pods=(pod,))
        status = written(decision)
        assert (status.phase, status.attempt_counts, status.next_attempt_time) == (
            "Backoff",
            {"preempted": 1},
            wire(20),
        )
        assert decision.first == ()

    @pytest.mark.parametrize(
        ("job", "pod", "cause", "asks"),
        [
            pytest.param(queued(), an_ended_pod(143, **SIGTERMED), "Preempted", True, id="suspended"),
            pytest.param(queued(), an_ended_pod(0, **SIGTERMED), "Preempted", True, id="suspended-exit-0"),
            pytest.param(queued(), a_pod(deleted_at=at(9), node=None), "Preempted", True, id="never-bound"),
            pytest.param(let_go(9), an_ended_pod(143, **SIGTERMED), "Preempted", False, id="let-go-again"),
            pytest.param(let_go(None), an_ended_pod(143, **SIGTERMED), "Preempted", False, id="about-to-begin-again"),
            pytest.param(let_go(0), an_ended_pod(143, **SIGTERMED), "Disruption", False, id="deleted-by-others"),
            pytest.param(queued(), an_ended_pod(1), "Application", False, id="failed-before"),
            pytest.param(
                queued(),
                an_ended_pod(1, deleted_at=at(38), grace_seconds=30, finished=at(5)),
                "Application",
                False,
                id="failed-then-suspended",
            ),
            pytest.param(queued(), an_ended_pod(0), "Completed", False, id="done-before"),
        ],
    )
    def test_an_end_that_was_not_seen_to_come(self, job: JobView, pod: Any, cause: str, asks: bool) -> None:
        decision = decide(status=STARTED, jobs=(job,), pods=(pod,))
        attempt = (written(decision).attempts or [])[0]
        assert (attempt.cause, attempt.completion_time is not None) == (cause, True)
        assert decision.first == ((ConfirmSuspended(job=job),) if asks else ())
        assert (attempt.message == "Kueue suspended the attempt's Job: it had to make room") == (cause == "Preempted")

    @pytest.mark.parametrize(
        ("job", "stopped"),
        [
            pytest.param(queued(), True, id="suspended"),
            pytest.param(let_go(9), True, id="let-go-again"),
            pytest.param(queued(deleting=True), False, id="on-its-way-out"),
            pytest.param(let_go(9, finished=True), False, id="finished"),
        ],
    )
    def test_the_ended_attempts_job_never_makes_another_pod(self, job: JobView, stopped: bool) -> None:
        attempts = [{**PREEMPTED["attempts"][0], "completionTime": wire(9)}]
        status = {**PREEMPTED, "attempts": attempts, "attemptCounts": {"preempted": 1}, "nextAttemptTime": wire(20)}
        decision = decide(status=status, jobs=(job,), pods=(an_ended_pod(143, held=False),))
        assert (StopJob(job=job) in decision.then) is stopped

    def test_a_job_that_nobody_handed_over_is_no_matter_of_kueues(self) -> None:
        decision = decide(status=STARTED, jobs=(a_job(suspended=True),), pods=(a_running_pod(),), entry=an_entry())
        assert written(decision).phase == "Running"
