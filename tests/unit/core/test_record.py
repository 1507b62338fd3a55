from __future__ import annotations

from typing import Any

import pytest

from longtask_operator.api.longtask import LongTaskSpec
from longtask_operator.api.reasons import Cause
from longtask_operator.api.status import Attempt, LongTaskStatus
from longtask_operator.core import record
from longtask_operator.core.causes import AttemptEnd
from tests.builders import at, wire


def attempt(number: int = 1, **changes: Any) -> Attempt:
    return Attempt(number=number, run=1, generation=1, job_name=f"j-{number}", **changes)


def ended(status: LongTaskStatus, number: int, cause: Cause = Cause.APPLICATION, **changes: Any) -> LongTaskStatus:
    return record.with_end(status, attempt(number), AttemptEnd(cause=cause, **changes), now=at(10))


class TestAttempts:
    def test_the_newest_stands_last_and_names_the_job(self) -> None:
        status = record.with_attempt(record.with_attempt(LongTaskStatus(), attempt(1)), attempt(2))
        assert [known.number for known in status.attempts or ()] == [1, 2]
        assert (status.attempt, status.job_name) == (2, "j-2")

    def test_an_attempt_replaces_itself(self) -> None:
        status = record.with_attempt(LongTaskStatus(), attempt(1))
        status = record.with_attempt(status, attempt(1, node_name="n"))
        assert [known.node_name for known in status.attempts or ()] == ["n"]

    def test_ten_are_kept(self) -> None:
        status = LongTaskStatus()
        for number in range(1, 13):
            status = ended(status, number)
        assert [known.number for known in status.attempts or ()] == list(range(3, 13))
        assert status.attempt_counts == {"application": 12}

    def test_log_tails_are_kept_of_the_newest_two(self) -> None:
        status = LongTaskStatus()
        for number in range(1, 5):
            status = ended(status, number, log_tail=f"tail {number}")
        assert [known.log_tail for known in status.attempts or ()] == [None, None, "tail 3", "tail 4"]

    def test_the_number_never_falls(self) -> None:
        status = record.with_attempt(LongTaskStatus(attempt=7), attempt(3))
        assert status.attempt == 7


class TestEnds:
    def test_an_end_in_full(self) -> None:
        status = ended(
            LongTaskStatus(), 1, Cause.OUT_OF_MEMORY, exit_code=137, message="m", started=at(2), finished=at(8)
        )
        (known,) = status.attempts or []
        assert known.model_dump(by_alias=True, exclude_none=True) == {
            "number": 1, "run": 1, "generation": 1, "jobName": "j-1", "startTime": wire(2), "completionTime": wire(8),
            "cause": "OutOfMemory", "exitCode": 137, "message": "m",
        }  # fmt: skip
        assert (status.attempt_counts, status.attempt_totals) == ({"outOfMemory": 1}, {"outOfMemory": 1})
        assert status.start_time == wire(2)

    def test_an_end_without_a_time_is_now(self) -> None:
        (known,) = ended(LongTaskStatus(), 1).attempts or []
        assert (known.completion_time, known.start_time, known.message) == (wire(10), None, None)

    def test_the_first_start_of_a_run_stays(self) -> None:
        assert ended(LongTaskStatus(start_time=wire(1)), 2, started=at(5)).start_time == wire(1)

    def test_a_recorded_start_stays(self) -> None:
        status = record.with_end(
            LongTaskStatus(), attempt(1, start_time=wire(1)), AttemptEnd(cause=Cause.LOST, started=at(2)), now=at(9)
        )
        assert (status.attempts or [])[0].start_time == wire(1)

    def test_why_it_was_stopped_stays_its_message(self) -> None:
        stopping = attempt(1, cause="Deadline", message="deadlineSeconds passed")
        end = AttemptEnd(cause=Cause.DEADLINE, message="exit code 143")
        (known,) = record.with_end(LongTaskStatus(), stopping, end, now=at(9)).attempts or []
        assert known.message == "deadlineSeconds passed"

    def test_a_run_counts_apart_from_all_runs(self) -> None:
        before = LongTaskStatus(attempt_counts={"lost": 1}, attempt_totals={"lost": 4, "application": 2})
        status = ended(before, 1, Cause.LOST)
        assert status.attempt_counts == {"lost": 2}
        assert status.attempt_totals == {"lost": 5, "application": 2}

    def test_a_message_is_bounded(self) -> None:
        (known,) = ended(LongTaskStatus(), 1, message="x" * 5000).attempts or []
        assert len(known.message or "") == 1024


def test_counts_are_read_back_by_cause() -> None:
    status = LongTaskStatus()
    for number, cause in enumerate(Cause, start=1):
        status = ended(status, number, cause)
    assert record.counts_by_cause(status) == dict.fromkeys(Cause, 1)
    assert record.counts_by_cause(LongTaskStatus()) == {}
    assert record.counts_by_cause(LongTaskStatus(attempt_counts={"bewitched": 3})) == {}


@pytest.mark.parametrize(
    ("attempts", "said"),
    [
        ([], ""),
        ([attempt(1)], ""),
        ([attempt(1, cause="Lost"), attempt(2, cause="Application", message="exit code 1")],
         "attempt 2 ended by Application: exit code 1; "),
        ([attempt(1, cause="Lost", message="")], "attempt 1 ended by Lost; "),
    ],
)  # fmt: skip
def test_a_backoff_is_described_by_what_came_before(attempts: list[Attempt], said: str) -> None:
    status = LongTaskStatus(attempts=attempts, next_attempt_time=wire(20))
    assert record.describe_backoff(status) == f"{said}the next attempt starts at {wire(20)}"


@pytest.mark.parametrize(
    ("seconds", "begun", "expected"), [(None, wire(0), None), (60, None, None), (60, wire(5), at(65))]
)
def test_the_deadline_of_a_run(seconds: int | None, begun: str | None, expected: object) -> None:
    assert record.deadline_of(LongTaskStatus(run_start_time=begun), LongTaskSpec(deadline_seconds=seconds)) == expected
