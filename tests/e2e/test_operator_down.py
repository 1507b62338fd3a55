"""What must be right without an operator running, and when it comes back: nothing runs on, nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from longtask_operator.api.times import parse_time
from tests.e2e.stage import UNTIL_LEADING, Detached, Stage, held, says, stoppable
from tests.support.auditor import Expected
from tests.support.live import Json, await_

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
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
    tasks.create("done", held(says({"kept": True})))
    tasks.create("cancelled", stoppable())
    again = f"test $LONGTASK_ATTEMPT -ge 2 || {{ {stoppable()}; }}; " + says({"again": True})
    tasks.create("disrupted", again, retry={"limits": {"application": 0}})
    for name in ("deleted", "stubborn", "done", "cancelled", "disrupted"):
        tasks.until_phase(name, "Running")
    operator.kill9()
    seen: dict[str, Any] = {"stage": stage, "late": tasks.create("late", says({"late": True}))}
    for name in ("deleted", "stubborn"):
        tasks.delete(name)
    tasks.change("cancelled", cancel=True)
    delete_pod(stage, "disrupted")
    stage.let_end("done")
    for name in ("deleted", "stubborn"):
        await_(f"the end of the {name} task's container", lambda name=name: ends(tasks.pods(name)), 60)
    seen["seconds"] = [seconds_to_end(tasks.pods(name)) for name in ("deleted", "stubborn")]
    await_("success of the pod", lambda: phases(tasks.pods("done")) == ["Succeeded"], 60)
    await_("the last word of the kubelet on the disrupted pod", lambda: let_go(tasks.pods("disrupted")), 60)
    delete_pod(stage, "done")
    await_("the deletion asked for", lambda: "deletionTimestamp" in tasks.pods("done")[0]["metadata"], 20)
    seen["statuses before"] = {name: tasks.status(name).get("phase") for name in ("done", "cancelled")}
    detached.start("second").until_leading(UNTIL_LEADING)
    return seen


def delete_pod(stage: Stage, task: str) -> None:
    (pod,) = stage.tasks.pods(task)
    stage.client.request("DELETE", f"/api/v1/namespaces/{stage.namespace}/pods/{pod['metadata']['name']}")


def let_go(pods: list[Json]) -> bool:
    """Tell whether the kubelet has ended the pod and deleted it once more, without grace."""
    return [pod["metadata"].get("deletionGracePeriodSeconds") for pod in pods] == [0] and phases(pods) == ["Failed"]


def ends(pods: list[Json]) -> list[Json]:
    """Return how containers ended; a pod is kept by our finalizer until somebody has looked at that."""
    states = [c.get("state") or {} for pod in pods for c in (pod["status"].get("containerStatuses") or [])]
    return [state["terminated"] for state in states if "terminated" in state]


def seconds_to_end(pods: list[Json]) -> float:
    """Return the seconds from the request to delete the one pod to the end of its container."""
    (pod,), (end,) = pods, ends(pods)
    # When the kubelet deletes it once more, without grace, its time of deletion becomes that of the request.
    asked = parse_time(pod["metadata"]["deletionTimestamp"]).timestamp() - pod["metadata"]["deletionGracePeriodSeconds"]
    return parse_time(end["finishedAt"]).timestamp() - asked


def phases(pods: list[Json]) -> list[str]:
    return [pod["status"]["phase"] for pod in pods]


def test_the_container_of_a_deleted_task_ends_within_its_grace(down: dict[str, Any]) -> None:
    # The kubelet and the runtime take some seconds of their own.
    assert max(down["seconds"]) < GRACE + 10


def test_the_operator_comes_back_and_nothing_of_the_deleted_tasks_is_left(down: dict[str, Any]) -> None:
    down["stage"].tasks.until_gone("deleted", 60)
    down["stage"].tasks.until_gone("stubborn", 60)


def test_a_pod_deleted_after_its_success_loses_no_result(down: dict[str, Any]) -> None:
    assert down["statuses before"]["done"] == "Running"
    status = down["stage"].tasks.until_finished("done", 60)
    assert (status["phase"], status["result"]["value"]) == ("Succeeded", {"kept": True})
    assert [attempt["cause"] for attempt in status["attempts"]] == ["Completed"]


def test_a_pod_deleted_by_others_is_no_failure_of_its_program(down: dict[str, Any]) -> None:
    status = down["stage"].tasks.until_finished("disrupted", 60)
    assert [attempt["cause"] for attempt in status["attempts"]] == ["Disruption", "Completed"]


def test_what_was_asked_for_meanwhile_is_done(down: dict[str, Any]) -> None:
    assert down["statuses before"]["cancelled"] == "Running"
    assert down["stage"].tasks.until_finished("cancelled", 60)["phase"] == "Cancelled"
    assert down["stage"].tasks.until_finished("late", 60)["result"]["value"] == {"late": True}


def test_the_auditor_agrees(down: dict[str, Any]) -> None:
    wanted = {
        "done": Expected(phase="Succeeded", causes=("Completed",), result={"kept": True}),
        "cancelled": Expected(phase="Cancelled", causes=("Cancelled",)),
        "late": Expected(phase="Succeeded", causes=("Completed",)),
    }
    assert down["stage"].audit(wanted) == []
