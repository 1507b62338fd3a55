"""The scene of a bench: a cluster with fake nodes and the operator from the sources.

Nothing throttles: the controller manager, the scheduler and kwok have the devcluster's raised
limits, and bare Jobs and LongTasks see the same ones.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.lib.readings import cpu_seconds, rss_mib
from devcluster import api as devcluster
from devcluster import components
from devcluster.console import Progress
from longtask_operator.adapters.kube import Kube, load_credentials

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "bench"
_READY_SECONDS = 60
#: Packages for development that Kopf and structlog would load, and that the operator's image does not have.
_AS_IN_ITS_IMAGE = """
import sys
sys.modules.update(dict.fromkeys(["kubernetes", "rich"]))
from longtask_operator.__main__ import main
sys.exit(main())
"""


def cluster_name(pid: int) -> str:
    """Return the name of the cluster of the bench that runs as process *pid*."""
    return f"bench-{pid}"


@dataclass(slots=True)
class Operator:
    """The operator as a process."""

    kubeconfig: Path
    log: Path
    settings: Mapping[str, str]
    port: int = field(default_factory=lambda: _free_port())
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns at once."""
        environment = {
            **os.environ,
            **_image_environment(),
            "KUBECONFIG": str(self.kubeconfig),
            "PYTHONPATH": str(ROOT / "operator"),
            # Compiled like its image, whatever the shell says: that takes a second at each start.
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(ROOT / "build" / "pycache"),
            "LONGTASK_OPERATOR_IDENTITY": "bench",
            "LONGTASK_OPERATOR_HTTP_PORT": str(self.port),
            "LONGTASK_OPERATOR_REPORT_PORT": str(_free_port()),
            **{f"LONGTASK_OPERATOR_{key}": value for key, value in self.settings.items()},
        }
        command = [sys.executable, "-c", _AS_IN_ITS_IMAGE]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def until_leading(self) -> None:
        """Wait until it leads and all its caches are filled. Raises SystemExit after a minute."""
        until = time.monotonic() + _READY_SECONDS
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2).close()
                metrics = urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=2).read()
                if b"longtask_leader 1.0" in metrics:
                    return
            time.sleep(0.1)
        raise SystemExit(f"the operator did not lead within {_READY_SECONDS} s; see {self.log}")

    def kill(self) -> None:
        """End it as a crash does."""
        if self.process:
            self.process.kill()
            self.process.wait(10)

    def stop(self) -> None:
        """End it as the kubelet does."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)

    @property
    def rss(self) -> float:
        """Its resident memory in MiB."""
        return rss_mib(self.pid)

    @property
    def pid(self) -> int:
        """Its process id."""
        if self.process is None:
            raise RuntimeError("the operator was not started")
        return self.process.pid


@dataclass(slots=True)
class Scene:
    """A cluster and an operator."""

    cluster: devcluster.Cluster
    operator: Operator

    def kube(self, connections: int = 34) -> Kube:
        """Return a client of the bench's own; use as a context manager."""
        credentials = load_credentials({"KUBECONFIG": str(self.cluster.kubeconfig)})
        return Kube(credentials, connections=connections, user_agent="bench")

    def kubectl(self, *arguments: str, check: bool = True) -> None:
        """Run kubectl quietly."""
        command = [str(self.cluster.binaries["kubectl"]), "--kubeconfig", str(self.cluster.kubeconfig), *arguments]
        subprocess.run(command, check=check, stdout=subprocess.DEVNULL)

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds that each part has used so far, the bench itself included."""
        names = components.components(self.cluster.plan)
        pids = {name: pid for name in names if (pid := self.cluster.component_pid(name))}
        if self.operator.process:
            pids["operator"] = self.operator.pid
        return {name: cpu_seconds(pid) for name, pid in (pids | {"bench": os.getpid()}).items()}


@contextlib.contextmanager
def scene(
    *, namespaces: tuple[str, ...] = (NAMESPACE,), nodes: int = 20, start: bool = True, **settings: str
) -> Iterator[Scene]:
    """Yield a fresh cluster with *nodes* fake nodes; its operator runs with *settings*, and leads if *start*."""
    cluster = devcluster.up(cluster_name(os.getpid()), nodes=f"fake:{nodes}", progress=Progress(sys.stderr))
    operator = Operator(cluster.kubeconfig, cluster.paths.root / "operator.log", settings)
    stage = Scene(cluster, operator)
    try:
        stage.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
        for namespace in ("longtask-system", *namespaces):
            stage.kubectl("create", "namespace", namespace)
        if start:
            operator.start()
            operator.until_leading()
            time.sleep(2)  # the first certificate and the first statuses of quotas are not part of any load
        yield stage
    finally:
        _keep_log(operator)
        operator.stop()
        cluster.down()


def _image_environment() -> dict[str, str]:
    """Return how the operator's image sets up memory allocation."""
    words = (ROOT / "operator" / "Dockerfile").read_text().replace("\\\n", " ").split()
    return dict(word.split("=", 1) for word in words if word.startswith("MALLOC_") and "=" in word)


def _keep_log(operator: Operator) -> None:
    if keep := os.environ.get("BENCH_KEEP_LOG"):
        Path(keep).write_bytes(operator.log.read_bytes() if operator.log.exists() else b"")


def _free_port() -> int:
    while True:
        port = random.randrange(12_000, 20_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("0.0.0.0", port))
            return port
