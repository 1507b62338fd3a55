"""LongTasks on a running cluster, as tests create, change and await them. Plain objects in and out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import kubernetes

Json = dict[str, Any]
GROUP_PATH = "/apis/longtask.dev/v1alpha1"
FINISHED_PHASES = ("Succeeded", "Failed", "Cancelled")
MERGE = "application/merge-patch+json"
#: Seconds that anything may take which a test waits for: a machine that does much else is slow for a while.
PATIENCE = 150


class RefusedError(Exception):
    """The API server refused; *code* is HTTP's, the text its message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


class Client:
    """Requests to the API server as the user of a kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        configuration = kubernetes.client.Configuration()
        kubernetes.config.load_kube_config(str(kubeconfig), client_configuration=configuration)  # type: ignore[no-untyped-call]
        configuration.connection_pool_maxsize = 64  # one for each scenario that waits
        self._client = kubernetes.client.ApiClient(configuration)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        form: str = "application/json",
    ) -> Json:
        """Return the answer's object. Raises RefusedError."""
        headers = {"Accept": "application/json", "Content-Type": form}
        arguments = self._client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        answer = self._client.call_api(*arguments, _request_timeout=60)
        text: bytes = answer.read()  # type: ignore[no-untyped-call]
        found: Json = json.loads(text) if text else {}
        if answer.status >= 300:
            raise RefusedError(answer.status, str(found.get("message", "")))
        return found

    def find(self, path: str) -> Json | None:
        """Return the object at *path*, or None if there is none. Raises RefusedError."""
        try:
            return self.request("GET", path)
        except RefusedError as fault:
            if fault.code == 404:
                return None
            raise

    def items(self, path: str, **query: str) -> list[Json]:
        """Return the items of a list."""
        found: list[Json] = self.request("GET", path, query=query)["items"]
        return found


class Tasks:
    """The LongTasks of one namespace."""

    def __init__(self, client: Client, namespace: str, image: str = "longtask/worker:0.1.0") -> None:
        self.client, self.namespace, self.image = client, namespace, image
        self.path = f"{GROUP_PATH}/namespaces/{namespace}/longtasks"

    def create(self, name: str, script: str = "", **spec: Any) -> Json:
        """Create a LongTask whose container runs *script* in a shell, unless *spec* says otherwise."""
        command = {"command": ["sh", "-euc", script]} if script else {}
        body = {
            "apiVersion": "longtask.dev/v1alpha1",
            "kind": "LongTask",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"image": self.image, **command, **spec},
        }
        return self.client.request("POST", self.path, body)

    def find(self, name: str) -> Json | None:
        return self.client.find(f"{self.path}/{name}")

    def get(self, name: str) -> Json:
        return self.client.request("GET", f"{self.path}/{name}")

    def status(self, name: str) -> Json:
        found: Json = self.get(name).get("status") or {}
        return found

    def change(self, name: str, **spec: Any) -> Json:
        """Merge *spec* into the task's. Raises RefusedError."""
        return self.client.request("PATCH", f"{self.path}/{name}", {"spec": spec}, form=MERGE)

    def delete(self, name: str) -> None:
        self.client.request("DELETE", f"{self.path}/{name}")

    def jobs(self, name: str) -> list[Json]:
        return self._children("/apis/batch/v1", "jobs", name)

    def pods(self, name: str) -> list[Json]:
        return self._children("/api/v1", "pods", name)

    def events(self, name: str) -> list[Json]:
        """Return the Events about the task."""
        selector = f"regarding.name={name},regarding.kind=LongTask"
        path = f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events"
        return self.client.items(path, fieldSelector=selector)

    def until(self, name: str, what: str, check: Callable[[Json], Any], seconds: float = PATIENCE) -> Json:
        """Wait until *check* holds for the task's status and return it; fails with the last one."""
        last: Json = {}

        def holds() -> bool:
            nonlocal last
            last = (self.find(name) or {}).get("status") or {}
            return bool(check(last))

        await_(lambda: f"{self.namespace}/{name}: {what}; last status {json.dumps(last)[:1500]}", holds, seconds)
        return last

    def until_phase(self, name: str, *phases: str, seconds: float = PATIENCE) -> Json:
        return self.until(name, " or ".join(phases), lambda status: status.get("phase") in phases, seconds)

    def until_finished(self, name: str, seconds: float = PATIENCE) -> Json:
        return self.until_phase(name, *FINISHED_PHASES, seconds=seconds)

    def until_gone(self, name: str, seconds: float = PATIENCE) -> None:
        """Wait until neither the task nor a Job or Pod of it is left."""

        def gone() -> bool:
            return self.find(name) is None and not self.jobs(name) and not self.pods(name)

        await_(lambda: f"{self.namespace}/{name} gone without a trace", gone, seconds)

    def _children(self, api: str, plural: str, name: str) -> list[Json]:
        path = f"{api}/namespaces/{self.namespace}/{plural}"
        return self.client.items(path, labelSelector=f"longtask.dev/task={name}")


def await_(
    what: Callable[[], str] | str, check: Callable[[], Any], seconds: float = PATIENCE, pause: float = 0.25
) -> None:
    """Wait until *check* holds; fails after *seconds*, never before PATIENCE, telling *what* was awaited.

    So it is no measure of anything: what has to come to pass in time is to be measured.
    """
    began, limit = time.monotonic(), time.monotonic() + max(seconds, PATIENCE)
    while not check():
        said = what if isinstance(what, str) else what()
        assert time.monotonic() < limit, f"after {time.monotonic() - began:.0f} s still not: {said}"
        time.sleep(pause)


def condition(status: Json, kind: str) -> Json:
    """Return a condition of *status*, an empty one if it is absent."""
    found: Json = next((c for c in status.get("conditions") or [] if c["type"] == kind), {})
    return found
