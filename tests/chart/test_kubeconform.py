"""All rendered objects against the JSON schemas of the oldest and the newest Kubernetes, unknown fields refused."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.chart.rendering import EVERYTHING, binary, render

#: Kinds of the Prometheus operator; their schemas are not part of Kubernetes.
FOREIGN = "ServiceMonitor,PodMonitor,PrometheusRule"


def schema_folder(version: str, target: Path) -> Path:
    """Copy the schemas of one Kubernetes version from the package kubernetes-validate, with references to files."""
    spec = importlib.util.find_spec("kubernetes_validate")
    assert spec is not None, "kubernetes-validate is not installed"
    assert spec.submodule_search_locations
    source = Path(spec.submodule_search_locations[0]) / "kubernetes-json-schema" / f"v{version}-local-strict"
    for path in source.glob("*.json"):
        # References and ids are web addresses there; kubeconform would fetch them.
        schema = json.loads(path.read_text().replace('"/api/_definitions.json', '"_definitions.json'))
        schema.pop("$id", None)
        (target / path.name).write_text(json.dumps(schema))
    return target


def conform(text: str, version: str, folder: Path) -> dict[str, Any]:
    """Return kubeconform's report."""
    location = f"{schema_folder(version, folder)}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    command = [binary("kubeconform"), "-strict", "-summary", "-output", "json", "-skip", FOREIGN]
    command += ["-kubernetes-version", version, "-schema-location", location, "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=300, check=False)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize(
    ("version", "mode"), [("1.33.0", "Validate"), ("1.36.0", "Mutate"), ("1.36.0", "Off"), ("1.37.0", "Mutate")]
)
def test_rendered_objects_conform(version: str, mode: str, tmp_path: Path) -> None:
    text = render({**EVERYTHING, "createdBy": {"mode": mode}}, kube_version=version)
    report = conform(text, version, tmp_path)
    assert report.get("resources", []) == []
    assert report["summary"]["valid"] > 35
    assert (report["summary"]["invalid"], report["summary"]["errors"]) == (0, 0)


def test_an_unknown_field_is_found(tmp_path: Path) -> None:
    text = render().replace("replicas: 1", "replicas: 1\n  replica: 1")
    assert conform(text, "1.36.0", tmp_path)["summary"]["invalid"] == 1
