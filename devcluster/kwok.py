"""Fake nodes: kwok says of pods what a kubelet would say, without running anything."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from devcluster.kube import Kube, cluster_role
from devcluster.paths import ClusterPaths
from devcluster.plan import LOOPBACK, Plan

_ANNOTATION = "kwok.x-k8s.io/node"
_CAPACITY = {"cpu": "64", "memory": "256Gi", "pods": "250", "ephemeral-storage": "1Ti"}


def arguments(paths: ClusterPaths, plan: Plan) -> list[str]:
    """Arguments of kwok: it cares for the annotated nodes and follows the stages of `stages()`."""
    return [
        f"--kubeconfig={paths.component_kubeconfig('kwok')}",
        f"--config={paths.root / 'kwok-stages.json'}",
        "--manage-all-nodes=false",
        f"--manage-nodes-with-annotation-selector={_ANNOTATION}=fake",
        f"--server-address={LOOPBACK}:{plan.kwok_port}",
        "--node-lease-duration-seconds=0",  # the controller manager waits for no sign of life either
        "--v=WARN",
        "--enable-crds=",
    ]


def create_nodes(kube: Kube, count: int) -> None:
    """Create or update that many nodes, `fake-0001` and so on."""
    names = [f"fake-{number:04d}" for number in range(1, count + 1)]
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda name: kube.apply(f"/api/v1/nodes/{name}", node(name)), names))


def node(name: str) -> dict[str, Any]:
    """One fake node, ready from the start and large enough that its limit is pods rather than CPU."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {_ANNOTATION: "fake"},
            "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "type": "kwok"},
        },
        "status": {
            "allocatable": _CAPACITY,
            "capacity": _CAPACITY,
            "conditions": [{"type": "Ready", "status": "True", "reason": "Fake", "message": "kwok cares for its pods"}],
            "addresses": [{"type": "Hostname", "address": name}],
        },
    }


def permissions() -> list[tuple[str, dict[str, Any]]]:
    """Path and object of what kwok may do: nodes, pods, leases and events."""
    rules = [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch", "patch", "update"]},
        {"apiGroups": [""], "resources": ["nodes/status", "pods/status"], "verbs": ["patch", "update"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "patch", "update", "delete"]},
        {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch", "update"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["*"]},
    ]
    return cluster_role("devcluster:kwok", rules)


def stages_json() -> str:
    """Our options and all stages, as the stream of documents that kwok reads."""
    return "\n---\n".join(json.dumps(document) for document in (_options(), *stages()))


def _options() -> dict[str, Any]:
    """Many pods at a time: with kwok's own 4 it would be the slowest part of a load test.

    A configuration file sets aside kwok's own number of workers that look, once a node is known, at the pods that it
    has already; with none, such pods are never looked at.
    """
    parallel = {"podPlayStageParallelism": 32, "nodePlayStageParallelism": 4, "podsOnNodeSyncParallelism": 4}
    return {"apiVersion": "config.kwok.x-k8s.io/v1alpha1", "kind": "KwokConfiguration", "options": parallel}


def stages() -> list[dict[str, Any]]:
    """What happens to pods.

    Unlike with kwok's own stages a deleted pod first ends, as it would on a kubelet, and finalizers are left to their
    owners: a pod with our finalizer stays until the operator has read its outcome.
    """
    alive = _is(".metadata.deletionTimestamp", "DoesNotExist")
    deleted = _is(".metadata.deletionTimestamp", "Exists")
    of_job = _is(".metadata.ownerReferences.[].kind", "In", "Job")
    running = _is(".status.phase", "In", "Running")
    ended = ("Succeeded", "Failed")
    return [
        # never due, as the nodes are ready from the start; but kwok looks at no node without a stage for nodes
        _stage("node-ready", "Node", [_is(_READY, "NotIn", "True")], {"statusTemplate": "phase: Running"}),
        _stage("pod-ready", "Pod", [alive, _is(".status.phase", "In", "Pending")], {"statusTemplate": _pod_running()}),
        _stage("pod-complete", "Pod", [alive, running, of_job], {"statusTemplate": _pod_ended(0)}, delay=_RUN_FOR),
        _stage(
            "pod-terminate",
            "Pod",
            [deleted, _is(".status.phase", "NotIn", *ended)],
            {"statusTemplate": _pod_ended(143)},
        ),
        _stage("pod-delete", "Pod", [deleted, _is(".status.phase", "In", *ended)], {"delete": True}),
    ]


#: A pod of a Job runs for a second, or as long as its label says, `10s` or `1h`.
_RUN_FOR = {
    "durationMilliseconds": 1000,
    "durationFrom": {"expressionFrom": '.metadata.labels["devcluster/run-for"]'},
}
_READY = '.status.conditions.[] | select( .type == "Ready" ) | .status'


def _is(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}


def _stage(
    name: str,
    kind: str,
    conditions: list[dict[str, Any]],
    following: dict[str, Any],
    delay: dict[str, Any] | None = None,
) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "resourceRef": {"apiGroup": "v1", "kind": kind},
        "selector": {"matchExpressions": conditions},
        "next": following,
    }
    if delay:
        spec["delay"] = delay
    return {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage", "metadata": {"name": name}, "spec": spec}


def _pod_running() -> str:
    """Status of a pod that runs, other than before each time, as times count seconds and the message nanoseconds.

    Kwok may see an old state of a pod after a new one and repeat this stage in place of what was to follow; only a
    change of the pod makes it go on.
    """
    return """
{{ $now := Now }}
conditions:
{{ range $type := list "PodReadyToStartContainers" "Initialized" "ContainersReady" "Ready" }}
- {lastTransitionTime: {{ $now | Quote }}, status: "True", type: {{ $type }}, message: {{ $now | Quote }}}
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  ready: true
  started: true
  restartCount: 0
  state: {running: {startedAt: {{ $now | Quote }}}}
{{ end }}
initContainerStatuses:
{{ range .spec.initContainers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  ready: true
  restartCount: 0
  {{ if eq .restartPolicy "Always" }}
  started: true
  state: {running: {startedAt: {{ $now | Quote }}}}
  {{ else }}
  state: {terminated: {exitCode: 0, reason: Completed, startedAt: {{ $now | Quote }}, finishedAt: {{ $now | Quote }}}}
  {{ end }}
{{ end }}
phase: Running
startTime: {{ $now | Quote }}
"""


def _pod_ended(exit_code: int) -> str:
    reason, phase = ("Completed", "Succeeded") if exit_code == 0 else ("Error", "Failed")
    state = f"{{exitCode: {exit_code}, reason: {reason}, startedAt: {{{{ $start }}}}, finishedAt: {{{{ $now }}}}}}"
    status = f"""
- name: {{{{ .name | Quote }}}}
  image: {{{{ .image | Quote }}}}
  ready: false
  started: false
  restartCount: 0
  state: {{terminated: {state}}}
{{{{ end }}}}
"""
    return f"""
{{{{ $now := Now | Quote }}}}
{{{{ $start := or .status.startTime Now | Quote }}}}
conditions:
- {{lastTransitionTime: {{{{ $now }}}}, status: "False", type: Ready, reason: Pod{phase}}}
- {{lastTransitionTime: {{{{ $now }}}}, status: "False", type: ContainersReady, reason: Pod{phase}}}
containerStatuses:
{{{{ range .spec.containers }}}}{status}
initContainerStatuses:
{{{{ range .spec.initContainers }}}}{status}
phase: {phase}
"""
