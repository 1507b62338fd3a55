"""Every value of the chart is described, checked by the schema and does something."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from tests.chart.rendering import (
    CHART,
    EVERYTHING,
    KUBE_VERSION,
    ROOT,
    SCHEMA,
    VALUES,
    HelmError,
    helm,
    leaves,
    nested,
    properties,
    render,
    value_at,
)

LEAVES = leaves()

#: Another valid value, where "the other boolean, one more, one letter more" does not do.
OTHER: dict[str, Any] = {
    "commonLabels": {"team": "platform"},
    "image.registry": "registry.example",
    "image.tag": "9.9.9",
    "image.digest": "sha256:" + "0" * 64,
    "image.pullPolicy": "Always",
    "image.pullSecrets": ["other"],
    "crds.annotations": {"example.com/a": "b"},
    "ladder": {"8": ["16Gi"]},
    "sizing.inputs.rules": [{"image": "r/*", "base": "256Mi", "percent": 150}],
    "sizing.inputs.uris": ["s3://data/{tenant}/"],
    "networkPolicy.extraEgress": [{"ports": [{"port": 9000, "protocol": "TCP"}]}],
    "tenants.unlabelled": "Refuse",
    "defaultTenantQuota.cpu": "8",
    "defaultTenantQuota.memory": "32Gi",
    "serviceAccounts.allowed": ["wordcount"],
    "createdBy.mode": "Validate",
    "trustedSubmitters": ["system:serviceaccount:argocd:argocd-application-controller"],
    "ephemeralStorageLimit": "3Gi",
    "task.imagePullPolicy": "Always",
    "task.copiedLabels": ["team"],
    "sidecar.image.registry": "registry.example",
    "sidecar.image.tag": "9.9.9",
    "sidecar.image.digest": "sha256:" + "0" * 64,
    "metrics.serviceMonitor.interval": "17s",
    "metrics.serviceMonitor.scrapeTimeout": "7s",
    "metrics.serviceMonitor.labels": {"release": "prometheus"},
    "metrics.podMonitor.interval": "17s",
    "metrics.podMonitor.scrapeTimeout": "7s",
    "metrics.podMonitor.labels": {"release": "prometheus"},
    "metrics.prometheusRule.labels": {"release": "prometheus"},
    "metrics.prometheusRule.runbookBaseUrl": "https://docs.example/alerts",
    "log.level": "DEBUG",
    "log.format": "console",
    "resources": {"limits": {"memory": "1Gi"}},
    "podSecurityContext": {"runAsUser": 1001},
    "securityContext": {"capabilities": {"add": ["NET_BIND_SERVICE"]}},
    "tmpSizeLimit": "65Mi",
    "podLabels": {"team": "platform"},
    "podAnnotations": {"example.com/a": "b"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}},
    "topologySpreadConstraints": [
        {"maxSkew": 2, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
    ],
    "extraEnv": [{"name": "NO_PROXY", "value": "*"}],
    "serviceAccount.annotations": {"example.com/role": "x"},
    "networkPolicy.metricsFrom": [{"namespaceSelector": {"matchLabels": {"team": "platform"}}}],
    "networkPolicy.apiServerCIDRs": ["10.0.0.0/8"],
    "networkPolicy.apiServerPorts": [443],
    "extraObjects": ["apiVersion: v1\nkind: ConfigMap\nmetadata: {name: of-{{ .Release.Name }}}"],
}


def other_value(path: tuple[str, ...]) -> Any:
    """Return a valid value that is not the default."""
    default = value_at(path)
    if isinstance(default, bool):
        return not default
    if isinstance(default, int | float):
        return default + 1
    if ".".join(path) in OTHER:
        return OTHER[".".join(path)]
    assert isinstance(default, str), f"give {'.'.join(path)} a value in OTHER"
    return f"{default}x"


def merged(base: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Return base with one value set, base unchanged."""
    if not path:
        return value  # type: ignore[no-any-return]
    return {**base, path[0]: merged(base.get(path[0], {}), path[1:], value)}


@pytest.mark.parametrize("path", LEAVES, ids=".".join)
def test_every_value_changes_something(path: tuple[str, ...]) -> None:
    switch: Any = not value_at(path) if isinstance(value_at(path), bool) else other_value(path)
    before = EVERYTHING if path[-1] != "enabled" else merged(EVERYTHING, path, value_at(path))
    assert render(merged(before, path, switch)) != render(before)


def test_values_and_schema_name_the_same_keys() -> None:
    assert set(VALUES) == set(SCHEMA["properties"]) - {"global"}
    for path in LEAVES:
        value_at(path)


def sections() -> list[tuple[str, ...]]:
    return sorted({path[:depth] for path in LEAVES for depth in range(len(path))})


@pytest.mark.parametrize("path", sections(), ids=lambda path: ".".join(path) or "root")
def test_every_section_refuses_an_unknown_key(path: tuple[str, ...]) -> None:
    assert properties(path)
    with pytest.raises(HelmError, match=r"[Aa]dditional propert(y|ies)"):
        render(nested((*path, "noSuchKey"), 1))


def open_objects(node: Any, path: str = "") -> list[str]:
    """Return where the schema lets any key through."""
    if isinstance(node, list):
        return [hit for index, item in enumerate(node) for hit in open_objects(item, f"{path}/{index}")]
    if not isinstance(node, dict):
        return []
    here = [path] if node.get("type") == "object" and node.get("additionalProperties", True) is True else []
    return here + [hit for key, item in node.items() for hit in open_objects(item, f"{path}/{key}")]


def test_only_kubernetes_structures_are_open_in_the_schema() -> None:
    assert open_objects(SCHEMA) == [
        "/properties/global",
        "/properties/affinity/properties/nodeAffinity",
        "/properties/affinity/properties/podAffinity",
        "/properties/affinity/properties/podAntiAffinity",
        "/properties/extraObjects/items/anyOf/0",
    ]


def unbounded(node: Any, path: str = "") -> list[str]:
    """Return the strings, numbers and lists of the schema that have no upper bound."""
    if isinstance(node, list):
        return [hit for index, item in enumerate(node) for hit in unbounded(item, f"{path}/{index}")]
    if not isinstance(node, dict):
        return []
    bound = {"string": "maxLength", "integer": "maximum", "number": "maximum", "array": "maxItems"}.get(
        str(node.get("type")), ""
    )
    here = [path] if bound and bound not in node and "enum" not in node else []
    return here + [hit for key, item in node.items() for hit in unbounded(item, f"{path}/{key}")]


def test_everything_in_the_schema_is_bounded() -> None:
    assert unbounded(SCHEMA) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("replicaCount", -1),
        ("replicaCount", "1"),
        ("reports.port", 0),
        ("reports.port", 70000),
        ("image.digest", "sha256:abc"),
        ("image.pullPolicy", "Sometimes"),
        ("createdBy.mode", "mutate"),
        ("tenants.unlabelled", "own"),
        ("ladder", {"quarter": ["1Gi"]}),
        ("ladder", {"250m": []}),
        ("ladder", {"0": ["1Gi"]}),
        ("ladder", {"250m": ["0Mi"]}),
        ("ladder", {"250m": ["1G i"]}),
        ("sizing.inputs.rules", [{"image": "a*b", "base": "1Gi", "percent": 1}]),
        ("sizing.inputs.rules", [{"image": "a;b", "base": "1Gi", "percent": 1}]),
        ("sizing.inputs.rules", [{"image": "a", "base": "1 Gi", "percent": 1}]),
        ("sizing.inputs.rules", [{"image": "a", "base": "1Gi", "percent": 10001}]),
        ("sizing.inputs.rules", [{"image": "a", "base": "1Gi"}]),
        ("sizing.inputs.uris", ["s3://data"]),
        ("sizing.inputs.uris", ["s3://data/a,b/"]),
        ("sizing.inputs.uris", ["file:///data/"]),
        ("sizing.inputs.waitSeconds", 61),
        ("log.level", "TRACE"),
        ("lease.durationSeconds", 1),
        ("extraEnv", [{"name": "1X"}]),
        ("metrics.serviceMonitor.interval", "soon"),
        ("networkPolicy.apiServerCIDRs", ["everywhere"]),
        ("commonLabels", {"a b": "c"}),
        ("securityContext", {"runAsRoot": True}),
    ],
)
def test_a_bad_value_is_refused_and_named(path: str, value: Any) -> None:
    with pytest.raises(HelmError) as refused:
        render(nested(tuple(path.split(".")), value))
    assert path.split(".")[0] in str(refused.value)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"lease": {"renewDeadlineSeconds": 15}}, "lease.renewDeadlineSeconds must be less than lease.durationSeconds"),
        ({"lease": {"retrySeconds": 10}}, "lease.retrySeconds must be less than lease.renewDeadlineSeconds"),
        ({"reports": {"port": 8080}}, "reports.port and metrics.port must differ"),
        ({"extraEnv": [{"name": "LONGTASK_OPERATOR_WORKERS", "value": "1"}]}, "extraEnv must not set"),
    ],
)
def test_values_that_contradict_each_other_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(HelmError, match=sentence):
        render(values)


def test_two_rungs_of_one_cpu_are_refused_until_one_is_taken_away() -> None:
    with pytest.raises(HelmError, match='ladder: "1" and "1000m" are the same CPU; keep one and set the other to null'):
        render({"ladder": {"1000m": ["4Gi"]}})
    assert render({"ladder": {"1000m": ["4Gi"], "1": None}})


def test_an_empty_ladder_is_refused() -> None:
    with pytest.raises(HelmError, match="ladder"):
        render({"ladder": dict.fromkeys(VALUES["ladder"])})


def test_an_old_cluster_is_told_what_to_set() -> None:
    with pytest.raises(
        HelmError, match=r"needs Kubernetes 1\.36 or newer, this is v1\.35\.0: set createdBy.mode=Validate"
    ):
        render(kube_version="1.35.0")
    assert render({"createdBy": {"mode": "Validate"}}, kube_version="1.33.0")
    with pytest.raises(HelmError, match=r"kubeVersion: >=1\.33\.0-0"):
        render({"createdBy": {"mode": "Validate"}}, kube_version="1.32.0")


def test_a_vendor_version_is_accepted() -> None:
    assert render(kube_version="v1.36.2-eks-1234567")


def test_lint_is_clean() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART), "--kube-version", KUBE_VERSION)


def test_the_reference_of_values_is_fresh() -> None:
    command = [sys.executable, str(ROOT / "tools" / "chart_docs.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
