"""What must be right without an operator running, and when it comes back: nothing runs on, nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.stage import Detached, Stage, says, stoppable
from tests.support.auditor import Expected
from tests.support.live import Json, await_

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
GRACE = 5


@pytest.fixture(scope="module")
def down(detached: Detached, new_stage: Callable[..., Stage]) -> dict[str, Any]:
    """Start tasks with an operator, kill it, disturb them all, note what follows, and start another operator."""
    stage = new_stage("down")
    operator = detached.leading("first")
    tasks = stage.tasks
    tasks.create("deleted", stoppable())
    # Ignores SIGTERM: only the end of the grace period ends it.
    tasks.create("stubborn", "trap '' TERM; while true; do sleep 0.2; done")
    tasks.create("done", "sleep 6; " + says({"kept": True}))
    tasks.create("cancelled", stoppable())
    again = f"test $LONGTASK_ATTEMPT -ge 2 || {{ {stoppable()}; }}; " + says({"again": True})
    tasks.create("disrupted", again, retry={"limits": {"application": 0}})
    for name in ("deleted", "stubborn", "done", "cancelled", "disrupted"):
        tasks.until_phase(name, "Running")
    operator.kill9()
    seen: dict[str, Any] = {"stage": stage, "late": tasks.create("late", says({"late": True}))}
    deleted_at = time.monotonic()
    for name in ("deleted", "stubborn"):
        tasks.delete(name)
    tasks.change("cancelled", cancel=True)
    delete_pod(stage, "disrupted")
    await_("the deleted task's container ended", lambda: ended(tasks.pods("deleted")), GRACE + 25)
    await_("the stubborn task's container ended", lambda: ended(tasks.pods("stubborn")), GRACE + 25)
    seen["ended after"] = time.monotonic() - deleted_at
    await_("success of the pod", lambda: phases(tasks.pods("done")) == ["Succeeded"], 30)
    await_("the last word of the kubelet on the disrupted pod", lambda: let_go(tasks.pods("disrupted")), 30)
    delete_pod(stage, "done")
    await_("the deletion asked for", lambda: "deletionTimestamp" in tasks.pods("done")[0]["metadata"], 20)
    seen["statuses before"] = {name: tasks.status(name).get("phase") for name in ("done", "cancelled")}
    detached.start("second").until_leading()
    return seen


def delete_pod(stage: Stage, task: str) -> None:
    (pod,) = stage.tasks.pods(task)
    stage.client.request("DELETE", f"/api/v1/namespaces/{stage.namespace}/pods/{pod['metadata']['name']}")


def let_go(pods: list[Json]) -> bool:
    """Tell whether the kubelet has ended the pod and deleted it once more, without grace."""
    return [pod["metadata"].get("deletionGracePeriodSeconds") for pod in pods] == [0] and phases(pods) == ["Failed"]


def ended(pods: list[Json]) -> bool:
    """Tell whether no container runs: the pod is gone or its container says how it ended."""
    states = [c.get("state") or {} for pod in pods for c in (pod["status"].get("containerStatuses") or [])]
    return all("terminated" in state for state in states)


def phases(pods: list[Json]) -> list[str]:
    return [pod["status"]["phase"] for pod in pods]


def test_the_container_of_a_deleted_task_ends_within_its_grace(down: dict[str, Any]) -> None:
    # Garbage collection, the kubelet and the runtime take some seconds of their own.
    assert down["ended after"] < GRACE + 10


def test_the_operator_comes_back_and_nothing_of_the_deleted_tasks_is_left(down: dict[str, Any]) -> None:
    down["stage"].tasks.until_gone("deleted", 30)
    down["stage"].tasks.until_gone("stubborn", 30)


def test_a_pod_deleted_after_its_success_loses_no_result(down: dict[str, Any]) -> None:
    assert down["statuses before"]["done"] == "Running"
    status = down["stage"].tasks.until_finished("done", 30)
    assert (status["phase"], status["result"]["value"]) == ("Succeeded", {"kept": True})
    assert [attempt["cause"] for attempt in status["attempts"]] == ["Completed"]


def test_a_pod_deleted_by_others_is_no_failure_of_its_program(down: dict[str, Any]) -> None:
    status = down["stage"].tasks.until_finished("disrupted", 60)
    assert [attempt["cause"] for attempt in status["attempts"]] == ["Disruption", "Completed"]


def test_what_was_asked_for_meanwhile_is_done(down: dict[str, Any]) -> None:
    assert down["statuses before"]["cancelled"] == "Running"
    assert down["stage"].tasks.until_finished("cancelled", 30)["phase"] == "Cancelled"
    assert down["stage"].tasks.until_finished("late", 30)["result"]["value"] == {"late": True}


def test_the_auditor_agrees(down: dict[str, Any]) -> None:
    wanted = {
        "done": Expected(phase="Succeeded", causes=("Completed",), result={"kept": True}),
        "cancelled": Expected(phase="Cancelled", causes=("Cancelled",)),
        "late": Expected(phase="Succeeded", causes=("Completed",)),
    }
    assert down["stage"].audit(wanted) == []
