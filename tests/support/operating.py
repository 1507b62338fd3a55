"""An operator from sources on a bare control plane with the real Job controller; the test plays the kubelet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import crds, operator_process
from tests.support.live import MERGE, Client, Json, Tasks, await_
from tests.support.operator_process import PATIENT_LEASE, OperatorProcess


class Stage:
    """The tasks of one namespace, the operator that runs them, and what a kubelet would do."""

    def __init__(self, control_plane: Any, namespace: str, home: str, directory: Path) -> None:
        self.control_plane, self.namespace, self.home, self._directory = control_plane, namespace, home, directory
        self.client = Client(control_plane.kubeconfig)
        self.tasks = Tasks(self.client, namespace)
        self.operators: list[OperatorProcess] = []
        self.neighbours: list[str] = []

    def beside(self, namespace: str) -> Stage:
        """Return the stage of a new namespace, whose tasks the same operator runs."""
        meta = {"name": namespace}
        self.client.request("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
        self.neighbours.append(namespace)
        account = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
        await_("the default ServiceAccount", lambda: self.client.find(account), 120)
        return Stage(self.control_plane, namespace, self.home, self._directory)

    def start(self, settings: Mapping[str, str] | None = None, identity: str = "local") -> OperatorProcess:
        """Start an operator and wait until it leads; one before it may have to lose the Lease first."""
        env = {"LONGTASK_OPERATOR_NAMESPACE": self.home, **PATIENT_LEASE, **(settings or {})}
        started = operator_process.start(
            self.control_plane.kubeconfig, env, directory=self._directory, identity=identity
        )
        self.operators.append(started)
        started.until_leading(120)
        return started

    def pod_of(self, name: str, seconds: float = 90) -> Json:
        """Return the newest pod of the task *name*, as soon as there is one."""
        await_(f"a pod of {name}", lambda: self.tasks.pods(name), seconds)
        return max(self.tasks.pods(name), key=lambda pod: int(pod["metadata"]["labels"]["longtask.dev/attempt"]))

    def set_status(self, pod: Json, status: Json) -> None:
        """Give *pod* a status, as a kubelet does."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}/status"
        self.client.request("PATCH", path, {"status": status}, form=MERGE)

    def run(self, name: str) -> Json:
        """Let the task container of *name* run; return its pod."""
        pod = self.pod_of(name)
        self.set_status(pod, {"phase": "Running", "containerStatuses": [_container({"running": {"startedAt": AGO}})]})
        return pod

    def end(self, name: str, exit_code: int = 0, message: str = "") -> None:
        """End the newest pod of *name*."""
        self.end_pod(self.pod_of(name), exit_code, message)

    def end_pod(self, pod: Json, exit_code: int = 0, message: str = "") -> None:
        """End *pod* by its task container."""
        ended = {"exitCode": exit_code, "reason": "Completed" if exit_code == 0 else "Error", "message": message}
        state = {"terminated": {**ended, "startedAt": AGO, "finishedAt": "2026-01-01T00:00:05Z"}}
        phase = "Succeeded" if exit_code == 0 else "Failed"
        self.set_status(pod, {"phase": phase, "containerStatuses": [_container(state)]})

    def attempts_of_jobs(self, *names: str) -> list[tuple[str, str]]:
        """Return task and attempt of every Job and pod that is there."""
        found = [child for name in names for child in (*self.tasks.jobs(name), *self.tasks.pods(name))]
        labels = [child["metadata"]["labels"] for child in found]
        return sorted({(label["longtask.dev/task"], label["longtask.dev/attempt"]) for label in labels})


AGO = "2026-01-01T00:00:00Z"


def _container(state: Json) -> Json:
    return {"name": "task", "image": "i", "imageID": "i", "ready": False, "restartCount": 0, "state": state}


@contextmanager
def operating(control_plane: Any, directory: Path, name: str) -> Iterator[Stage]:
    """Install the CRDs, create the namespaces `<name>-operator` and `<name>-work`, and clean up afterwards."""
    home, work = f"{name}-operator", f"{name}-work"
    crds.install(control_plane)
    for namespace in (home, work):
        control_plane.kubectl("create", "namespace", namespace)
    stage = Stage(control_plane, work, home, directory)
    try:
        yield stage
    finally:
        for namespace in (work, *stage.neighbours):
            stage.client.request("DELETE", Tasks(stage.client, namespace).path)
        control_plane.kubectl("delete", "tenantquotas", "--ignore-not-found", "--wait=false", work, *stage.neighbours)
        for operator in stage.operators:
            operator.end()
        control_plane.kubectl("delete", "namespace", home, work, *stage.neighbours, "--wait=false")
