"""The order in which a cluster comes up: every step ends when the next one can rely on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from devcluster import components, controlplane, kwok, pki, process
from devcluster.console import Progress
from devcluster.errors import DevclusterError
from devcluster.kube import Kube
from devcluster.paths import ClusterPaths
from devcluster.plan import Plan

_PATIENCE = 120  # seconds; a ready part takes a few, a machine under load many more


def start(paths: ClusterPaths, plan: Plan, binaries: Mapping[str, Path], progress: Progress) -> None:
    """Start all components of a new cluster and wait until it can be used."""
    progress.expect(3 + (plan.nodes.kind == "fake"))
    with progress.step("Writing keys and certificates"):
        pki.create(paths, plan)
        (paths.root / "audit-policy.json").write_text(controlplane.audit_policy_json())
    with progress.step("Starting etcd and the API server"):
        components.start(paths, plan, "etcd", binaries)
        components.start(paths, plan, "kube-apiserver", binaries)
        await_api(paths, plan)
    with progress.step("Starting the controller manager and the scheduler"):
        components.start(paths, plan, "kube-controller-manager", binaries)
        components.start(paths, plan, "kube-scheduler", binaries)
        _await_object(paths, plan, "/api/v1/namespaces/default/serviceaccounts/default", "kube-controller-manager")
    if plan.nodes.kind == "fake":
        with progress.step(f"Starting kwok with {plan.nodes.count} nodes"):
            _start_fake_nodes(paths, plan, binaries)


def _start_fake_nodes(paths: ClusterPaths, plan: Plan, binaries: Mapping[str, Path]) -> None:
    kube = Kube.of(paths, plan)
    for path, document in kwok.permissions():
        kube.apply(path, document)
    (paths.root / "kwok-stages.json").write_text(kwok.stages_json())
    components.start(paths, plan, "kwok", binaries)
    kwok.create_nodes(kube, plan.nodes.count)
    await_component(paths, "kwok", lambda: kube.ready_nodes() >= plan.nodes.count)


def await_api(paths: ClusterPaths, plan: Plan) -> None:
    """Wait until the API server is ready; raises DevclusterError with its log when it ends instead."""
    await_component(paths, "kube-apiserver", Kube.of(paths, plan).ready)


def _await_object(paths: ClusterPaths, plan: Plan, path: str, component: str) -> None:
    kube = Kube.of(paths, plan)
    await_component(paths, component, lambda: kube.get(path) is not None)


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
