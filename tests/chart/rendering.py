"""Renders the chart with Helm for the tests of this folder and of tests/contract."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "longtask"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
KUBE_VERSION = "1.36.0"
NAMESPACE = "longtask-system"

#: Every optional part switched on, so that all templates render.
EVERYTHING: dict[str, Any] = {
    "image": {"pullSecrets": ["registry"]},
    "metrics": {
        "serviceMonitor": {"enabled": True},
        "podMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
    },
    "networkPolicy": {"enabled": True},
    "podDisruptionBudget": {"enabled": True},
    "kueue": {"enabled": True},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "extra"}}],
}


class HelmError(Exception):
    """Helm refused; the text is what it wrote to stderr."""


def helm(*args: str, stdin: str = "") -> str:
    """Return the standard output of Helm 3 from the project's environment. Raises HelmError."""
    program = Path(sys.executable).parent / "helm"
    done = subprocess.run([str(program), *args], input=stdin, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise HelmError(done.stderr)
    return done.stdout


@cache
def binary(name: str) -> str:
    """Return the path of a program that devcluster builds, for example helm (4) or kubeconform."""
    command = [sys.executable, "-m", "devcluster", "binary", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=True)
    return done.stdout.strip().splitlines()[-1]


def nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Return {a: {b: value}} for the path (a, b)."""
    for key in reversed(path):
        value = {key: value}
    result: dict[str, Any] = value
    return result


@cache
def _render(values: str, kube_version: str, release: str) -> str:
    args = ["template", release, str(CHART), "--namespace", NAMESPACE, "--kube-version", kube_version, "--values", "-"]
    return helm(*args, stdin=values)


def render(values: dict[str, Any] | None = None, *, kube_version: str = KUBE_VERSION, release: str = "longtask") -> str:
    """Return the rendered text of a release. Raises HelmError where the chart refuses the values."""
    return _render(json.dumps(values or {}), kube_version, release)


def objects(values: dict[str, Any] | None = None, *, release: str = "longtask") -> list[dict[str, Any]]:
    """Return the rendered objects, hooks included."""
    return [item for item in yaml.safe_load_all(render(values, release=release)) if item]


def one(kind: str, name: str, values: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the one rendered object of that kind and name."""
    found = [item for item in objects(values) if item["kind"] == kind and item["metadata"]["name"] == name]
    assert len(found) == 1, f"{kind} {name}: {len(found)} found"
    return found[0]


def operator_container(values: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the operator's container."""
    container: dict[str, Any] = one("Deployment", "longtask-operator", values)["spec"]["template"]["spec"][
        "containers"
    ][0]
    return container


def environment(values: dict[str, Any] | None = None) -> dict[str, str]:
    """Return the operator's plain environment variables."""
    return {item["name"]: item["value"] for item in operator_container(values)["env"] if "value" in item}


def properties(path: tuple[str, ...]) -> dict[str, Any] | None:
    """Return the named properties of the schema's section at path, or None where the path is a value of its own."""
    node = SCHEMA
    for key in path:
        node = node["properties"][key]
    found: dict[str, Any] | None = node.get("properties")
    return found


#: Values that take a Kubernetes structure as it is, though the schema knows its fields.
STRUCTURES = {("resources",), ("podSecurityContext",), ("securityContext",), ("affinity",)}


def leaves(path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the paths of all values of the chart: what a user sets as one thing."""
    inner = properties(path)
    if path and (inner is None or path in STRUCTURES):
        return [path]
    return [leaf for key in inner or {} if (*path, key) != ("global",) for leaf in leaves((*path, key))]


def value_at(path: tuple[str, ...]) -> Any:
    """Return the default of a value."""
    node: Any = VALUES
    for key in path:
        node = node[key]
    return node
