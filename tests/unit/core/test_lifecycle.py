"""The table of conditions, row by row, and what kstatus makes of each row."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from longtask_operator.api.phases import TERMINAL, Phase
from longtask_operator.api.reasons import Cause, ConditionType, QueueReason, Reason
from longtask_operator.api.status import LongTaskStatus
from longtask_operator.core import lifecycle
from longtask_operator.core.lifecycle import Situation, with_situation
from tests.builders import a_longtask_body, at, wire
from tests.support.kstatus import kstatus

NOTHING = LongTaskStatus()
WAITED = with_situation(NOTHING, lifecycle.waiting(QueueReason.COHORT_EXHAUSTED, "full"), generation=1, now=at(0))


@dataclass(frozen=True)
class Row:
    """A row: `Type=Status Reason` of each condition that must be there, and the verdicts."""

    situation: Situation
    phase: Phase
    reason: str
    conditions: str
    kstatus: str


ROWS = {
    "queued": Row(
        lifecycle.waiting(QueueReason.BEHIND_OTHERS, "m"),
        Phase.QUEUED,
        "BehindOthers",
        "Admitted=False BehindOthers, Succeeded=Unknown Queued, Finished=False Unfinished, Ready=True Accepted",
        "Current",
    ),
    "redriven": Row(
        lifecycle.begun(),
        Phase.QUEUED,
        "Queued",
        "Admitted=False Queued, Succeeded=Unknown Queued, Finished=False Unfinished, Ready=True Accepted",
        "Current",
    ),
    "starting": Row(
        lifecycle.active(Phase.STARTING, Reason.STARTING, "m"),
        Phase.STARTING,
        "Starting",
        "Admitted=True Admitted, Succeeded=Unknown Starting, Finished=False Unfinished, Ready=True Accepted",
        "Current",
    ),
    "running": Row(
        lifecycle.active(Phase.RUNNING, Reason.RUNNING, "m"),
        Phase.RUNNING,
        "Running",
        "Admitted=True Admitted, Succeeded=Unknown Running, Finished=False Unfinished, Ready=True Accepted",
        "Current",
    ),
    "backoff": Row(
        lifecycle.waiting(QueueReason.BACKOFF, "m"),
        Phase.BACKOFF,
        "Backoff",
        "Admitted=False Backoff, Succeeded=Unknown Backoff, Finished=False Unfinished, Ready=True Accepted",
        "Current",
    ),
    "suspended": Row(
        lifecycle.waiting(QueueReason.SUSPENDED, "m"),
        Phase.SUSPENDED,
        "Suspended",
        "Admitted=False Suspended, Succeeded=Unknown Suspended, Finished=False Unfinished, Ready=True Accepted",
        "Current",
    ),
    "succeeded": Row(
        lifecycle.succeeded("m"),
        Phase.SUCCEEDED,
        "Completed",
        "Admitted=True Admitted, Succeeded=True Completed, Finished=True Completed, Ready=True Finished",
        "Current",
    ),
    "failed": Row(
        lifecycle.failed(Cause.APPLICATION, "m"),
        Phase.FAILED,
        "Application",
        "Admitted=True Admitted, Succeeded=False Application, Finished=True Application, Ready=False Application, "
        "Stalled=True Application",
        "Failed",
    ),
    "failed while it waited": Row(
        lifecycle.failed(Cause.DEADLINE, "m", waited=WAITED),
        Phase.FAILED,
        "Deadline",
        "Admitted=False CohortExhausted, Succeeded=False Deadline, Finished=True Deadline, Ready=False Deadline, "
        "Stalled=True Deadline",
        "Failed",
    ),
    "cancelled": Row(
        lifecycle.cancelled(WAITED),
        Phase.CANCELLED,
        "Cancelled",
        "Admitted=False CohortExhausted, Succeeded=False Cancelled, Finished=True Cancelled, Ready=True Finished",
        "Current",
    ),
    "cancelled at first sight": Row(
        lifecycle.cancelled(NOTHING),
        Phase.CANCELLED,
        "Cancelled",
        "Admitted=False Queued, Succeeded=False Cancelled, Finished=True Cancelled, Ready=True Finished",
        "Current",
    ),
    "inadmissible now": Row(
        lifecycle.waiting(QueueReason.INVALID, "m"),
        Phase.QUEUED,
        "Invalid",
        "Admitted=False Invalid, Succeeded=Unknown Inadmissible, Finished=False Unfinished, Ready=False Invalid, "
        "Stalled=True Invalid",
        "Failed",
    ),
}


def status_of(row: Row, generation: int = 1) -> LongTaskStatus:
    return with_situation(NOTHING, row.situation, generation=generation, now=at(0))


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
def test_a_row_of_the_table(row: Row) -> None:
    status = status_of(row)
    conditions = ", ".join(f"{c.type}={c.status} {c.reason}" for c in status.conditions or ())
    assert conditions == row.conditions
    assert (status.phase, status.reason, status.observed_generation) == (row.phase, row.reason, 1)


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
def test_what_kstatus_makes_of_it(row: Row) -> None:
    assert kstatus(a_longtask_body(status=status_of(row))) == row.kstatus
    assert kstatus(a_longtask_body(status=status_of(row), generation=2)) == "InProgress"


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
def test_what_is_terminal_is_finished_and_only_that(row: Row) -> None:
    finished = next(c for c in status_of(row).conditions or () if c.type == "Finished")
    assert (finished.status == "True") == (row.phase in TERMINAL)


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
def test_all_but_stalled_are_there_from_the_first_visit(row: Row) -> None:
    types = {c.type for c in status_of(row).conditions or ()}
    assert types | {"Stalled", "DeadLettered", "Stuck", "DeadlineAtRisk"} == set(ConditionType)
    assert all(c.message for c in status_of(row).conditions or ())


def test_an_unseen_task_is_in_progress() -> None:
    assert kstatus(a_longtask_body()) == "InProgress"


def test_the_time_of_a_condition_stays_from_one_situation_to_the_next() -> None:
    queued = with_situation(NOTHING, ROWS["queued"].situation, generation=1, now=at(0))
    backoff = with_situation(queued, ROWS["backoff"].situation, generation=2, now=at(60))
    running = with_situation(backoff, ROWS["running"].situation, generation=2, now=at(90))
    assert [c.last_transition_time for c in backoff.conditions or ()] == [wire(0)] * 4
    times = {c.type: c.last_transition_time for c in running.conditions or ()}
    assert times == {"Admitted": wire(90), "Succeeded": wire(0), "Finished": wire(0), "Ready": wire(0)}


def test_a_condition_that_is_only_there_when_true_goes() -> None:
    inadmissible = with_situation(NOTHING, ROWS["inadmissible now"].situation, generation=1, now=at(0))
    queued = with_situation(inadmissible, ROWS["queued"].situation, generation=2, now=at(1))
    assert "Stalled" not in {c.type for c in queued.conditions or ()}
