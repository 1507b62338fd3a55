"""Shared fixtures: the clusters that tests need, brought up once and taken down also when tests fail.

With LONGTASK_REQUIRE_CLUSTER=1 (CI sets it) a cluster that cannot be had fails the tests
that need it; otherwise they are skipped with the reason.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.support.s3 import S3Server

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

# A busy machine is no fault of the code: speed is measured in bench/, never by a test.
settings.register_profile("longtask", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("longtask")

REQUIRED = os.environ.get("LONGTASK_REQUIRE_CLUSTER") == "1"


@dataclass(frozen=True)
class TestCluster:
    """A running cluster, as tests use it."""

    __test__ = False

    devcluster: Any

    @property
    def kubeconfig(self) -> Path:
        return Path(self.devcluster.kubeconfig)

    @property
    def etcd_endpoint(self) -> str:
        return str(self.devcluster.etcd_url)

    @property
    def audit_log(self) -> Path:
        return Path(self.devcluster.audit_log)

    def kubectl(self, *args: str, input: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator; with *check* a failure fails the test and shows what it said."""
        command = [str(self.devcluster.binaries["kubectl"]), "--kubeconfig", str(self.kubeconfig), *args]
        done = subprocess.run(command, input=input, text=True, capture_output=True, check=False)
        assert not check or done.returncode == 0, f"kubectl {' '.join(args)}: {done.stdout}{done.stderr}"
        return done

    def stop_component(self, name: str, *, kill: bool = False) -> None:
        self.devcluster.stop_component(name, kill=kill)

    def start_component(self, name: str) -> None:
        self.devcluster.start_component(name)

    def restart_kubelet(self, **changes: Any) -> None:
        self.devcluster.restart_kubelet(**changes)

    def component_pid(self, name: str) -> int | None:
        pid: int | None = self.devcluster.component_pid(name)
        return pid


def _bring_up(nodes: str, **options: Any) -> TestCluster:
    from devcluster import api
    from devcluster.errors import DevclusterError

    name = f"test-{nodes.partition(':')[0]}-{os.getpid()}"
    try:
        return TestCluster(api.up(name, nodes=nodes, **options))
    except DevclusterError as error:
        if REQUIRED:
            raise
        pytest.skip(f"no cluster: {error}")


@pytest.fixture(scope="session")
def control_plane() -> Iterator[TestCluster]:
    """A control plane without nodes and with nothing installed."""
    cluster = _bring_up("none")
    try:
        yield cluster
    finally:
        cluster.devcluster.down()


@pytest.fixture(scope="session")
def cluster() -> Iterator[TestCluster]:
    """A cluster with a real node, the images loaded and the chart installed."""
    import stack

    from devcluster.console import Progress

    running = _bring_up("real", keep_history=True)
    try:
        name = running.devcluster.name
        target = stack.Target(kind="devcluster", name=name, kubeconfig=running.kubeconfig)
        digests = stack.ensure_images(target, Progress())
        stack.install_chart(target, Progress(), digests, *CHART_SETTINGS)
        yield running
    finally:
        running.devcluster.down()


#: Short intervals, so that tests need not wait for what is coarse by default; and no node evicts the operator.
CHART_SETTINGS = (
    "priorityClassName=system-cluster-critical",
    "progress.intervalSeconds=1",
    "terminationGraceSeconds=5",
    "kueue.enabled=true",
    "startLimits.configSeconds=12",
    "sizing.inputs.rules[0].image=longtask/examples",
    "sizing.inputs.rules[0].base=256Mi",
    "sizing.inputs.rules[0].percent=150",
    "trustedSubmitters={system:serviceaccount:argocd:application-controller}",
)


@pytest.fixture(scope="session")
def s3_program() -> Path:
    """The S3 server's program, compiled at the first use."""
    from devcluster import binaries
    from devcluster.console import Progress
    from devcluster.errors import DevclusterError

    try:
        return binaries.ensure(["versitygw"], Progress())["versitygw"]
    except DevclusterError as error:
        if REQUIRED:
            raise
        pytest.skip(f"no S3 server: {error}")


@pytest.fixture(scope="session")
def s3(s3_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server on loopback, with a bucket."""
    from tests.support.s3 import serve

    with serve(s3_program, tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def cluster_s3(cluster: TestCluster, s3_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server where the pods of `cluster` reach it, and so does this machine."""
    from tests.support.s3 import serve

    with serve(s3_program, tmp_path_factory.mktemp("s3"), address=cluster.devcluster.plan.gateway) as server:
        yield server


@pytest.fixture
def fresh_namespace(cluster: TestCluster) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    try:
        yield name
    finally:
        cluster.kubectl("delete", "namespace", name, "--wait=false", check=False)
