"""The CRD, the models, the names and the generated files say the same."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from longtask_operator.api.crd import longtask_crd, tenantquota_crd
from longtask_operator.api.longtask import LongTaskSpec
from longtask_operator.api.status import LongTaskStatus

ROOT = Path(__file__).resolve().parents[2]
VERSION: dict[str, Any] = longtask_crd()["spec"]["versions"][0]
SCHEMA: dict[str, Any] = VERSION["schema"]["openAPIV3Schema"]


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield path and schema of every node."""
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from nodes(field, f"{path}.{name}")
    for word, suffix in (("items", "[]"), ("additionalProperties", ".*")):
        if word in schema:
            yield from nodes(schema[word], path + suffix)


SPEC = dict(nodes(SCHEMA["properties"]["spec"], "spec"))
STATUS = dict(nodes(SCHEMA["properties"]["status"], "status"))


def test_generated_files_are_fresh() -> None:
    check = subprocess.run([sys.executable, ROOT / "tools/generate.py", "--check"], capture_output=True, text=True)

    assert check.returncode == 0, check.stdout


def test_a_stale_file_is_noticed(tmp_path: Path) -> None:
    script = "import sys, pathlib, tools.generate as g; g.ROOT = pathlib.Path(sys.argv[1]); exit(g.main(['--check']))"

    check = subprocess.run([sys.executable, "-c", script, tmp_path], cwd=ROOT, capture_output=True, text=True)

    assert check.returncode == 1
    assert "crds/longtasks.yaml is out of date; run: python tools/generate.py" in check.stdout


def test_the_stored_file_has_no_yaml_anchors_and_fits_client_side_apply() -> None:
    text = (ROOT / "crds/longtasks.yaml").read_text(encoding="utf-8")

    assert "&id" not in text
    assert len(text) < 200_000


def test_names() -> None:
    names = longtask_crd()["spec"]["names"]

    assert names["shortNames"] == ["lt"]
    assert names["categories"] == ["longtask"]
    assert (names["singular"], names["listKind"]) == ("longtask", "LongTaskList")


def test_columns() -> None:
    columns = VERSION["additionalPrinterColumns"]
    narrow = [column["name"].upper() for column in columns if not column.get("priority")]
    wide = [column["name"].upper() for column in columns if column.get("priority")]

    assert narrow == ["TENANT", "PHASE", "PROGRESS", "ATTEMPT", "AGE"]
    assert wide == ["SIZE", "REASON", "JOB"]


@pytest.mark.parametrize(
    "path",
    [c["jsonPath"] for c in VERSION["additionalPrinterColumns"]] + [s["jsonPath"] for s in VERSION["selectableFields"]],
)
def test_columns_and_selectable_fields_exist(path: str) -> None:
    assert path.removeprefix(".") in STATUS | SPEC or path == ".metadata.creationTimestamp"


def test_every_field_has_a_description_of_whole_sentences() -> None:
    fields = {**SPEC, **STATUS}
    named = {path: node for path, node in fields.items() if not path.endswith(("[]", ".*"))}

    assert [path for path, node in named.items() if not node.get("description", "").endswith(".")] == []


def test_spec_has_no_defaults_and_status_says_not_seen_yet() -> None:
    assert [path for path, node in SPEC.items() if "default" in node] == []
    assert SCHEMA["properties"]["status"]["default"] == {"observedGeneration": -1}


def test_every_number_of_spec_has_two_bounds() -> None:
    numbers = {path: node for path, node in SPEC.items() if node.get("type") == "integer"}

    assert numbers
    assert [path for path, node in numbers.items() if not {"minimum", "maximum"} <= node.keys()] == []


def test_no_other_kind_is_in_a_category_that_is_a_name_of_ours() -> None:
    """kubectl takes the category first: with two kinds in it `kubectl get longtask NAME` is refused."""
    assert "categories" not in tenantquota_crd()["spec"]["names"]


def test_durations_are_called_seconds() -> None:
    words, counts = (
        ("timeout", "duration", "ttl", "deadline"),
        "spec.retry.limits.",
    )  # the latter are named after causes
    assert [path for path in SPEC if path.lower().endswith(words) and not path.startswith(counts)] == []


def test_patterns_are_left_to_the_policies() -> None:
    assert [path for path, node in SPEC.items() if "pattern" in node] == []


def test_rules_concern_the_name_and_status_alone() -> None:
    assert [rule["fieldPath"] for rule in SCHEMA["x-kubernetes-validations"]] == [".metadata.name"]
    assert [path for path, node in {**SPEC, **STATUS}.items() if "x-kubernetes-validations" in node] == ["status"]
    assert {rule["fieldPath"] for rule in STATUS["status"]["x-kubernetes-validations"]} == {
        ".tenant",
        ".attempt",
        ".run",
        ".conditions",
        ".checkpoint",
    }


def test_parts_of_status_are_owned_whole() -> None:
    """An owner of each field of each part would make every write dearer."""
    parts = STATUS["status"]["properties"]
    assert [n for n, p in parts.items() if p["type"] == "object" and p.get("x-kubernetes-map-type") != "atomic"] == []
    assert [name for name, p in parts.items() if p.get("x-kubernetes-list-type") == "map"] == ["conditions"]


@pytest.mark.parametrize(("model", "schema"), [(LongTaskSpec, SPEC["spec"]), (LongTaskStatus, STATUS["status"])])
def test_the_schema_has_the_fields_of_the_model(model: type[LongTaskSpec], schema: dict[str, Any]) -> None:
    aliases = {field.alias for field in model.model_fields.values()}

    assert schema["properties"].keys() == aliases


def test_the_chart_carries_the_same_crd() -> None:
    copy = yaml.safe_load((ROOT / "charts/longtask/files/crds/longtasks.yaml").read_text(encoding="utf-8"))

    assert copy == longtask_crd()
