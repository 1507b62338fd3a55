"""What Helm 4 and Flux (kstatus), Argo CD (Lua) and Flux (CEL) make of a LongTask, row by row of the table."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import celpy
import lupa.lua51
import pytest
import yaml
from celpy.adapter import json_to_cel

from tests.chart.rendering import ROOT
from tests.chart.statuses import CANCELLED, CASES, FAILED, RUNNING, SUCCEEDED, Case
from tests.support.kstatus import kstatus

ARGO_CD = ROOT / "gitops" / "argo-cd"
FLUX_PAGE = ROOT / "docs" / "how-to" / "flux.md"
ACTIONS = ("suspend", "resume", "cancel", "redrive")


def run_lua(script: str, body: dict[str, Any]) -> dict[str, Any]:
    """Run a script as Argo CD does: Lua 5.1, global obj, only the base, table, package and os libraries."""
    lua = lupa.lua51.LuaRuntime(unpack_returned_tuples=True)
    lua.execute("string, math, io, debug, coroutine = nil; os = {date = os.date, time = os.time}")
    lua.execute("package.loaded.os = os; package.loaded.string = nil; package.loaded.io = nil")
    lua.globals().obj = lua.table_from(body, recursive=True)
    result = to_python(lua.execute(script))
    assert isinstance(result, dict)
    return result


def to_python(value: Any) -> Any:
    """Return a Lua value as Python's; a table with the keys 1..n is a list."""
    if lupa.lua51.lua_type(value) != "table":
        return value
    items = {key: to_python(item) for key, item in value.items()}
    return list(items.values()) if items and list(items) == list(range(1, len(items) + 1)) else items


def health(body: dict[str, Any]) -> dict[str, Any]:
    return run_lua((ARGO_CD / "health.lua").read_text(), body)


def discovery(body: dict[str, Any]) -> dict[str, Any]:
    return run_lua((ARGO_CD / "actions" / "discovery.lua").read_text(), body)


def act(name: str, body: dict[str, Any]) -> dict[str, Any]:
    return run_lua((ARGO_CD / "actions" / f"{name}.lua").read_text(), body)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_kstatus(case: Case) -> None:
    assert kstatus(case.body()) == case.kstatus


def test_kstatus_of_a_task_being_deleted() -> None:
    body = CASES["running"].body()
    body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert kstatus(body) == "Terminating"


def test_kstatus_knows_reconciling_and_a_missing_status() -> None:
    body = CASES["running"].body()
    body["status"]["conditions"].append({"type": "Reconciling", "status": "True"})
    assert kstatus(body) == "InProgress"
    assert kstatus({"metadata": {"generation": 1}}) == "Current"


def test_kstatus_fails_on_a_generation_that_is_no_integer() -> None:
    body = CASES["running"].body()
    body["status"]["observedGeneration"] = "3"
    with pytest.raises(TypeError, match="integer"):
        kstatus(body)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_argo_cd_health(case: Case) -> None:
    assert health(case.body())["status"] == case.argo_cd


def test_argo_cd_health_of_an_object_without_status() -> None:
    body = CASES["unseen"].body()
    del body["status"]
    assert health(body) == {"status": "Progressing", "message": "Waiting for the operator"}


def test_argo_cd_says_why() -> None:
    assert health(CASES["failed"].body())["message"] == "Succeeded is False"
    body = CASES["running"].body()
    for condition in body["status"]["conditions"]:
        condition["message"] = ""
    assert health(body)["message"] == "Running"


@pytest.mark.parametrize(
    ("conditions", "spec", "enabled"),
    [
        ({}, {}, {"suspend", "cancel"}),
        (RUNNING, {}, {"suspend", "cancel"}),
        (RUNNING, {"suspend": True}, {"resume", "cancel"}),
        (RUNNING, {"cancel": True}, {"suspend"}),
        (SUCCEEDED, {}, {"redrive"}),
        (FAILED, {"suspend": True}, {"redrive"}),
        (CANCELLED, {"cancel": True}, {"redrive"}),
    ],
)
def test_argo_cd_offers_what_makes_sense(conditions: Any, spec: dict[str, Any], enabled: set[str]) -> None:
    case = Case(conditions=conditions, spec=spec, kstatus="", argo_cd="", flux="")
    offered = discovery(case.body())
    assert set(offered) == set(ACTIONS)
    assert {name for name, action in offered.items() if not action["disabled"]} == enabled


@pytest.mark.parametrize(
    ("action", "spec", "wanted"),
    [
        ("suspend", {}, {"suspend": True}),
        ("resume", {"suspend": True}, {"suspend": False}),
        ("cancel", {}, {"cancel": True}),
    ],
)
def test_argo_cd_actions_change_one_field(action: str, spec: dict[str, Any], wanted: dict[str, Any]) -> None:
    before = Case(conditions=RUNNING, spec=spec, kstatus="", argo_cd="", flux="").body()
    after = act(action, before)
    assert after["spec"] == {"image": "i", **wanted}
    assert {**after, "spec": None} == {**before, "spec": None}


def test_argo_cd_redrive_gives_a_new_value_and_clears_the_way() -> None:
    body = Case(
        conditions=CANCELLED, spec={"cancel": True, "suspend": True, "redrive": "1"}, kstatus="", argo_cd="", flux=""
    ).body()
    spec = act("redrive", body)["spec"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", spec["redrive"])
    assert (spec["cancel"], spec["suspend"]) == (False, False)
    assert set(act("redrive", CASES["failed"].body())["spec"]) == {"image", "redrive"}


def test_argo_cd_settings_hold_the_lua_files() -> None:
    done = subprocess.run([sys.executable, str(ARGO_CD / "build.py"), "--check"], check=False)
    assert done.returncode == 0
    data = yaml.safe_load((ARGO_CD / "argocd-cm.yaml").read_text())["data"]
    prefix = "resource.customizations"
    assert data[f"{prefix}.health.longtask.dev_LongTask"] == (ARGO_CD / "health.lua").read_text()
    actions = yaml.safe_load(data[f"{prefix}.actions.longtask.dev_LongTask"])
    assert actions["discovery.lua"] == (ARGO_CD / "actions" / "discovery.lua").read_text()
    written = {item["name"]: item["action.lua"] for item in actions["definitions"]}
    assert written == {name: (ARGO_CD / "actions" / f"{name}.lua").read_text() for name in ACTIONS}
    ignored = yaml.safe_load(data[f"{prefix}.ignoreResourceUpdates.longtask.dev_LongTask"])
    assert ignored == {"jsonPointers": ["/status"]}


def flux_checks() -> list[dict[str, str]]:
    """Return healthCheckExprs as the page for Flux users shows them."""
    blocks = re.findall(r"```yaml\n(.*?)```", FLUX_PAGE.read_text(), flags=re.DOTALL)
    documents = [document for block in blocks for document in yaml.safe_load_all(block)]
    found = [document["spec"]["healthCheckExprs"] for document in documents if "healthCheckExprs" in document["spec"]]
    assert found, "the page shows no healthCheckExprs"
    assert all(checks == found[0] for checks in found)
    checks: list[dict[str, str]] = found[0]
    return checks


def evaluate(expression: str, body: dict[str, Any]) -> bool:
    """Return the value of a CEL expression over the object's fields, as Flux evaluates it."""
    environment = celpy.Environment()
    program = environment.program(environment.compile(expression))
    return bool(program.evaluate({key: json_to_cel(value) for key, value in body.items()}))


def flux_verdict(body: dict[str, Any]) -> str:
    """Return Flux's verdict: inProgress, failed and current are asked in this order."""
    (check,) = [item for item in flux_checks() if item["kind"] == "LongTask"]
    for key, verdict in (("inProgress", "InProgress"), ("failed", "Failed"), ("current", "Current")):
        if key in check and evaluate(check[key], body):
            return verdict
    return "InProgress"


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_flux_health(case: Case) -> None:
    assert flux_verdict(case.body()) == case.flux


def test_flux_checks_name_our_kind() -> None:
    assert {(check["apiVersion"], check["kind"]) for check in flux_checks()} == {("longtask.dev/v1alpha1", "LongTask")}
