"""Sizes on a real node, with real kills by the kernel: memory that ran out is followed by a larger attempt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from longtask_operator.api.quantity import MEBIBYTE, parse_memory
from tests.e2e.stage import Stage
from tests.support.live import condition

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
NewStage = Callable[..., Stage]
EXAMPLES = "longtask/examples:0.1.0"
QUICK = {"backoff": {"initialSeconds": 1, "factor": 1}}


def needs(mebibytes: int) -> str:
    """Return a script that fills so much memory and then succeeds."""
    return f"exec python3 -c 'kept = b\"x\" * ({mebibytes} << 20); print(len(kept))'"


def sizes(status: Any) -> list[tuple[str, str, str]]:
    return [(attempt["cpu"], attempt["memory"], attempt["cause"]) for attempt in status["attempts"]]


def test_memory_that_ran_out_grows_until_it_is_enough(new_stage: NewStage) -> None:
    stage = new_stage("grows")
    stage.tasks.create("climbs", needs(1400), retry=QUICK)
    status = stage.tasks.until_finished("climbs", 120)
    assert status["phase"] == "Succeeded", status
    assert sizes(status) == [
        ("250m", "512Mi", "OutOfMemory"), ("250m", "1Gi", "OutOfMemory"), ("250m", "2Gi", "Completed")
    ]  # fmt: skip
    assert status["sizing"]["source"] == "OutOfMemory"
    assert status["sizing"]["message"] == "1Gi ran out of memory in attempt 2"
    assert status["attemptCounts"] == {"outOfMemory": 2, "completed": 1}
    waits = [entry for entry in stage.statuses("climbs") if entry.get("phase") == "Backoff"]
    # More than one status may tell of one wait.
    assert list(dict.fromkeys(entry["sizing"]["display"] for entry in waits)) == ["250m/1Gi", "250m/2Gi"]
    assert stage.audit() == []


def test_a_disruption_keeps_the_size(new_stage: NewStage) -> None:
    stage = new_stage("keeps")
    once = "test $LONGTASK_ATTEMPT -eq 1 && " + needs(700) + "; trap 'exit 143' TERM; "
    stage.tasks.create("kept", once + "test $LONGTASK_ATTEMPT -gt 2 || { sleep 300 & wait $!; }", retry=QUICK)
    stage.tasks.until("kept", "attempt 2 running", lambda s: s.get("attempt") == 2 and s.get("phase") == "Running")
    (pod,) = [pod for pod in stage.tasks.pods("kept") if pod["metadata"]["labels"]["longtask.dev/attempt"] == "2"]
    stage.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")
    status = stage.tasks.until_finished("kept")
    assert sizes(status) == [
        ("250m", "512Mi", "OutOfMemory"), ("250m", "1Gi", "Disruption"), ("250m", "1Gi", "Completed")
    ]  # fmt: skip
    assert stage.audit() == []


def test_a_size_that_cannot_grow_fails_the_task_and_a_redrive_with_a_raised_ceiling_grows(new_stage: NewStage) -> None:
    stage = new_stage("ceiling")
    stage.tasks.create("capped", needs(700), retry=QUICK, resources={"maxMemory": "512Mi"})
    stage.tasks.create("never", needs(700), retry=QUICK, resources={"growth": "Never"})
    for name, why in (("capped", "spec.resources.maxMemory is 512Mi"), ("never", "spec.resources.growth is Never")):
        status = stage.tasks.until_finished(name)
        assert (status["phase"], status["reason"], status["attempt"]) == ("Failed", "OutOfMemory", 1)
        assert status["deadLettered"] is True
        assert condition(status, "Succeeded")["message"].endswith(why)
    stage.tasks.change("capped", redrive="1", resources={"maxMemory": "1Gi"})
    status = stage.tasks.until("capped", "the second run's end", lambda s: s.get("phase") == "Succeeded")
    assert sizes(status)[1:] == [("250m", "1Gi", "Completed")]
    assert stage.audit() == []


def test_a_size_above_the_largest_of_the_tenant_waits_and_says_so(new_stage: NewStage) -> None:
    stage = new_stage("tenant")
    stage.set_quota(maxSize={"memory": "512Mi"})
    stage.tasks.create("large", needs(700), retry=QUICK)
    reason = lambda s: (s.get("queue") or {}).get("reason") == "ExceedsMaxSize"  # noqa: E731
    status = stage.tasks.until("large", "ExceedsMaxSize", reason)
    assert "250m/1Gi has more memory than maxSize" in status["queue"]["message"]
    stage.set_quota(maxSize=None)
    status = stage.tasks.until_finished("large")
    assert (status["phase"], status["attempt"]) == ("Succeeded", 2)


def test_a_task_begins_with_what_its_kind_needed_before(new_stage: NewStage) -> None:
    stage = new_stage("past")
    resources = {"growth": "NextAttempt"}
    spec = {"image": EXAMPLES, "command": ["python", "-m", "keepall"], "retry": QUICK, "resources": resources}
    stage.tasks.create("first", **spec, payload={"megabytes": 700, "seconds": 12})
    status = stage.tasks.until_finished("first", 120)
    assert sizes(status) == [("250m", "512Mi", "OutOfMemory"), ("250m", "1Gi", "Completed")]
    peak = parse_memory(status["attempts"][1]["peakMemory"])
    assert 600 * MEBIBYTE < peak < 800 * MEBIBYTE
    stage.tasks.create("second", **spec, payload={"megabytes": 700, "seconds": 0})
    status = stage.tasks.until_finished("second", 120)
    assert sizes(status) == [("250m", "1Gi", "Completed")]
    assert status["sizing"]["source"] == "History"
    assert "512Mi ran out of memory for this kind last" in status["sizing"]["message"]
    assert stage.audit() == []


def test_a_task_begins_with_what_its_inputs_need(new_stage: NewStage) -> None:
    stage = new_stage("inputs")
    task = {"image": EXAMPLES, "command": ["sh", "-c", "true"], "retry": QUICK}
    inputs = [{"name": "orders", "uri": "file:///data/orders.csv", "sizeBytes": 500 * MEBIBYTE}]
    stage.tasks.create("stated", **task, inputs=inputs)
    stage.tasks.create("unknown", **task, inputs=[*inputs, {"name": "prices", "uri": "file:///data/prices.csv"}])
    status = stage.tasks.until_finished("stated")
    assert sizes(status) == [("250m", "1Gi", "Completed")]
    assert (status["sizing"]["source"], status["sizing"]["message"]) == (
        "InputHint",
        "one input of 500Mi; the rule for longtask/examples gives 256Mi and 150 % of that",
    )
    status = stage.tasks.until_finished("unknown")
    assert sizes(status) == [("250m", "512Mi", "Completed")]
    assert "the size of input prices is not known: its sizeBytes is not given" in status["sizing"]["message"]
    assert stage.audit() == []
