"""The container of a real pod object as a process of this machine, as far as a worker can tell the difference.

Environment, command, token and CA are those that a kubelet would give it: read off the pod, the token asked for from
the API server and bound to that pod.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import urllib3

from tests.support.live import MERGE, Client, Json, RefusedError
from tests.support.operator_process import ROOT

LEASES = "kube-node-lease"
CA_ANNOTATION = "longtask.dev/report-ca"


@dataclass(frozen=True, slots=True)
class PodProcess:
    """A running container. *folder* holds what it mounts and leaves."""

    pod: Json
    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def uid(self) -> str:
        return str(self.pod["metadata"]["uid"])

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def end(self, seconds: float = 60) -> int:
        """Return the exit code of a process that ends by itself."""
        return self.process.wait(seconds)

    def kill(self) -> None:
        """End it, whatever its state."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def message(self) -> str:
        """Return its termination message, empty if there is none."""
        path = self.folder / "termination-log"
        return path.read_text() if path.exists() else ""

    def output(self) -> str:
        return (self.folder / "output").read_text(errors="replace")


def start(client: Client, pod: Json, folder: Path, env: Mapping[str, str]) -> PodProcess:
    """Start the container `task` of *pod*; *env* is added."""
    folder.mkdir(parents=True)
    (container,) = [one for one in pod["spec"]["containers"] if one["name"] == "task"]
    (folder / "token").write_text(_token_of(client, pod))
    (folder / "ca.crt").write_text(pod["metadata"]["annotations"][CA_ANNOTATION])
    # The kubelet turns `$$` into `$`. Here is no reference `$(X)` beside it.
    given = {one["name"]: one.get("value", "").replace("$$", "$") for one in container["env"]}
    own = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "worker-image"),
        "LONGTASK_TOKEN_FILE": str(folder / "token"),
        "LONGTASK_CA_FILE": str(folder / "ca.crt"),
        "LONGTASK_TERMINATION_LOG": str(folder / "termination-log"),
    }
    command = [sys.executable if word == "python" else word for word in container["command"]]
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, env={**given, **own, **env}, stdout=output, stderr=output)
    return PodProcess(pod, process, folder)


def _token_of(client: Client, pod: Json) -> str:
    """Return a token as the kubelet gets it for *pod*."""
    meta, account = pod["metadata"], pod["spec"].get("serviceAccountName", "default")
    bound = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
    spec = {"audiences": ["longtask"], "expirationSeconds": 3600, "boundObjectRef": bound}
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    path = f"/api/v1/namespaces/{meta['namespace']}/serviceaccounts/{account}/token"
    return str(client.request("POST", path, body)["status"]["token"])


class PlayedNode:
    """A node whose kubelet is the test: it beats, and takes no pod but those that `bind` puts there."""

    def __init__(self, client: Client, name: str) -> None:
        self._client, self.name = client, name
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> PlayedNode:
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name}, "spec": {"unschedulable": True}}
        self._client.request("POST", "/api/v1/nodes", body)
        resources = {"cpu": "1000", "memory": "1Ti", "pods": "1000"}
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": _now()}
        status = {"capacity": resources, "allocatable": resources, "conditions": [ready]}
        self._client.request("PATCH", f"/api/v1/nodes/{self.name}/status", {"status": status}, form=MERGE)
        meta = {"name": self.name, "namespace": LEASES}
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": self._lease()}
        self._client.request("POST", f"/apis/coordination.k8s.io/v1/namespaces/{LEASES}/leases", body)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        self._client.request("DELETE", f"/api/v1/nodes/{self.name}")

    def bind(self, pod: Json) -> None:
        """Put *pod* onto this node."""
        meta = pod["metadata"]
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": meta["name"]}}
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/binding"
        self._client.request("POST", path, body | {"target": {"kind": "Node", "name": self.name}})

    def _beat(self) -> None:
        path = f"/apis/coordination.k8s.io/v1/namespaces/{LEASES}/leases/{self.name}"
        while not self._closing.wait(5):
            with contextlib.suppress(RefusedError, urllib3.exceptions.HTTPError):  # the next beat comes soon
                self._client.request("PATCH", path, {"spec": self._lease()}, form=MERGE)

    def _lease(self) -> Json:
        return {"holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": _now()[:-1] + ".000000Z"}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
