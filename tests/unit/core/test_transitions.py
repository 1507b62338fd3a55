from __future__ import annotations

from typing import Any

import pytest

from longtask_operator.api.phases import Phase
from longtask_operator.api.status import LongTaskStatus
from longtask_operator.core.transitions import (
    AttemptEnded,
    AttemptStarted,
    FirstSeen,
    PhaseChanged,
    RunFinished,
    transitions,
)
from tests.builders import wire


def status(phase: str | None = None, *attempts: dict[str, Any], run: int | None = 1) -> LongTaskStatus:
    numbered = [{"number": n, "run": 1, "generation": 1, **a} for n, a in enumerate(attempts, start=1)]
    return LongTaskStatus.model_validate({"phase": phase, "run": run, "attempts": numbered or None})


NEW = LongTaskStatus()
STARTED = {"startTime": wire(1)}
FAILED = {"startTime": wire(1), "completionTime": wire(5), "cause": "Application"}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (NEW, status(), "FirstSeen"),
        (NEW, status("Queued"), "FirstSeen PhaseChanged"),
        (status("Queued"), status("Queued"), ""),
        (status("Queued"), status("Starting", {}), "PhaseChanged"),
        (status("Starting", {}), status("Running", STARTED), "AttemptStarted PhaseChanged"),
        (status("Running", STARTED), status("Running", STARTED), ""),
        (status("Running", STARTED), status("Backoff", FAILED), "AttemptEnded PhaseChanged"),
        (status("Running", STARTED), status("Failed", FAILED), "AttemptEnded RunFinished"),
        (status("Queued"), status("Failed", FAILED), "AttemptStarted AttemptEnded RunFinished"),
        (status("Backoff", FAILED), status("Running", FAILED, STARTED), "AttemptStarted PhaseChanged"),
        (status("Backoff", FAILED), status("Cancelled", FAILED), "RunFinished"),
        (status("Failed", FAILED), status("Queued", FAILED, run=2), "PhaseChanged"),
        (status("Queued"), status("Failed", {"completionTime": wire(5)}), "AttemptEnded RunFinished"),
    ],
)
def test_what_changed_in_its_order(before: LongTaskStatus, after: LongTaskStatus, expected: str) -> None:
    assert " ".join(type(step).__name__ for step in transitions(before, after)) == expected


def test_each_step_says_what_it_is_about() -> None:
    before, after = NEW, status("Backoff", FAILED)
    (attempt,) = after.attempts or []
    assert transitions(before, after) == [
        FirstSeen(),
        AttemptStarted(attempt=attempt),
        AttemptEnded(attempt=attempt, retried=True),
        PhaseChanged(phase=Phase.BACKOFF, before=""),
    ]


def test_the_last_attempt_of_a_run_is_not_retried() -> None:
    *_, ended, finished = transitions(status("Running", STARTED), status("Failed", FAILED))
    assert isinstance(ended, AttemptEnded)
    assert not ended.retried
    assert finished == RunFinished(phase=Phase.FAILED)
