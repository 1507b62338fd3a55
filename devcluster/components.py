"""Which components a cluster has, in starting order, and how each is started."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from devcluster import controlplane, kwok, node, process
from devcluster.errors import DevclusterError
from devcluster.paths import ClusterPaths
from devcluster.plan import Nodes, Plan

_CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
_TOOLS = {
    "none": (*_CONTROL_PLANE, "kubectl", "etcdctl"),
    "fake": (*_CONTROL_PLANE, "kubectl", "etcdctl", "kwok"),
    "real": (*_CONTROL_PLANE, "kubectl", "etcdctl", "kubelet", "kube-proxy", "coredns", "pause"),
}

#: Much of the API server's CPU goes into collecting its garbage; memory is there, up to this much each (bytes).
_GARBAGE_PERCENT, _MOST_MEMORY = 400, 4 * 2**30


def tools(plan: Plan) -> tuple[str, ...]:
    """Programs of ours that the cluster or its user needs."""
    return _TOOLS[plan.nodes.kind]


def tools_for(nodes: str) -> tuple[str, ...]:
    """Programs that a cluster with such nodes needs; raises DevclusterError for impossible nodes."""
    return _TOOLS[Nodes.parse(nodes).kind]


def components(plan: Plan) -> tuple[str, ...]:
    """Names of the cluster's long-running processes, in starting order."""
    if plan.real:
        return (node.HOLDER, "etcd", "containerd", *_CONTROL_PLANE[1:], "coredns", "kubelet", "kube-proxy")
    return (*_CONTROL_PLANE, "kwok") if plan.nodes.kind == "fake" else _CONTROL_PLANE


def start(paths: ClusterPaths, plan: Plan, component: str, binaries: Mapping[str, Path]) -> None:
    """Start one component unless it runs; raises DevclusterError for a name that the cluster does not have."""
    if component not in components(plan):
        raise DevclusterError(f"There is no component {component!r}; this cluster has {', '.join(components(plan))}.")
    if process.recorded(paths, component):
        return
    if component == node.HOLDER:
        process.start(paths, component, node.holder(paths))
        return
    program = "containerd" if component == "containerd" else str(binaries[component])
    command = [program, *_arguments(paths, plan, component)]
    environment = go_environment(os.environ, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    process.start(paths, component, [*node.inside(paths), *command] if plan.real else command, environment)


def go_environment(given: Mapping[str, str], memory: int) -> dict[str, str]:
    """How a component's Go runtime collects garbage on a machine of *memory* bytes; what is *given* stays.

    Source: the Go garbage collector guide, on GOGC beside a soft memory limit.
    """
    limit = min(_MOST_MEMORY, memory // 4)
    wanted = {"GOGC": str(_GARBAGE_PERCENT), "GOMEMLIMIT": f"{limit // 2**20}MiB"}
    return {name: value for name, value in wanted.items() if name not in given}


def _arguments(paths: ClusterPaths, plan: Plan, component: str) -> list[str]:
    match component:
        case "etcd":
            return controlplane.etcd(paths, plan)
        case "kube-apiserver":
            return controlplane.api_server(paths, plan)
        case "kube-controller-manager":
            return controlplane.controller_manager(paths, plan)
        case "kube-scheduler":
            return controlplane.scheduler(paths)
        case "kwok":
            return kwok.arguments(paths, plan)
        case _:
            return node.arguments(paths, plan, component)


def running(paths: ClusterPaths, plan: Plan) -> dict[str, process.Process | None]:
    """The live process of every component, None for one that does not run."""
    return {name: process.recorded(paths, name) for name in components(plan)}
