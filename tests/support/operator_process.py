"""The operator as a local process from sources, so that a test can kill, stop and restart it.

It uses the ServiceAccount of the chart through a kubeconfig of its own: the cluster's
policies and RBAC hold for it as for the installed operator.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "longtask-system"
SERVICE_ACCOUNT = "longtask-operator"
OPERATOR_USER = f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}"

#: For tests that take the Lease from nobody: a moment in which the machine is slow must not end their operator.
PATIENT_LEASE = {
    "LONGTASK_OPERATOR_LEASE_DURATION_SECONDS": "20",
    "LONGTASK_OPERATOR_LEASE_RENEW_DEADLINE_SECONDS": "16",
    "LONGTASK_OPERATOR_LEASE_RETRY_SECONDS": "0.5",
}
#: How long a probe waits for its answer: as long as nobody asks how fast the answer comes.
_PROBE_SECONDS = 20

#: What no operator may ever say: something happened that its code does not know.
_UNEXPECTED = ("Traceback (most recent call last)", "failed unexpectedly", "an engine ended")

#: A lease as short as the settings allow, so that tests of a take-over need not wait.
QUICK_LEASE = {
    "LONGTASK_OPERATOR_LEASE_DURATION_SECONDS": "5",
    "LONGTASK_OPERATOR_LEASE_RENEW_DEADLINE_SECONDS": "3",
    "LONGTASK_OPERATOR_LEASE_RETRY_SECONDS": "0.5",
}


def complaints(log: Iterable[str]) -> list[str]:
    """Return the beginnings of those lines of an operator's log that it may never say."""
    return [line[:600] for line in log if any(text in line for text in _UNEXPECTED)]


class HasKubectl(Protocol):
    @property
    def kubeconfig(self) -> Path: ...

    def kubectl(self, *args: str, input: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]: ...


def operator_kubeconfig(cluster: HasKubectl, path: Path, namespace: str = NAMESPACE) -> Path:
    """Write a kubeconfig of the operator's ServiceAccount to *path* and return it."""
    arguments = ["create", "token", SERVICE_ACCOUNT, "-n", namespace, "--duration=12h"]
    token = cluster.kubectl(*arguments).stdout.strip()
    config = yaml.safe_load(Path(cluster.kubeconfig).read_text())
    context = next(item for item in config["contexts"] if item["name"] == config["current-context"])
    config["users"] = [{"name": context["context"]["user"], "user": {"token": token}}]
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)
    return path


@dataclass(slots=True)
class OperatorProcess:
    """A running operator."""

    process: subprocess.Popen[bytes]
    log: Path
    http_port: int
    identity: str

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}/metrics"

    def kill9(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        self.process.wait(10)

    def terminate(self, seconds: float = 30) -> int:
        """End it as the kubelet does and return its exit code."""
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        return self.process.wait(seconds)

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """End it somehow, if it still runs."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill9()

    def runs(self) -> bool:
        return self.process.poll() is None

    def probe(self, path: str) -> int:
        """Return the answer's code to a GET of *path*, 0 if there is none."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=_PROBE_SECONDS) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def leads(self) -> bool:
        """Tell whether it says that it leads and is ready."""
        try:
            with urllib.request.urlopen(self.metrics_url, timeout=2) as answer:
                leader = b"\nlongtask_leader 1.0" in answer.read()
        except OSError:
            return False
        return leader and self.probe("/readyz") == 200

    def lines(self) -> list[dict[str, Any]]:
        """Return all complete log lines."""
        found = []
        for line in self.log.read_bytes().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                found.append({"event": line.decode(errors="replace")})
        return found

    def says(self, text: str) -> bool:
        """Tell whether a log line's message has *text*."""
        return any(text in str(line.get("event", "")) for line in self.lines())

    def until(self, what: str, check: Any, seconds: float = 30) -> None:
        """Wait until *check* holds; fails with the end of the log if the process ends or time runs out."""
        limit = time.monotonic() + seconds
        while not check():
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            assert self.runs(), f"the operator ended with {self.process.poll()} before: {what}\n{tail}"
            assert time.monotonic() < limit, f"after {seconds} s still not: {what}\n{tail}"
            time.sleep(0.05)

    def until_leading(self, seconds: float = 40) -> OperatorProcess:
        self.until("leading", self.leads, seconds)
        return self


def start(
    kubeconfig: Path, env: Mapping[str, str] | None = None, *, directory: Path, identity: str = "local"
) -> OperatorProcess:
    """Start an operator from sources, logging to a new file in *directory*; *env* adds settings or replaces them."""
    http_port, report_port = free_port(), free_port()
    settings = {
        "KUBECONFIG": str(kubeconfig),
        "PYTHONPATH": str(ROOT / "operator"),
        "LONGTASK_OPERATOR_IDENTITY": identity,
        "LONGTASK_OPERATOR_HTTP_PORT": str(http_port),
        "LONGTASK_OPERATOR_REPORT_PORT": str(report_port),
        "LONGTASK_OPERATOR_REPORT_HOST": "127.0.0.1",
        "LONGTASK_OPERATOR_PROGRESS_INTERVAL_SECONDS": "1",
        "LONGTASK_OPERATOR_TERMINATION_GRACE_SECONDS": "5",
        "LONGTASK_OPERATOR_DEFAULT_CONCURRENCY": "1000",
        **QUICK_LEASE,
        **(env or {}),
    }
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("LONGTASK_OPERATOR_")}
    log = directory / f"operator-{identity}-{time.monotonic_ns()}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "longtask_operator"],
            env={**inherited, **settings},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return OperatorProcess(process, log, http_port, identity)
