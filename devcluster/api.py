"""What tests and the command line use: `up` returns a Cluster, which knows its addresses and can stop its parts."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devcluster import (
    binaries,
    bringup,
    builder,
    components,
    images,
    machine,
    node,
    pki,
    process,
    requirements,
    teardown,
)
from devcluster import plan as plans
from devcluster.console import Progress
from devcluster.errors import DevclusterError
from devcluster.kube import Kube
from devcluster.paths import ClusterPaths
from devcluster.plan import Plan, Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A running cluster."""

    paths: ClusterPaths
    plan: Plan
    binaries: Mapping[str, Path]

    @property
    def name(self) -> str:
        """Name given to `up`."""
        return self.plan.spec.name

    @property
    def kubeconfig(self) -> Path:
        """Kubeconfig of the administrator."""
        return self.paths.kubeconfig

    @property
    def api_url(self) -> str:
        """URL of the API server as the machine reaches it."""
        return self.plan.api_url

    @property
    def ca_file(self) -> Path:
        """Certificate of the authority that signed the API server's."""
        return self.paths.pki / "ca.crt"

    @property
    def token(self) -> str:
        """Bearer token of the administrator."""
        return pki.admin_token(self.paths)

    @property
    def etcd_url(self) -> str:
        """etcd's client endpoint, plain HTTP/2 and gRPC."""
        return self.plan.etcd_url

    @property
    def audit_log(self) -> Path:
        """The API server's audit log, one JSON document per line."""
        return self.paths.audit_log

    def start_component(self, component: str) -> None:
        """Start a component that was stopped; for the API server also wait until it is ready."""
        if process.recorded(self.paths, component):
            return
        components.start(self.paths, self.plan, component, self.binaries)
        if component == "kube-apiserver":
            bringup.await_api(self.paths, self.plan)

    def stop_component(self, component: str, *, kill: bool = False) -> None:
        """End a component, by SIGTERM or at once by SIGKILL; nothing starts it again but `start_component` or `up`.

        An API server with open watches would take a minute to end: after 5 s it is killed.
        """
        if component not in components.components(self.plan):
            raise DevclusterError(f"This cluster has no component {component!r}; see `python -m devcluster status`.")
        running = process.recorded(self.paths, component)
        if running:
            process.end([running], grace=0 if kill else 5)

    def restart_kubelet(self, **changes: Any) -> None:
        """End the kubelet and start it with *changes* to its own configuration; without any it is as it was at first.

        Its containers go on meanwhile.
        """
        self.stop_component("kubelet")
        node.write_kubelet_config(self.paths, self.plan, changes)
        self.start_component("kubelet")

    def component_pid(self, component: str) -> int | None:
        """Process id of a component, None when it does not run."""
        running = process.recorded(self.paths, component)
        return running.pid if running else None

    def load_image(self, image: Path | str) -> list[str]:
        """Bring an image archive, or an image that Docker or buildah holds, to the node; returns the images' names."""
        if not self.plan.real:
            raise DevclusterError(f"Cluster {self.name!r} runs no containers; bring it up with --nodes real.")
        if Path(image).is_file() or str(image).endswith(".tar"):
            return images.load(self.paths, Path(image))
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "image.tar"
            builder.export(str(image), archive)
            return images.load(self.paths, archive)

    def down(self) -> None:
        """Remove the cluster and everything that belongs to it."""
        down(self.name)


def up(
    name: str = "longtask",
    *,
    nodes: str = "real",
    audit_policy: str | None = None,
    keep_history: bool = False,
    progress: Progress | None = None,
) -> Cluster:
    """Bring a cluster up, or return the one that already runs; raises DevclusterError with what to do."""
    spec = Spec(name=name, nodes=nodes, audit_policy=audit_policy, keep_history=keep_history)
    spec.validate()
    paths = ClusterPaths.of(name)
    with process.lock(paths.lock):
        return _reuse(paths, spec, progress or Progress()) or _create(paths, spec, progress or Progress())


def down(name: str) -> None:
    """Remove a cluster, or what a crash left of one; does nothing when there is none."""
    paths = ClusterPaths.of(name)
    with process.lock(paths.lock):
        teardown.remove(paths)
        paths.lock.unlink(missing_ok=True)


def get(name: str) -> Cluster | None:
    """The cluster of that name if it was brought up, running or not."""
    paths = ClusterPaths.of(name)
    plan = plans.load(paths)
    if plan is None or not paths.kubeconfig.exists():
        return None
    found = {tool: binaries.find(tool) for tool in components.tools(plan)}
    return Cluster(paths=paths, plan=plan, binaries={tool: path for tool, path in found.items() if path})


def healthy(cluster: Cluster) -> bool:
    """Whether all components run and the API server is ready."""
    alive = all(components.running(cluster.paths, cluster.plan).values())
    return alive and Kube.of(cluster.paths, cluster.plan).ready()


def describe(cluster: Cluster) -> dict[str, Any]:
    """Everything a script needs to use the cluster, as plain JSON values."""
    running = components.running(cluster.paths, cluster.plan)
    return {
        "name": cluster.name,
        "nodes": cluster.plan.spec.nodes,
        "healthy": healthy(cluster),
        "apiUrl": cluster.api_url,
        "etcdUrl": cluster.etcd_url,
        "hostAddress": cluster.plan.gateway,
        "kubeconfig": str(cluster.kubeconfig),
        "auditLog": str(cluster.audit_log),
        "state": str(cluster.paths.root),
        "components": {name: found.pid if found else None for name, found in running.items()},
        "binaries": {tool: str(path) for tool, path in cluster.binaries.items()},
    }


def _reuse(paths: ClusterPaths, spec: Spec, progress: Progress) -> Cluster | None:
    cluster = get(spec.name)
    if cluster and bringup.was_up(paths):
        if cluster.plan.spec != spec:
            command = f"python -m devcluster down --name {spec.name}"
            raise DevclusterError(f"A cluster {spec.name!r} with other settings is there; end it with `{command}`.")
        if healthy(cluster) or _repaired(cluster, progress):
            return cluster
    if paths.root.exists():
        progress.expect(1)
        with progress.step("Removing what is left of an earlier cluster"):
            teardown.remove(paths)
    return None


def _repaired(cluster: Cluster, progress: Progress) -> bool:
    """Start again what has ended; impossible once the node's namespaces are gone, as after a restart of the machine."""
    if cluster.plan.real and not process.recorded(cluster.paths, node.HOLDER):
        return False
    programs = binaries.ensure(components.tools(cluster.plan), progress)
    bringup.start(cluster.paths, cluster.plan, programs, progress)
    return True


def _create(paths: ClusterPaths, spec: Spec, progress: Progress) -> Cluster:
    requirements.check(spec.validate().kind, progress)
    programs = binaries.ensure(components.tools_for(spec.nodes), progress)
    progress.expect(1)
    try:
        with progress.step("Writing keys and configuration"):
            plan = _prepare(paths, spec)
        bringup.start(paths, plan, programs, progress)
    except BaseException:
        teardown.stop(paths)
        raise
    bringup.mark_up(paths)
    return Cluster(paths=paths, plan=plan, binaries=programs)


def _prepare(paths: ClusterPaths, spec: Spec) -> Plan:
    # until the interface exists and the ports are in a plan, another `up` would choose the same addresses
    with machine.network_lock():
        plan = plans.choose(spec, machine.networks_in_use(), plans.promised_ports(paths.root.parent))
        paths.root.mkdir(parents=True)
        paths.plan.write_text(plan.to_json())
        bringup.write_files(paths, plan)
        if plan.real:
            bringup.open_node(paths, plan)
    return plan
