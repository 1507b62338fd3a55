"""What all trials stand on: a real control plane without nodes, the chart's objects, and a kubelet of the tests.

The chart is installed without its Deployment: the operators are processes of ours, but policies,
permissions and the ServiceAccount are those of an installation.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from devcluster import api as devcluster
from tests.faults.api import Api, ApiFault
from tests.faults.beside import beside
from tests.faults.kubelet import Kubelet
from tests.faults.operators import ForkServer
from tests.faults.proxy import FaultProxy
from tests.faults.store import Store, open_store
from tests.support import operator_process
from tests.support.operator_process import NAMESPACE, ROOT

HELM = Path(sys.executable).with_name("helm")
NODE = "faults-node"
KUEUE = "system:serviceaccount:kueue-system:kueue-controller-manager"
_LEFT_OUT = {"Deployment", "PodDisruptionBudget", "NetworkPolicy"}


@dataclass(slots=True)
class Ground:
    """A running control plane and everything between it and the operators."""

    cluster: devcluster.Cluster
    api: Api
    kubelet: Kubelet
    proxy: FaultProxy
    forks: ForkServer
    store: Store
    folder: Path
    plays: int = 0  #: performances so far: their names differ

    @property
    def kubeconfig(self) -> Path:
        return self.cluster.kubeconfig

    @property
    def etcd(self) -> str:
        return self.cluster.etcd_url

    def kubectl(self, *args: str, input: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [str(self.cluster.binaries["kubectl"]), "--kubeconfig", str(self.kubeconfig), *args]
        done = subprocess.run(command, input=input, text=True, capture_output=True, check=False)
        assert not check or done.returncode == 0, f"kubectl {' '.join(args)}: {done.stdout}{done.stderr}"
        return done

    async def operator_kubeconfig(self) -> Path:
        """Return a kubeconfig of the operator's ServiceAccount through a port of the proxy that is its own."""
        port = await self.proxy.listen()
        path = self.folder / f"kubeconfig-{port}"
        # In a thread: all operators that run speak through this loop, and have a lease to renew.
        await asyncio.to_thread(operator_process.operator_kubeconfig, self, path)
        config = yaml.safe_load(path.read_text())
        for entry in config["clusters"]:
            entry["cluster"] = {"server": f"http://127.0.0.1:{port}"}
        path.write_text(yaml.safe_dump(config))
        return path

    async def namespace(self, name: str, quota: dict[str, Any] | None = None) -> None:
        """Make a namespace, its ServiceAccount awaited, and its TenantQuota where *quota* is its spec."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await self.api.request("POST", "/api/v1/namespaces", body)
        if quota is not None:
            body = {"apiVersion": "longtask.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": name}}
            await self.api.request("POST", "/apis/longtask.dev/v1alpha1/tenantquotas", {**body, "spec": quota})
        account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        async with asyncio.timeout(90):
            while await self.api.find(account) is None:  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def stand(folder: Path | None = None, number: int = 1) -> AsyncIterator[Ground]:
    """Bring everything up, and down again at the end. *folder* keeps logs; without it they go as well.

    *number* tells apart the grounds of one process.
    """
    with contextlib.ExitStack() as stack:
        kept = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="longtask-faults-")))
        kept.mkdir(parents=True, exist_ok=True)
        cluster = devcluster.up(f"faults-{os.getpid()}-{number}", nodes="none", keep_history=True)
        stack.callback(cluster.down)
        store = stack.enter_context(open_store())
        async with Api(cluster.api_url, cluster.token, str(cluster.ca_file)) as api:
            forks = await ForkServer.start()
            proxy = FaultProxy(cluster.api_url, api.ssl_context)
            ground = Ground(cluster, api, Kubelet(api, NODE), proxy, forks, store, kept)
            install_chart(ground)
            await await_kind(api)
            try:
                async with beside(forks.listen(), ground.kubelet.run()):
                    yield ground
            finally:
                await forks.close()
                await proxy.close()


@contextlib.asynccontextmanager
async def stand_all(count: int, folder: Path | None = None) -> AsyncIterator[list[Ground]]:
    """Bring *count* grounds up, that nothing connects: a trial waits most of its time, so that more than one pays."""
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(stand(folder and folder / str(number), number))
            for number in range(1, count + 1)
        ]


def install_chart(ground: Ground) -> None:
    """Apply what the chart consists of, the operator's own workload aside."""
    ground.kubectl("create", "namespace", NAMESPACE)
    ground.kubectl("create", "clusterrolebinding", "kueue", "--clusterrole=edit", f"--user={KUEUE}")
    install_crds(ground)
    ground.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=120s")
    command = [str(HELM), "template", "longtask", str(ROOT / "charts" / "longtask"), "--namespace", NAMESPACE]
    command += ["--set", "kueue.enabled=true", "--kube-version", "1.36.3"]
    rendered = subprocess.run(command, capture_output=True, text=True, check=True)
    documents = [document for document in yaml.safe_load_all(rendered.stdout) if document and _is_wanted(document)]
    ground.kubectl("apply", "--server-side", "-f", "-", input=yaml.safe_dump_all(documents))


def install_crds(ground: Ground) -> None:
    """Apply the CRDs as they are, whatever became of them."""
    ground.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))


async def await_kind(api: Api) -> None:
    """Wait until LongTasks are taken, and by the policies: the mutating ones look for new kinds once a minute."""
    body = {"apiVersion": "longtask.dev/v1alpha1", "kind": "LongTask", "metadata": {"name": "probe"}}
    path = "/apis/longtask.dev/v1alpha1/namespaces/default/longtasks?dryRun=All"
    async with asyncio.timeout(300):
        while True:
            try:
                answer = await api.request("POST", path, {**body, "spec": {"image": "registry.example/task:1"}})
                if "longtask.dev/created-by" in (answer["metadata"].get("annotations") or {}):
                    return
            except ApiFault as fault:
                if fault.code != 503:
                    raise
            await asyncio.sleep(0.5)


def _is_wanted(document: dict[str, Any]) -> bool:
    annotations = document["metadata"].get("annotations") or {}
    return document["kind"] not in _LEFT_OUT and "helm.sh/hook" not in annotations
