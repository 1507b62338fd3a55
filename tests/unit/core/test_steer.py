"""An open attempt, told through `reconcile`: what it asks for in each state of its Job and pods."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from longtask_operator.api.status import LongTaskStatus, Progress
from longtask_operator.core.checkpoints import Resumed
from longtask_operator.core.decision import ConfirmPod, CreateJob, Decision, KeepEntry, StopJob, StopPod
from longtask_operator.core.reconcile import reconcile
from tests.builders import (
    POLICY,
    a_job,
    a_longtask,
    a_pod,
    a_running_pod,
    an_ended_pod,
    an_entry,
    at,
    seen,
    wire,
)

BEGUN: dict[str, Any] = {"run": 1, "attempt": 0, "tenant": "team-a", "runStartTime": wire(0)}
ATTEMPT = {"number": 1, "run": 1, "generation": 1, "jobName": "wordcount-7c9d4f-1", "cpu": "250m", "memory": "512Mi"}
RECORDED = {**BEGUN, "attempt": 1, "attempts": [ATTEMPT]}
STARTED = {**BEGUN, "attempt": 1, "attempts": [{**ATTEMPT, "podUid": "pod-1", "startTime": wire(1)}]}


def stopping(cause: str) -> dict[str, Any]:
    return {**STARTED, "attempts": [{**STARTED["attempts"][0], "cause": cause}]}


def decide(spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **there: Any) -> Decision:
    there.setdefault("entry", an_entry())
    return reconcile(seen(a_longtask(spec, status or BEGUN), **there), POLICY)


def written(decision: Decision) -> LongTaskStatus:
    assert decision.status is not None
    return decision.status


class TestCreating:
    def test_an_admitted_attempt_gets_its_job_and_no_write(self) -> None:
        decision = decide({"deadlineSeconds": 60})
        assert decision.first == (CreateJob(entry=an_entry(), tenant="team-a", run=1, deadline=at(60)),)
        assert (decision.status, decision.candidate, decision.again_at) == (None, None, at(60))

    @pytest.mark.parametrize(
        ("spec", "there"),
        [
            pytest.param({"cancel": True}, {}, id="cancelled"),
            pytest.param({"suspend": True}, {}, id="suspended"),
            pytest.param({"deadlineSeconds": 10}, {}, id="too-late"),
            pytest.param({}, {"entry": an_entry(generation=0)}, id="another-spec"),
            pytest.param({}, {"tenant": None}, id="refused-namespace"),
        ],
    )
    def test_but_not_when_the_task_asks_otherwise_since(self, spec: dict[str, Any], there: dict[str, Any]) -> None:
        assert not [action for action in decide(spec, **there).first if isinstance(action, CreateJob)]

    def test_an_attempt_that_was_admitted_with_another_spec_is_admitted_anew_with_its_number(self) -> None:
        decision = decide(entry=an_entry(generation=0))
        assert decision.candidate is not None
        assert decision.candidate.entry == an_entry(generation=1)
        assert decision.then == ()


class TestStarting:
    def test_a_quick_start_is_not_worth_a_write(self) -> None:
        decision = decide(jobs=(a_job(),), pods=(a_pod(),), now=at(1))
        assert (decision.status, decision.again_at) == (None, at(2))

    def test_a_slow_start_is_shown_with_what_it_waits_for(self) -> None:
        decision = decide(jobs=(a_job(),), pods=(a_pod(waiting="ImagePullBackOff: no such image"),))
        status = written(decision)
        assert (status.phase, status.reason, status.attempt) == ("Starting", "ImagePullBackOff", 1)
        assert decision.again_at == at(600)

    def test_a_slow_start_without_a_pod(self) -> None:
        status = written(decide(jobs=(a_job(),)))
        assert (status.phase, status.reason, status.job_name) == ("Starting", "Starting", "wordcount-7c9d4f-1")
        assert status.sizing is not None
        assert (status.sizing.display, status.sizing.source) == ("250m/512Mi", "Smallest")

    def test_the_deadline_may_come_before_the_start_timeout(self) -> None:
        decision = decide({"deadlineSeconds": 60, "startTimeoutSeconds": 90}, jobs=(a_job(),), pods=(a_pod(),))
        assert decision.again_at == at(60)

    def test_an_attempt_that_does_not_start_is_stopped(self) -> None:
        decision = decide({"startTimeoutSeconds": 5}, jobs=(a_job(),), pods=(a_pod(waiting="ErrImagePull: x"),))
        (attempt,) = written(decision).attempts or []
        assert (attempt.cause, attempt.completion_time) == ("NeverStarted", None)
        assert [type(action) for action in decision.first] == [ConfirmPod]
        assert attempt.message == "did not start within startTimeoutSeconds (5): ErrImagePull: x"
        assert decision.then == (StopJob(job=a_job()),)


class TestRunning:
    def test_it_is_shown_once(self) -> None:
        there: dict[str, Any] = {"jobs": (a_job(),), "pods": (a_running_pod(),)}
        first = decide(**there)
        status = written(first)
        assert (status.phase, status.reason, status.attempt, status.start_time) == ("Running", "Running", 1, wire(1))
        (attempt,) = status.attempts or []
        assert attempt.model_dump(by_alias=True, exclude_none=True) == {
            **ATTEMPT,
            "podName": "wordcount-7c9d4f-1-abcde",
            "podUid": "pod-1",
            "nodeName": "node-1",
            "startTime": wire(1),
        }
        again = reconcile(seen(a_longtask(None, status), entry=an_entry(), now=at(500), **there), POLICY)
        assert written(again) == status

    def test_progress_is_written_with_the_first_sight_and_then_when_it_is_due(self) -> None:
        there: dict[str, Any] = {"jobs": (a_job(),), "pods": (a_running_pod(),)}
        first = written(decide(progress=Progress(done=1), **there))
        assert first.progress == Progress(done=1)
        task = a_longtask(None, first)
        later = seen(task, entry=an_entry(), progress=Progress(done=2), **there)
        assert written(reconcile(later, POLICY)).progress == Progress(done=1)
        due = seen(task, entry=an_entry(), progress=Progress(done=2), mirror_due=True, **there)
        assert written(reconcile(due, POLICY)).progress == Progress(done=2)

    def test_the_progress_of_an_earlier_attempt_goes(self) -> None:
        status = {**BEGUN, "progress": {"done": 9}}
        assert written(decide(None, status, jobs=(a_job(),), pods=(a_running_pod(),))).progress is None

    def test_a_pod_that_lost_its_job_runs_on(self) -> None:
        assert written(decide(pods=(a_running_pod(),))).phase == "Running"

    def test_a_pod_that_is_being_deleted_is_waited_for(self) -> None:
        decision = decide(None, STARTED, jobs=(a_job(),), pods=(a_running_pod(deleted_at=at(40)),))
        assert (written(decision).phase, decision.then) == ("Running", ())


class TestResumed:
    """Manifests 2 and 1 were given, newest first; 2 is torn."""

    POD = a_running_pod(resume=("s3://b/2", "s3://b/1"))
    GIVEN, OLDER, NOTHING = (Resumed(uri=uri, attempt=1, pod_uid="pod-1") for uri in ("s3://b/2", "s3://b/1", None))

    def shown(self, status: dict[str, Any] | LongTaskStatus, **there: Any) -> str | None:
        there = {"entry": an_entry(), "jobs": (a_job(),), "pods": (self.POD,), **there}
        (attempt,) = written(reconcile(seen(a_longtask(None, status), **there), POLICY)).attempts or ()
        return attempt.resumed_from

    def standing(self, resumed_from: str | None) -> dict[str, Any]:
        return {**STARTED, "attempts": [{**STARTED["attempts"][0], "resumedFrom": resumed_from}]}

    def test_until_its_worker_says_so_it_is_what_it_was_given(self) -> None:
        assert self.shown(BEGUN) == "s3://b/2"
        assert self.shown(BEGUN, resumed=self.OLDER) == "s3://b/1"
        assert self.shown(BEGUN, resumed=self.NOTHING) is None
        assert self.shown(BEGUN, pods=(a_running_pod(),)) is None

    def test_then_it_is_what_its_worker_says_when_that_is_due(self) -> None:
        status = self.standing("s3://b/2")
        assert self.shown(status, resumed=self.OLDER) == "s3://b/2"
        assert self.shown(status, resumed=self.OLDER, mirror_due=True) == "s3://b/1"
        assert self.shown(status, resumed=self.NOTHING, mirror_due=True) is None

    @pytest.mark.parametrize("stands", ["s3://b/1", None])
    def test_a_new_leader_that_heard_nothing_changes_nothing(self, stands: str | None) -> None:
        assert self.shown(self.standing(stands), mirror_due=True) == stands

    def test_the_word_of_another_pod_does_not_count(self) -> None:
        other = replace(self.OLDER, pod_uid="pod-9")
        assert self.shown(BEGUN, resumed=other) == "s3://b/2"
        assert self.shown(self.standing("s3://b/2"), resumed=other, mirror_due=True) == "s3://b/2"

    @pytest.mark.parametrize(
        ("said", "heard", "kept"),
        [
            ('"s3://b/1"', None, "s3://b/1"),
            ('"s3://b/1"', GIVEN, "s3://b/1"),
            ('""', GIVEN, None),
            ("null", OLDER, "s3://b/1"),
            ("null", None, "s3://b/2"),
            ('"s3://b/9"', OLDER, "s3://b/1"),
        ],
    )
    def test_at_the_end_its_last_word_counts(self, said: str, heard: Resumed | None, kept: str | None) -> None:
        pod = an_ended_pod(1, resume=self.POD.resume, message=f'{{"longtask":1,"resumedFrom":{said}}}')
        for before in (BEGUN, self.standing("s3://b/2")):
            assert self.shown(before, pods=(pod,), resumed=heard) == kept

    def test_a_pod_of_an_older_operator_leaves_what_stands(self) -> None:
        assert self.shown(self.standing("s3://b/2"), pods=(a_running_pod(),)) == "s3://b/2"


class TestLedger:
    def test_a_living_attempt_is_put_back_into_the_ledger(self) -> None:
        decision = decide(None, STARTED, entry=None, jobs=(a_job(),), pods=(a_running_pod(),))
        assert decision.first == (KeepEntry(entry=an_entry(), tenant="team-a"),)

    def test_with_the_generation_that_it_really_runs(self) -> None:
        decision = decide(entry=an_entry(generation=1), jobs=(a_job(generation=7),), pods=(a_running_pod(),))
        assert decision.first == (KeepEntry(entry=an_entry(generation=7), tenant="team-a"),)

    def test_an_attempt_of_unknown_size_is_not(self) -> None:
        assert decide(entry=None, jobs=(a_job(),), pods=(a_running_pod(),)).first == ()


class TestEnding:
    @pytest.mark.parametrize(
        ("status", "there", "phase", "cause"),
        [
            pytest.param(
                STARTED, {"pods": (an_ended_pod(0),), "jobs": (a_job(),)}, "Succeeded", "Completed", id="done"
            ),
            pytest.param(BEGUN, {"pods": (an_ended_pod(0),)}, "Succeeded", "Completed", id="done-before-it-was-seen"),
            pytest.param(STARTED, {"pods": (an_ended_pod(1),)}, "Backoff", "Application", id="failed"),
            pytest.param(STARTED, {}, "Backoff", "Lost", id="pod-and-job-are-gone"),
            pytest.param(RECORDED, {"jobs": (a_job(finished=True),)}, "Backoff", "Lost", id="job-ended-without-a-pod"),
            pytest.param(stopping("Cancelled"), {}, "Cancelled", "Cancelled", id="stopped-and-gone"),
            pytest.param(stopping("Suspended"), {}, "Suspended", "Suspended", id="suspended-and-gone"),
            pytest.param(stopping("Deadline"), {}, "Failed", "Deadline", id="deadline-and-gone"),
            pytest.param(
                stopping("Suspended"), {"jobs": (a_job(finished=True),)}, "Suspended", "Suspended", id="suspended-early"
            ),
        ],
    )
    def test_an_end_is_recorded(self, status: dict[str, Any], there: dict[str, Any], phase: str, cause: str) -> None:
        decision = decide(None, status, **there)
        after = written(decision)
        (attempt,) = after.attempts or []
        assert (after.phase, attempt.cause, decision.then) == (phase, cause, ())
        assert attempt.completion_time is not None
        assert decision.again_at == at(10)

    def test_the_size_is_shown_also_of_an_attempt_that_was_too_quick_to_be_seen_running(self) -> None:
        sizing = written(decide(pods=(an_ended_pod(0),), jobs=(a_job(),))).sizing
        assert sizing is not None
        assert sizing.display == "250m/512Mi"

    def test_a_job_that_has_not_ended_may_still_get_its_pod(self) -> None:
        decision = decide(None, RECORDED, jobs=(a_job(),))
        assert written(decision).phase == "Starting"


def test_what_older_attempts_left_goes_while_a_newer_one_runs() -> None:
    status = {
        **BEGUN,
        "attempt": 2,
        "attempts": [{**ATTEMPT, "cause": "Suspended", "completionTime": wire(2)}, {**ATTEMPT, "number": 2}],
    }
    late = a_running_pod(held=False)
    decision = decide(
        None, status, entry=an_entry(attempt=2), jobs=(a_job(attempt=2),), pods=(late, a_running_pod(attempt=2))
    )
    assert (written(decision).phase, decision.then) == ("Running", (StopPod(pod=late),))


class TestWhatCanBeShownLater:
    @pytest.mark.parametrize(
        ("status", "there", "waits"),
        [
            pytest.param(BEGUN, {"pods": (a_running_pod(),)}, True, id="it-just-runs"),
            pytest.param(RECORDED, {"pods": (a_running_pod(),)}, True, id="it-was-shown-to-start"),
            pytest.param(STARTED, {"pods": (a_running_pod(),)}, False, id="it-was-shown-to-run"),
            pytest.param(BEGUN, {"pods": (a_running_pod(),), "progress": Progress(done=1)}, False, id="it-reported"),
            pytest.param(BEGUN, {"pods": (an_ended_pod(0),)}, False, id="it-ended"),
            pytest.param(BEGUN, {}, True, id="it-starts"),
            pytest.param(BEGUN, {"pods": (a_pod(waiting="ErrImagePull: no"),)}, False, id="it-does-not-start"),
        ],
    )
    def test_only_what_an_end_says_as_well(self, status: dict[str, Any], there: dict[str, Any], waits: bool) -> None:
        decision = decide(None, status, jobs=(a_job(),), **there)
        assert written(decision)
        assert decision.can_wait is waits

    def test_a_short_run_that_was_never_shown_is_recorded_whole(self) -> None:
        status = written(decide(jobs=(a_job(),), pods=(an_ended_pod(0),)))
        assert status.attempts
        assert status.attempts[0].start_time
        assert (status.phase, status.start_time) == ("Succeeded", status.attempts[0].start_time)
