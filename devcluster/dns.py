"""The cluster's name service: CoreDNS runs beside the kubelet and is reached through the usual Service kube-dns."""

from __future__ import annotations

import urllib.request
from typing import Any

from devcluster.kube import cluster_role
from devcluster.plan import DNS_IP, Plan

_PORTS = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]


def objects(plan: Plan) -> list[tuple[str, dict[str, Any]]]:
    """Path and object of CoreDNS' permissions, of the Service and of its one endpoint."""
    about = {"name": "kube-dns", "namespace": "kube-system"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {**about, "labels": {"k8s-app": "kube-dns"}},
        "spec": {"clusterIP": DNS_IP, "ports": _PORTS},
    }
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**about, "labels": {"kubernetes.io/service-name": "kube-dns"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [plan.host], "conditions": {"ready": True}}],
        "ports": _PORTS,
    }
    rules = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    return [
        *cluster_role("devcluster:coredns", rules),
        ("/api/v1/namespaces/kube-system/services/kube-dns", service),
        ("/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/kube-dns", endpoints),
    ]


def ready(plan: Plan) -> bool:
    """Whether CoreDNS has read the cluster's services."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{plan.host}:8181/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
