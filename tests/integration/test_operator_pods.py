"""What the operator makes of each way a pod can end, on the real API server; the test plays the kubelet.

What real kubelets make of evictions, drains, refusals and lost nodes is in tests/e2e.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import crds, operator_process
from tests.support.live import MERGE, Client, Json, Tasks, await_
from tests.support.operator_process import PATIENT_LEASE

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]
HOME, WORK = "pods-operator", "pods-work"


def terminated(exit_code: int, reason: str = "Error", message: str = "") -> list[Json]:
    times = {"startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:05Z"}
    state = {"terminated": {"exitCode": exit_code, "reason": reason, "message": message, **times}}
    return [{"name": "task", "image": "i", "imageID": "i", "ready": False, "restartCount": 0, "state": state}]


def disrupted(reason: str) -> list[Json]:
    return [{"type": "DisruptionTarget", "status": "True", "reason": reason}]


RESULT = '{"longtask":1,"result":{"n":1}}'
#: Name -> status of the pod, and the cause that must follow.
ENDS: dict[str, tuple[Json, str]] = {
    "evicted-by-the-kubelet": (
        {
            "phase": "Failed",
            "reason": "Evicted",
            "message": "The node was low on resource: memory. ",
            "conditions": disrupted("TerminationByKubelet"),
            "containerStatuses": terminated(143, message='{"longtask":1,"message":"terminated (SIGTERM)"}'),
        },
        "Disruption",
    ),
    "forgotten-by-the-kubelet": (
        {
            "phase": "Failed",
            "reason": "Evicted",
            "message": "The node was low on resource: memory. ",
            "conditions": disrupted("TerminationByKubelet"),
            "containerStatuses": terminated(137, "ContainerStatusUnknown"),
        },
        "Disruption",
    ),
    "drained": (
        {"phase": "Failed", "containerStatuses": terminated(143), "conditions": disrupted("EvictionByEvictionAPI")},
        "Disruption",
    ),
    "preempted-by-the-scheduler": (
        {"phase": "Failed", "containerStatuses": terminated(137), "conditions": disrupted("PreemptionByScheduler")},
        "Disruption",
    ),
    "out-of-memory": ({"phase": "Failed", "containerStatuses": terminated(137, "OOMKilled")}, "OutOfMemory"),
    "killed-but-not-for-memory": ({"phase": "Failed", "containerStatuses": terminated(137)}, "Application"),
    "out-of-memory-in-a-child": (
        {"phase": "Succeeded", "containerStatuses": terminated(0, "OOMKilled", RESULT)},
        "Completed",
    ),
    "never-started": (
        {"phase": "Failed", "containerStatuses": terminated(128, "StartError", "no such file")},
        "NeverStarted",
    ),
    "too-slow": ({"phase": "Failed", "reason": "DeadlineExceeded"}, "AttemptTimeout"),
    "result-of-a-failure": ({"phase": "Failed", "containerStatuses": terminated(1, "Error", RESULT)}, "Application"),
    "not-an-outcome": (
        {"phase": "Succeeded", "containerStatuses": terminated(0, "Completed", "plain text")},
        "Completed",
    ),
}
SPEC: Json = {"retry": {"limits": {"application": 0, "neverStarted": 0}, "backoff": {"initialSeconds": 600}}}


@pytest.fixture(scope="module")
def ended(control_plane: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Json]]:
    """Start a task for each end, give its pod that end, and return the attempts as recorded."""
    crds.install(control_plane)
    for name in (HOME, WORK):
        control_plane.kubectl("create", "namespace", name)
    directory = tmp_path_factory.mktemp("operator")
    settings = {"LONGTASK_OPERATOR_NAMESPACE": HOME, **PATIENT_LEASE}
    operator = operator_process.start(control_plane.kubeconfig, settings, directory=directory)
    client = Client(control_plane.kubeconfig)
    tasks = Tasks(client, WORK)
    try:
        operator.until_leading(120)
        for name in ENDS:
            tasks.create(name, "true", **SPEC)
        for name, (status, _) in ENDS.items():
            path = f"/api/v1/namespaces/{WORK}/pods/{pod_of(tasks, name)}/status"
            client.request("PATCH", path, {"status": status}, form=MERGE)
        yield {name: tasks.until(name, "an end", has_ended) for name in ENDS}
    finally:
        operator.end()
        control_plane.kubectl("delete", "longtasks", "--all", "-n", WORK, "--wait=false", check=False)
        for name in (HOME, WORK):
            control_plane.kubectl("delete", "namespace", name, "--wait=false")


def pod_of(tasks: Tasks, name: str) -> str:
    await_(f"a pod of {name}", lambda: tasks.pods(name), 90)
    return str(tasks.pods(name)[0]["metadata"]["name"])


def has_ended(status: Json) -> bool:
    return bool(status.get("attempts") and status["attempts"][0].get("completionTime"))


@pytest.mark.parametrize("name", ENDS)
def test_the_cause_is_told_from_what_the_pod_says(ended: dict[str, Json], name: str) -> None:
    (attempt,) = ended[name]["attempts"]
    assert attempt["cause"] == ENDS[name][1]


def test_a_disruption_is_followed_by_another_attempt_whatever_the_application_budget(ended: dict[str, Json]) -> None:
    assert {name: ended[name]["phase"] for name in ("evicted-by-the-kubelet", "drained")} == {
        "evicted-by-the-kubelet": "Backoff",
        "drained": "Backoff",
    }


def test_the_result_of_a_child_killed_for_memory_is_kept(ended: dict[str, Json]) -> None:
    assert ended["out-of-memory-in-a-child"]["result"]["value"] == {"n": 1}


def test_a_failure_has_no_result(ended: dict[str, Json]) -> None:
    assert "result" not in ended["result-of-a-failure"]
    assert ended["result-of-a-failure"]["phase"] == "Failed"


def test_text_that_is_no_outcome_is_no_result(ended: dict[str, Json]) -> None:
    assert ended["not-an-outcome"]["phase"] == "Succeeded"
    assert "value" not in (ended["not-an-outcome"].get("result") or {})
