"""Takes the room of the node away for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from longtask_operator.api.quantity import MEBIBYTE, parse_memory
from tests.e2e.stage import Stage
from tests.support.live import await_


def alive(stage: Stage) -> list[str]:
    """Return the pods of all tasks that are not over."""
    pods = stage.client.items("/api/v1/pods", labelSelector="longtask.dev/task")
    return [pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] not in ("Succeeded", "Failed")]


@contextmanager
def full_node(stage: Stage, spare: int) -> Iterator[None]:
    """Let a pod ask for all memory of the node but *spare* MiB, once no attempt lives whose end would make room."""
    await_("no attempt alive", lambda: not alive(stage), 90)
    (node,) = stage.client.items("/api/v1/nodes")
    pods = stage.client.items("/api/v1/pods", fieldSelector="status.phase=Running")
    requests = [
        ((container.get("resources") or {}).get("requests") or {}).get("memory") or 0
        for pod in pods
        for container in [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]
    ]
    free = parse_memory(node["status"]["allocatable"]["memory"]) - sum(parse_memory(one) for one in requests)
    container = {
        "name": "fill",
        "image": "longtask/worker:0.1.0",
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "300"],
        "resources": {"requests": {"memory": f"{free // MEBIBYTE - spare}Mi"}},
    }
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container]}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "fill"}, "spec": spec}
    path = f"/api/v1/namespaces/{stage.namespace}/pods"
    stage.client.request("POST", path, body)
    try:
        await_("a full node", lambda: stage.client.request("GET", f"{path}/fill")["status"]["phase"] == "Running", 60)
        yield
    finally:
        stage.client.request("DELETE", f"{path}/fill")
