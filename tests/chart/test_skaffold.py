"""skaffold.yaml: right by its schema, and in step with the chart and the Dockerfiles it names."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from longtask_operator.api import names
from tests.chart.rendering import ROOT, leaves, value_at

CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
RELEASE: dict[str, Any] = CONFIG["deploy"]["helm"]["releases"][0]
ARTIFACTS: dict[str, Any] = {artifact["image"]: artifact for artifact in CONFIG["build"]["artifacts"]}


def schema_errors(config: dict[str, Any], folder: Path) -> str:
    """Return what check-jsonschema finds; empty when the file is right."""
    path = folder / "skaffold.yaml"
    path.write_text(yaml.safe_dump(config))
    program = Path(sys.executable).parent / "check-jsonschema"
    command = [str(program), "--schemafile", str(ROOT / "tools" / "schemas" / "skaffold.json"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr if done.returncode else ""


def test_the_schema_accepts_it(tmp_path: Path) -> None:
    assert schema_errors(CONFIG, tmp_path) == ""


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("apiVersion",), "skaffold/v4beta99"),
        (("deploy", "helm", "releases", 0, "chart"), "x"),
        (("build", "artifacts", 0, "image"), 1),
        (("resourceSelector", "allow", 0, "image"), ["spec.image"]),
    ],
)
def test_the_schema_refuses_mistakes(tmp_path: Path, path: tuple[Any, ...], value: Any) -> None:
    config: Any = copy.deepcopy(CONFIG)
    node = config
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    assert schema_errors(config, tmp_path) != ""


def test_it_builds_the_images_that_the_chart_runs() -> None:
    assert set(ARTIFACTS) == {value_at(("image", "repository")), value_at(("sidecar", "image", "repository"))}


def test_it_sets_values_that_the_chart_has() -> None:
    keys = {*RELEASE["setValues"], *RELEASE["setValueTemplates"]}
    for profile in CONFIG["profiles"]:
        keys |= {patch["path"].rsplit("/", 1)[1] for patch in profile["patches"]}
    assert keys <= {".".join(path) for path in leaves()}
    assert (ROOT / RELEASE["chartPath"] / "Chart.yaml").exists()


def test_templates_name_the_artifacts_as_skaffold_spells_them() -> None:
    """Anything but letters and digits becomes _ in the name of the variable."""
    spelled = {re.sub(r"[^A-Za-z0-9]", "_", image) for image in ARTIFACTS}
    used = re.findall(r"\{\{\.IMAGE_(?:REPO|TAG)_(\w+)\}\}", " ".join(RELEASE["setValueTemplates"].values()))
    assert set(used) == spelled


@pytest.mark.parametrize("image", ARTIFACTS)
def test_watched_sources_exist(image: str) -> None:
    for pattern in ARTIFACTS[image]["custom"]["dependencies"]["paths"]:
        assert list(ROOT.glob(pattern)), pattern


def test_images_in_longtasks_are_replaced() -> None:
    assert CONFIG["resourceSelector"]["allow"] == [
        {"groupKind": f"{names.LONGTASK_KIND}.{names.GROUP}", "image": [".spec.image"]}
    ]
