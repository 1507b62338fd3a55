from __future__ import annotations

from typing import Any

import pytest

from longtask_operator.api.longtask import LongTask
from longtask_operator.api.reasons import Cause
from longtask_operator.api.status import Attempt, LongTaskStatus, Progress, Result, TaskUsage
from longtask_operator.core.causes import AttemptEnd
from longtask_operator.core.decision import Decision
from longtask_operator.core.ending import end_attempt
from longtask_operator.core.outcome import Outcome
from tests.builders import POLICY, a_longtask, a_pod, at, seen, wire

ATTEMPT = Attempt(number=1, run=1, generation=1, job_name="wordcount-7c9d4f-1", start_time=wire(1))


def end(cause: Cause, task: LongTask | None = None, **changes: Any) -> tuple[Decision, LongTaskStatus]:
    task = task or a_longtask(status={"run": 1, "runStartTime": wire(0)})
    observed = seen(task, **{key: changes.pop(key) for key in ("progress", "jitter") if key in changes})
    attempt = changes.pop("attempt", ATTEMPT)
    ended = AttemptEnd(cause=cause, **{"finished": at(8), **changes})
    decision = end_attempt(observed, attempt, task.status, ended, POLICY)
    assert decision.status is not None
    return decision, decision.status


def condition(status: LongTaskStatus, kind: str) -> tuple[str, str, str]:
    found = next(c for c in status.conditions or () if c.type == kind)
    return found.status, found.reason, found.message


def test_an_end_charges_what_the_attempt_used() -> None:
    sized = ATTEMPT.model_copy(update={"cpu": "1", "memory": "2Gi"})
    observed = seen(a_longtask(status={"run": 1, "runStartTime": wire(0)}), cpu_seconds_used=3.5)
    end = AttemptEnd(cause=Cause.COMPLETED, finished=at(8))
    decision = end_attempt(observed, sized, observed.task.status, end, POLICY)
    assert decision.status is not None
    assert decision.status.usage == TaskUsage(cpu_seconds=7, memory_gib_seconds=14, cpu_seconds_used=4)


@pytest.mark.parametrize(("of_pod", "said"), [(1, "701Mi"), (2, None)])
def test_the_peak_that_the_worker_of_the_attempt_reported_is_kept(of_pod: int, said: str | None) -> None:
    observed = seen(
        a_longtask(status={"run": 1, "runStartTime": wire(0)}),
        peak_memory=700 * 1024**2 + 1,
        pods=(a_pod(attempt=of_pod),),
    )
    end = AttemptEnd(cause=Cause.COMPLETED, finished=at(8))
    decision = end_attempt(observed, ATTEMPT, observed.task.status, end, POLICY)
    assert decision.status is not None
    assert decision.status.attempts is not None
    assert decision.status.attempts[-1].peak_memory == said


def test_a_completed_attempt_ends_the_task_with_its_result() -> None:
    decision, status = end(Cause.COMPLETED, exit_code=0, outcome=Outcome(result=Result(value={"rows": 3})))
    assert (status.phase, status.completion_time) == ("Succeeded", wire(10))
    assert status.result == Result(value={"rows": 3})
    assert condition(status, "Succeeded") == ("True", "Completed", "attempt 1 completed")
    assert status.attempt_counts == {"completed": 1}
    assert decision.again_at == at(10)
    assert decision.then == ()


def test_a_completed_attempt_without_an_outcome_has_no_result() -> None:
    _, status = end(Cause.COMPLETED, exit_code=0)
    assert status.result is None


def test_a_failed_attempt_is_followed_by_a_backoff() -> None:
    decision, status = end(Cause.APPLICATION, exit_code=1, message="exit code 1")
    assert (status.phase, status.next_attempt_time, status.completion_time) == ("Backoff", wire(20), None)
    said = f"attempt 1 ended by Application: exit code 1; the next attempt starts at {wire(20)}"
    assert condition(status, "Admitted") == ("False", "Backoff", said)
    assert decision.again_at == at(10)


def test_the_last_attempt_of_a_budget_fails_the_task() -> None:
    task = a_longtask({"retry": {"limits": {"application": 0}}}, {"run": 1, "runStartTime": wire(0)})
    _, status = end(Cause.APPLICATION, task, message="exit code 1")
    assert (status.phase, status.completion_time, status.next_attempt_time) == ("Failed", wire(10), None)
    said = "attempt 1 ended by Application: exit code 1; no retries were allowed for Application"
    assert condition(status, "Stalled") == ("True", "Application", said)
    assert condition(status, "Admitted")[:2] == ("True", "Admitted")


def test_a_result_of_a_failed_attempt_is_ignored() -> None:
    _, status = end(Cause.APPLICATION, exit_code=1, outcome=Outcome(result=Result(value=1)))
    assert status.result is None


@pytest.mark.parametrize("cause", [Cause.PERMANENT, Cause.DEADLINE])
def test_a_final_cause_fails_the_task(cause: Cause) -> None:
    _, status = end(cause)
    assert (status.phase, status.reason) == ("Failed", str(cause))
    assert condition(status, "Succeeded") == (
        "False",
        str(cause),
        f"attempt 1 ended by {cause}; {cause} is not retried",
    )


def test_a_cancelled_attempt_cancels_the_task() -> None:
    _, status = end(Cause.CANCELLED)
    assert (status.phase, status.completion_time) == ("Cancelled", wire(10))


def test_a_suspended_attempt_waits_without_a_backoff() -> None:
    decision, status = end(Cause.SUSPENDED)
    assert (status.phase, status.next_attempt_time, status.completion_time) == ("Suspended", None, None)
    assert status.attempt_counts == {"suspended": 1}
    assert decision.again_at == at(10)


class TestOutOfMemory:
    MESSAGE = "the task container used more than its memory"

    def at_size(self, resources: dict[str, Any] | None, cpu: str, memory: str, **retry: Any) -> LongTaskStatus:
        spec = {"resources": resources or {}, "retry": retry}
        task = a_longtask(spec, status={"run": 1, "runStartTime": wire(0)})
        attempt = ATTEMPT.model_copy(update={"cpu": cpu, "memory": memory})
        return end(Cause.OUT_OF_MEMORY, task, attempt=attempt, exit_code=137, message=self.MESSAGE)[1]

    def test_the_next_attempt_is_larger_and_the_status_says_so_at_once(self) -> None:
        status = self.at_size(None, "250m", "1Gi")
        assert status.phase == "Backoff"
        assert status.sizing is not None
        assert (status.sizing.display, status.sizing.source) == ("250m/2Gi", "OutOfMemory")
        assert status.sizing.message == "1Gi ran out of memory in attempt 1"
        assert status.sizing.requested == "Auto/Auto"

    @pytest.mark.parametrize(
        ("resources", "size", "why"),
        [
            (None, ("1", "8Gi"), "the size 1/8Gi cannot grow: no size of this cluster has more memory"),
            ({"growth": "Never"}, ("250m", "1Gi"), "spec.resources.growth is Never"),
            ({"maxMemory": "1Gi"}, ("250m", "1Gi"), "spec.resources.maxMemory is 1Gi"),
            ({"maxCpu": "250m"}, ("250m", "2Gi"), "spec.resources.maxCpu is 250m"),
            (
                {"maxCpu": "250m", "maxMemory": "2Gi"},
                ("250m", "2Gi"),
                "spec.resources.maxCpu is 250m and maxMemory is 2Gi",
            ),
        ],
    )
    def test_what_cannot_grow_is_a_dead_letter_whatever_the_budget(
        self, resources: dict[str, Any] | None, size: tuple[str, str], why: str
    ) -> None:
        status = self.at_size(resources, *size, limits={"outOfMemory": 9})
        assert (status.phase, status.reason, status.dead_lettered) == ("Failed", "OutOfMemory", True)
        message = condition(status, "Succeeded")[2]
        assert message.startswith(f"attempt 1 ended by OutOfMemory: {self.MESSAGE}; the size ")
        assert message.endswith(why)

    def test_the_budget_ends_the_climb_first(self) -> None:
        status = self.at_size(None, "250m", "1Gi", limits={"outOfMemory": 0})
        assert condition(status, "Succeeded")[2].endswith("no retries were allowed for OutOfMemory")
        assert status.sizing is None

    def test_a_ceiling_that_nobody_can_read_is_left_to_the_wait_for_admission(self) -> None:
        assert self.at_size({"maxMemory": "lots"}, "250m", "1Gi").phase == "Backoff"

    def test_an_attempt_whose_size_is_not_known_is_tried_again(self) -> None:
        assert end(Cause.OUT_OF_MEMORY, exit_code=137)[1].phase == "Backoff"


class TestLastProgress:
    def test_the_latest_report_outlives_the_mirror(self) -> None:
        _, status = end(Cause.APPLICATION, progress=Progress(done=7, total=9))
        assert status.progress is not None
        assert (status.progress.done, status.progress.total) == (7, 9)

    def test_the_mirror_stays_where_no_report_is_known(self) -> None:
        task = a_longtask(status={"run": 1, "progress": {"done": 3}, "attempts": [ATTEMPT.model_dump(by_alias=True)]})
        _, status = end(Cause.APPLICATION, task)
        assert status.progress is not None
        assert status.progress.done == 3

    @pytest.mark.parametrize("cause", [Cause.COMPLETED, Cause.APPLICATION])
    def test_the_mirror_of_an_older_attempt_goes_where_this_one_was_never_shown(self, cause: Cause) -> None:
        task = a_longtask(status={"run": 1, "progress": {"done": 3}, "attempts": [ATTEMPT.model_dump(by_alias=True)]})
        _, status = end(cause, task, attempt=ATTEMPT.model_copy(update={"number": 2}))
        assert status.progress is None

    def test_what_the_worker_left_behind_is_its_last_word(self) -> None:
        _, status = end(Cause.COMPLETED, progress=Progress(done=7, total=9, unit="rows"), counted=(9, 9))
        assert status.progress is not None
        assert (status.progress.done, status.progress.percent, status.progress.unit) == (9, 100, "rows")


def with_rules(*rules: dict[str, Any], counts: dict[str, int] | None = None) -> LongTask:
    status = {"run": 1, "runStartTime": wire(0), "attemptCounts": counts or {}}
    return a_longtask({"retry": {"rules": list(rules), "limits": {"application": 1}}}, status)


def test_a_rule_fails_the_task_at_once_and_it_is_no_dead_letter() -> None:
    task = with_rules({"exitCodes": [64, 65], "action": "Fail"})
    _, status = end(Cause.APPLICATION, task, exit_code=65, message="exit code 65")
    assert (status.phase, status.dead_lettered) == ("Failed", False)
    assert "spec.retry.rules says Fail for exit code 65" in condition(status, "Succeeded")[2]


def test_an_ignored_attempt_uses_no_budget_and_waits_like_any_other() -> None:
    task = with_rules({"exitCodes": [75], "action": "Ignore"}, counts={"application": 1, "ignored": 1})
    _, status = end(Cause.APPLICATION, task, exit_code=75, message="exit code 75")
    assert (status.phase, status.next_attempt_time) == ("Backoff", wire(10 + 40))
    assert status.attempt_counts == {"application": 1, "ignored": 2}
    assert status.attempt_totals == {"application": 1}


def test_attempts_are_not_ignored_for_ever() -> None:
    task = with_rules({"exitCodes": [75], "action": "Ignore"}, counts={"ignored": 100})
    _, status = end(Cause.APPLICATION, task, exit_code=75, message="exit code 75")
    assert (status.phase, status.dead_lettered) == ("Failed", True)


def test_the_first_rule_that_names_the_exit_code_wins() -> None:
    task = with_rules({"exitCodes": [3], "action": "Retry"}, {"exitCodes": [3], "action": "Fail"})
    assert end(Cause.APPLICATION, task, exit_code=3)[1].phase == "Backoff"


@pytest.mark.parametrize("cause", [Cause.DISRUPTION, Cause.OUT_OF_MEMORY, Cause.ATTEMPT_TIMEOUT])
def test_rules_do_not_speak_of_what_the_cluster_did(cause: Cause) -> None:
    task = with_rules({"exitCodes": [137], "action": "Fail"})
    assert end(cause, task, exit_code=137)[1].phase == "Backoff"


def test_ignored_attempts_count_for_the_backoff_of_those_that_follow() -> None:
    task = with_rules({"exitCodes": [75], "action": "Ignore"}, counts={"ignored": 2})
    assert end(Cause.APPLICATION, task, exit_code=1)[1].next_attempt_time == wire(10 + 40)
