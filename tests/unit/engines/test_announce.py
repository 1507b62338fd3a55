from __future__ import annotations

from datetime import datetime
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from longtask_operator.adapters.events import EventPoster
from longtask_operator.adapters.metrics import Metrics
from longtask_operator.adapters.tasks import observe_task
from longtask_operator.api.status import LongTaskStatus
from longtask_operator.core.observe import JobView
from longtask_operator.engines.announce import Announcer
from tests.builders import a_job, a_longtask_body, at, wire


class Said:
    """Notes the Events."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def post(self, task: Any, reason: str, message: str, *, warning: bool = False) -> None:
        self.events.append(f"{'Warning' if warning else 'Normal'} {reason}: {message}")


def status(phase: str, *attempts: dict[str, Any], message: str = "m", **fields: Any) -> LongTaskStatus:
    numbered = [{"number": n, "run": 1, "generation": 1, **a} for n, a in enumerate(attempts, start=1)]
    condition = {"type": "Succeeded", "status": "Unknown", "reason": "r", "message": message}
    return LongTaskStatus.model_validate(
        {
            "run": 1,
            "tenant": "red",
            "phase": phase,
            "attempt": len(attempts),
            "attempts": numbered,
            "conditions": [{**condition, "lastTransitionTime": wire(0)}],
            **fields,
        }
    )


def announce(
    before: LongTaskStatus, after: LongTaskStatus, job: JobView | None = None, admitted: datetime | None = None
) -> tuple[list[str], list[Any], Metrics]:
    said, metrics = Said(), Metrics(version="test", max_tenants=10)
    with capture_logs() as logs:
        Announcer(metrics, cast(EventPoster, said)).changed(
            observe_task(a_longtask_body()),
            before,
            after,
            job=job or a_job(),
            peak_memory=7,
            admitted=lambda attempt: admitted,
        )
    return said.events, logs, metrics


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


SMALL = {"startTime": wire(3), "cpu": "250m", "memory": "512Mi"}
STARTED = {"startTime": wire(3), "nodeName": "n"}
DONE = {"startTime": wire(3), "completionTime": wire(9), "cause": "Completed", "exitCode": 0}
FAILED = {"startTime": wire(3), "completionTime": wire(9), "cause": "Application", "exitCode": 1, "message": "boom"}
STOPPED = {"startTime": wire(3), "completionTime": wire(9), "cause": "Suspended"}


@pytest.mark.parametrize(
    ("before", "after", "events"),
    [
        pytest.param(LongTaskStatus(), status("Succeeded", DONE), [], id="plain-success"),
        pytest.param(
            status("Running", FAILED, STARTED),
            status("Succeeded", FAILED, DONE, message="attempt 2 completed"),
            ["Normal Completed: attempt 2 completed"],
            id="success-after-a-failure",
        ),
        pytest.param(
            status("Running", STARTED),
            status("Backoff", FAILED),
            ["Warning AttemptFailed: attempt 1 ended by Application: boom"],
            id="failure",
        ),
        pytest.param(
            status("Running", STARTED),
            status("Backoff", {**FAILED, "cause": "Preempted", "message": "drained"}),
            ["Normal Preempted: attempt 1 ended by Preempted: drained"],
            id="preempted",
        ),
        pytest.param(
            status("Running", STARTED),
            status("Failed", {**FAILED, "message": None}, message="all is lost"),
            [
                "Warning AttemptFailed: attempt 1 ended by Application",
                "Warning Failed: all is lost",
            ],
            id="last-failure",
        ),
        pytest.param(
            status("Running", STARTED),
            status("Suspended", STOPPED),
            ["Normal Suspended: spec.suspend is true; the task holds no quota"],
            id="suspended",
        ),
        pytest.param(
            status("Suspended"), status("Queued"), ["Normal Resumed: spec.suspend is no longer true"], id="resumed"
        ),
        pytest.param(status("Queued"), status("Cancelled"), ["Normal Cancelled: m"], id="cancelled"),
        pytest.param(status("Running", STARTED), status("Running", STARTED), [], id="nothing-new"),
        pytest.param(
            status("Running", SMALL),
            status("Running", {**SMALL, "memory": "1Gi", "resizeTime": wire(5)}),
            ["Normal Resized: attempt 1 was resized from 250m/512Mi to 250m/1Gi"],
            id="resized",
        ),
        pytest.param(
            status("Running", SMALL),
            status("Running", {**SMALL, "resizeRefused": "Deferred: full"}),
            ["Warning ResizeRefused: attempt 1: Deferred: full"],
            id="not-resized",
        ),
    ],
)
def test_what_people_hear(before: LongTaskStatus, after: LongTaskStatus, events: list[str]) -> None:
    assert announce(before, after)[0] == events


def test_one_closing_line_per_attempt_says_it_all() -> None:
    _, logs, _ = announce(status("Running", STARTED), status("Backoff", FAILED))
    assert [line for line in logs if line["event"] == "attempt ended"] == [
        {
            "event": "attempt ended",
            "log_level": "info",
            "namespace": "team-a",
            "name": "wordcount",
            "uid": observe_task(a_longtask_body()).uid,
            "attempt": 1,
            "cause": "Application",
            "exit_code": 1,
            "duration_seconds": 6.0,
            "peak_memory_bytes": 7,
            "message": "boom",
        }
    ]


def test_an_attempt_is_counted_once_where_it_ends() -> None:
    _, _, metrics = announce(status("Running", STARTED), status("Backoff", FAILED))
    labels = {"tenant": "red", "type": "none", "cause": "Application"}
    assert sample(metrics, "longtask_attempts_total", **labels) == 1
    assert sample(metrics, "longtask_retries_total", tenant="red", cause="Application") == 1


def test_a_run_is_counted_with_its_time() -> None:
    after = status("Succeeded", DONE, startTime=wire(3), completionTime=wire(10))
    _, _, metrics = announce(LongTaskStatus(), after)
    assert sample(metrics, "longtask_finished_total", tenant="red", type="none", outcome="Succeeded") == 1
    assert sample(metrics, "longtask_run_seconds_sum", outcome="Succeeded") == 7
    assert sample(metrics, "longtask_submitted_total", tenant="red", type="none") == 1
    assert sample(metrics, "longtask_start_seconds_sum") == 3
    assert sample(metrics, "longtask_retries_total", tenant="red", cause="Completed") is None


@pytest.mark.parametrize(
    ("job", "admitted", "seconds"),
    [
        pytest.param(a_job(created=at(2)), at(1.2), 2, id="from-the-admission"),
        pytest.param(a_job(created=at(2)), None, 1, id="another-leader-admitted-it"),
        pytest.param(a_job(queue="gpu", created=at(1), started=at(2)), at(0), 1, id="kueue-admitted-it"),
        pytest.param(a_job(attempt=2), at(0), None, id="the-job-of-another-attempt"),
    ],
)
def test_the_time_to_start_runs_from_the_admission(
    job: JobView, admitted: datetime | None, seconds: float | None
) -> None:
    _, _, metrics = announce(status("Starting", {}), status("Running", STARTED), job, admitted)
    assert sample(metrics, "longtask_start_seconds_sum") == (seconds or 0)
    assert sample(metrics, "longtask_start_seconds_count") == (seconds is not None)


@pytest.mark.parametrize(("queue", "since"), [("", at(1.2)), ("gpu", None)])
def test_whoever_asks_hears_since_when_an_attempt_held_quota(queue: str, since: datetime | None) -> None:
    """Of one that Kueue admitted nobody knows that here."""
    heard: list[Any] = []
    announcer = Announcer(Metrics(version="test", max_tenants=10), cast(EventPoster, Said()))
    announcer.on_attempt_end = lambda tenant, attempt, since: heard.append((tenant, attempt.number, since))
    before, after = status("Running", STARTED), status("Succeeded", DONE)
    job = a_job(queue=queue)
    announcer.changed(
        observe_task(a_longtask_body()), before, after, job=job, peak_memory=None, admitted=lambda attempt: at(1.2)
    )
    assert heard == [("red", 1, since)]


def test_growths_are_counted_by_what_came_of_them() -> None:
    _, _, metrics = announce(
        status("Running", SMALL), status("Running", {**SMALL, "memory": "1Gi", "resizeTime": wire(5)})
    )
    assert sample(metrics, "longtask_resizes_total", kind="Live", outcome="Resized") == 1
    _, _, metrics = announce(status("Running", SMALL), status("Running", {**SMALL, "resizeRefused": "Infeasible: no"}))
    assert sample(metrics, "longtask_resizes_total", kind="Live", outcome="Infeasible") == 1
    killed = {**SMALL, "completionTime": wire(9), "cause": "OutOfMemory"}
    _, _, metrics = announce(status("Running", SMALL), status("Backoff", killed))
    assert sample(metrics, "longtask_resizes_total", kind="NextAttempt", outcome="Resized") == 1
