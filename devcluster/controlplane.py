"""Command lines of etcd, the API server, the controller manager and the scheduler: pure functions of the plan."""

from __future__ import annotations

import json
from typing import Any

from devcluster.paths import ClusterPaths
from devcluster.plan import LOOPBACK, POD_CIDR, SERVICE_CIDR, Plan

ISSUER = "https://kubernetes.default.svc.cluster.local"
# Load tests create thousands of objects: a limit below what the machine can do would measure the client's throttle.
_CLIENT_RATE = ["--kube-api-qps=2000", "--kube-api-burst=4000"]


def etcd(paths: ClusterPaths, plan: Plan) -> list[str]:
    """Arguments of etcd; it never calls fsync, so a machine that loses power loses the cluster."""
    peer = f"http://{LOOPBACK}:{plan.peer_port}"
    return [
        f"--data-dir={paths.root / 'etcd'}",
        "--unsafe-no-fsync",
        f"--listen-client-urls={plan.etcd_url}",
        f"--advertise-client-urls={plan.etcd_url}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        f"--quota-backend-bytes={8 * 2**30}",
        "--log-level=warn",
    ]


def api_server(paths: ClusterPaths, plan: Plan) -> list[str]:
    """Arguments of the API server: Node and RBAC authorization, service account tokens, an audit log."""
    pki = paths.pki
    return [
        f"--etcd-servers={plan.etcd_url}",
        f"--bind-address={plan.host}",
        f"--advertise-address={plan.host}",
        f"--secure-port={plan.api_port}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--token-auth-file={pki / 'tokens.csv'}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged",
        f"--service-account-key-file={pki / 'sa.pub'}",
        f"--service-account-signing-key-file={pki / 'sa.key'}",
        f"--service-account-issuer={ISSUER}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        f"--audit-policy-file={plan.spec.audit_policy or paths.root / 'audit-policy.json'}",
        f"--audit-log-path={paths.audit_log}",
        "--audit-log-maxsize=2000",
        "--profiling=false",
        *_kubelet_access(paths, plan),
        *(["--etcd-compaction-interval=0"] if plan.spec.keep_history else []),
    ]


def _kubelet_access(paths: ClusterPaths, plan: Plan) -> list[str]:
    if not plan.real:
        # nothing inside the cluster connects to the API server, and loopback is no valid endpoint
        return ["--endpoint-reconciler-type=none"]
    return [
        f"--kubelet-certificate-authority={paths.pki / 'ca.crt'}",
        f"--kubelet-client-certificate={paths.pki / 'kubelet-client.crt'}",
        f"--kubelet-client-key={paths.pki / 'kubelet-client.key'}",
        "--kubelet-preferred-address-types=InternalIP",
    ]


def controller_manager(paths: ClusterPaths, plan: Plan) -> list[str]:
    """Arguments of the controller manager; every controller has its own service account."""
    return [
        f"--kubeconfig={paths.component_kubeconfig('kube-controller-manager')}",
        "--leader-elect=false",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={paths.pki / 'sa.key'}",
        f"--root-ca-file={paths.pki / 'ca.crt'}",
        f"--cluster-signing-cert-file={paths.pki / 'ca.crt'}",
        f"--cluster-signing-key-file={paths.pki / 'ca.key'}",
        f"--cluster-cidr={POD_CIDR}",
        "--secure-port=0",
        "--concurrent-job-syncs=20",
        # thousands of fake nodes would do nothing but renew leases
        *(["--node-monitor-grace-period=8760h"] if plan.nodes.kind == "fake" else []),
        *_CLIENT_RATE,
    ]


def scheduler(paths: ClusterPaths) -> list[str]:
    """Arguments of the scheduler."""
    kubeconfig = paths.component_kubeconfig("kube-scheduler")
    return [f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--secure-port=0", *_CLIENT_RATE]


def audit_policy() -> dict[str, Any]:
    """Every write of anyone and every read of clients that are not part of Kubernetes, without bodies.

    Leases are read all the time, which says nothing about a client's behaviour: only their writes are kept.
    """
    reads = ["get", "list", "watch"]
    components = ["system:apiserver", "system:kube-controller-manager", "system:kube-scheduler", "system:kube-proxy"]
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "nonResourceURLs": ["/*"]},
            {"level": "None", "verbs": reads, "users": [*components, "devcluster:coredns", "devcluster:kwok"]},
            {"level": "None", "verbs": reads, "userGroups": ["system:nodes", "system:serviceaccounts:kube-system"]},
            {"level": "None", "verbs": reads, "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}]},
            {"level": "Metadata"},
        ],
    }


def audit_policy_json() -> str:
    """The policy as the API server reads it."""
    return json.dumps(audit_policy(), indent=2) + "\n"
