"""The order in which a cluster comes up: every step ends when the next one can rely on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from devcluster import components, controlplane, dns, images, kwok, machine, node, pki, process
from devcluster.console import Progress
from devcluster.errors import DevclusterError
from devcluster.kube import Kube
from devcluster.paths import ClusterPaths
from devcluster.plan import Plan

_PATIENCE = 120  # seconds; a ready part takes a few, a machine under load many more


def start(paths: ClusterPaths, plan: Plan, binaries: Mapping[str, Path], progress: Progress) -> None:
    """Start all components of a cluster whose namespaces exist, and wait until it can be used.

    Also repairs: what runs already is left alone, what is missing is started.
    """
    progress.expect(3 if plan.nodes.kind == "none" else 4)
    with progress.step("Starting etcd and the API server"):
        for component in [name for name in ("etcd", "containerd") if name in components.components(plan)]:
            components.start(paths, plan, component, binaries)
        components.start(paths, plan, "kube-apiserver", binaries)
        await_api(paths, plan)
    kube = Kube.of(paths, plan)
    with progress.step("Starting the controller manager and the scheduler"):
        components.start(paths, plan, "kube-controller-manager", binaries)
        components.start(paths, plan, "kube-scheduler", binaries)
    if plan.nodes.kind == "fake":
        with progress.step(f"Starting kwok with {plan.nodes.count} nodes"):
            _start_fake_nodes(paths, plan, binaries, kube)
    if plan.real:
        with progress.step("Starting the node and the name service"):
            _start_real_node(paths, plan, binaries, kube)
    with progress.step("Waiting for the controllers"):
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        await_component(paths, "kube-controller-manager", lambda: kube.get(account) is not None)


def write_files(paths: ClusterPaths, plan: Plan) -> None:
    """Write keys and configuration of a new cluster."""
    pki.create(paths, plan)
    (paths.root / "audit-policy.json").write_text(controlplane.audit_policy_json())
    (paths.root / "kwok-stages.json").write_text(kwok.stages_json())
    if plan.real:
        node.write_files(paths, plan)


def open_node(paths: ClusterPaths, plan: Plan) -> None:
    """Make the namespaces of a real node, its way to the machine and its cgroup."""
    components.start(paths, plan, node.HOLDER, {})
    await_component(paths, node.HOLDER, node.namespaces_ready(paths).exists)
    machine.connect(paths, plan)
    machine.create_cgroup(paths)


def mark_up(paths: ClusterPaths) -> None:
    """Remember that the cluster was up: from now on a broken one is repaired rather than made anew."""
    (paths.root / "was-up").touch()


def was_up(paths: ClusterPaths) -> bool:
    """Whether the cluster was completely up once."""
    return (paths.root / "was-up").exists()


def _start_fake_nodes(paths: ClusterPaths, plan: Plan, binaries: Mapping[str, Path], kube: Kube) -> None:
    for path, document in kwok.permissions():
        kube.apply(path, document)
    components.start(paths, plan, "kwok", binaries)
    kwok.create_nodes(kube, plan.nodes.count)
    await_component(paths, "kwok", lambda: kube.ready_nodes() >= plan.nodes.count)


def _start_real_node(paths: ClusterPaths, plan: Plan, binaries: Mapping[str, Path], kube: Kube) -> None:
    images.load(paths, images.pause_archive(binaries["pause"]))
    # the API server makes it a moment after it is ready
    namespace = "/api/v1/namespaces/kube-system"
    await_component(paths, "kube-apiserver", lambda: kube.get(namespace) is not None)
    for path, document in dns.objects(plan):
        kube.apply(path, document)
    for component in ("kubelet", "kube-proxy", "coredns"):
        components.start(paths, plan, component, binaries)
    await_component(paths, "kubelet", lambda: kube.ready_nodes() == 1)
    await_component(paths, "coredns", lambda: dns.ready(plan))
    await_component(paths, "kube-proxy", lambda: node.reaches_services(paths))


def await_api(paths: ClusterPaths, plan: Plan) -> None:
    """Wait until the API server is ready; raises DevclusterError with its log when it ends instead."""
    await_component(paths, "kube-apiserver", Kube.of(paths, plan).ready)


def await_component(paths: ClusterPaths, component: str, ready: Callable[[], bool]) -> None:
    """Wait for a condition that a component brings about, and give up at once when the component has ended."""

    def ready_or_ended() -> bool:
        return ready() or process.recorded(paths, component) is None

    process.wait_for(ready_or_ended, _PATIENCE, f"{component} is not ready, see {paths.log(component)}; it was not")
    if process.recorded(paths, component) is None and not ready():
        raise DevclusterError(f"{component} ended while starting; its log ends with: {log_tail(paths, component, 5)}")


def log_tail(paths: ClusterPaths, component: str, lines: int) -> str:
    """Last lines of a component's log."""
    try:
        return "\n".join(paths.log(component).read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""
