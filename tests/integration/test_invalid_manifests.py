"""Every manifest in `invalid/` is refused by the API server itself, with a sentence that says what to do.

A case has a `spec` (null: none) or `metadata`, and `says`, a part of the answer. Large specs are written
short: `repeat` makes that many items of a list, `stretch` a string of that length, `payloadBytes` a
payload of exactly that size as compact JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.rules import Api, ControlPlane, a_longtask, installed

pytestmark = pytest.mark.integration

CASES = [
    pytest.param(case, id=f"{file.stem}: {case['case']}")
    for file in sorted((Path(__file__).parent / "invalid").glob("*.yaml"))
    for case in yaml.safe_load(file.read_text(encoding="utf-8"))
]


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> Iterator[Api]:
    with installed(control_plane, "invalid-manifests") as api:
        yield api


def manifest(case: dict[str, Any], namespace: str) -> dict[str, Any]:
    """Return the full LongTask of a case."""
    task = a_longtask("invalid", namespace)
    task["spec"] = case["spec"]
    if "metadata" in case:
        task["metadata"] = {"namespace": namespace, **case["metadata"]}
    for field, count in case.get("repeat", {}).items():
        task["spec"][field] = [_numbered(task["spec"][field][0], i) for i in range(count)]
    for field, length in case.get("stretch", {}).items():
        task["spec"][field] = "x" * length
    if "payloadBytes" in case:
        task["spec"]["payload"] = {"a": "x" * (case["payloadBytes"] - len('{"a":""}'))}
    if task["spec"] is None:
        del task["spec"]
    return task


def _numbered(item: Any, number: int) -> Any:
    """Named items need names that differ."""
    return {**item, "name": f"{item['name']}{number}"} if isinstance(item, dict) and "name" in item else item


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dry_run", ["--dry-run=none", "--dry-run=server"])
def test_refused(api: Api, case: dict[str, Any], dry_run: str) -> None:
    answer = api.create(manifest(case, api.namespace), dry_run)

    assert answer.returncode != 0, f"accepted: {answer.stdout}"
    assert case["says"].format(namespace=api.namespace) in answer.stderr
    assert "cost budget" not in answer.stderr


def test_nothing_of_it_is_stored(api: Api) -> None:
    assert api.run("-n", api.namespace, "get", "longtasks", "-o", "name", check=True).stdout == ""


def test_a_refused_apply_keeps_the_stored_task(api: Api) -> None:
    good = a_longtask("kept", api.namespace, priority=1)
    assert api.run("apply", "-f", "-", document=good).returncode == 0

    answer = api.run("apply", "-f", "-", document=a_longtask("kept", api.namespace, resources={"cpu": "3"}))

    assert "choose one of 250m, 500m, 1, 2, 4, or leave cpu out" in answer.stderr
    assert api.get("longtask/kept")["spec"] == good["spec"]
