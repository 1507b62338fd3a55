from __future__ import annotations

from typing import Any

import pytest

from longtask_operator.api.status import Attempt, LongTaskStatus, TaskUsage
from longtask_operator.core.usage import with_usage
from tests.builders import wire


def an_attempt(**changes: Any) -> Attempt:
    known: dict[str, Any] = {"number": 1, "run": 1, "generation": 1, "cpu": "500m", "memory": "2Gi"}
    return Attempt(**known | {"start_time": wire(10), "completion_time": wire(70)} | changes)


def test_an_attempt_is_charged_its_size_for_the_time_it_ran() -> None:
    status = with_usage(LongTaskStatus(), an_attempt(), 12.2)
    assert status.usage == TaskUsage(cpu_seconds=30, memory_gib_seconds=120, cpu_seconds_used=13)


def test_attempts_add_up_each_rounded_up() -> None:
    status = with_usage(LongTaskStatus(), an_attempt(cpu="250m", memory="512Mi", completion_time=wire(11)), 0.1)
    assert status.usage == TaskUsage(cpu_seconds=1, memory_gib_seconds=1, cpu_seconds_used=1)
    status = with_usage(status, an_attempt(number=2), 2.0)
    assert status.usage == TaskUsage(cpu_seconds=31, memory_gib_seconds=121, cpu_seconds_used=3)


def test_what_no_worker_reported_is_not_made_up() -> None:
    status = with_usage(LongTaskStatus(), an_attempt(), None)
    assert status.usage is not None
    assert status.usage.cpu_seconds_used is None
    reported = with_usage(with_usage(LongTaskStatus(), an_attempt(), 5.0), an_attempt(number=2), None)
    assert reported.usage is not None
    assert reported.usage.cpu_seconds_used == 5


@pytest.mark.parametrize("missing", ["start_time", "completion_time", "cpu", "memory"])
def test_an_attempt_that_never_ran_uses_nothing(missing: str) -> None:
    assert with_usage(LongTaskStatus(), an_attempt(**{missing: None}), None).usage is None


def test_a_clock_that_went_back_charges_nothing() -> None:
    status = with_usage(LongTaskStatus(), an_attempt(completion_time=wire(5)), None)
    assert status.usage == TaskUsage(cpu_seconds=0, memory_gib_seconds=0)
