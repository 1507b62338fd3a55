"""The rendered policies keep the rules that no single request can show, and the names of the code."""

from __future__ import annotations

import re
from typing import Any

import pytest

from longtask_operator.api import names
from tests.support.rules import ROOT, rendered_policies

DOCUMENTS = rendered_policies()
POLICIES = [d for d in DOCUMENTS if d["kind"] == "ValidatingAdmissionPolicy"]
ON_SPEC = [p for p in POLICIES if p["metadata"]["name"] in ("longtask-spec", "longtask-cluster", "longtask-freeze")]
ALL = pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy["metadata"]["name"])


def resources(policy: dict[str, Any]) -> set[str]:
    return {name for rule in policy["spec"]["matchConstraints"]["resourceRules"] for name in rule["resources"]}


def text(policy: dict[str, Any]) -> str:
    return str(policy["spec"])


def test_the_policies_on_spec_are_all_there() -> None:
    assert len(ON_SPEC) == 3


@pytest.mark.parametrize("policy", ON_SPEC, ids=lambda policy: policy["metadata"]["name"])
def test_a_policy_on_spec_runs_only_when_spec_changed(policy: dict[str, Any]) -> None:
    conditions = {condition["name"]: condition["expression"] for condition in policy["spec"]["matchConditions"]}

    assert conditions["spec-changed"] == "oldObject == null || object.spec != oldObject.spec"


def test_no_policy_meets_a_status_write_of_a_task() -> None:
    assert [p["metadata"]["name"] for p in DOCUMENTS if "longtasks/status" in text(p)] == []


@ALL
def test_a_fault_of_a_policy_lets_nothing_through(policy: dict[str, Any]) -> None:
    assert policy["spec"]["failurePolicy"] == "Fail"


@ALL
def test_no_parameter_object(policy: dict[str, Any]) -> None:
    """An API server that lost it once refuses every task afterwards (docs/adr/0010-values-inside-policies.md)."""
    assert "paramKind" not in policy["spec"]


@ALL
def test_every_policy_is_bound_and_denies(policy: dict[str, Any]) -> None:
    name = policy["metadata"]["name"]
    bindings = [d["spec"] for d in DOCUMENTS if d["kind"] == "ValidatingAdmissionPolicyBinding"]

    assert [b["validationActions"] for b in bindings if b["policyName"] == name] == [["Deny"]]


@ALL
def test_every_message_says_what_to_do(policy: dict[str, Any]) -> None:
    """A sentence in two halves, what is wrong and what to do, or one that says what is asked for."""
    messages = [validation["message"] for validation in policy["spec"]["validations"]]

    assert [m for m in messages if not re.search(r"; |, or |: set exactly one of ", m) or "\n" in m] == []


@ALL
def test_the_docs_name_it(policy: dict[str, Any]) -> None:
    assert f"`{policy['metadata']['name']}`" in (ROOT / "docs/reference/validation.md").read_text(encoding="utf-8")


def test_names_of_the_code_stand_in_the_policies() -> None:
    everything = " ".join(text(document) for document in DOCUMENTS)

    for name in (names.LABEL_TENANT, names.ANNOTATION_CREATED_BY, names.ANNOTATION_ALLOWED_SERVICE_ACCOUNTS):
        assert f"'{name}'" in everything.replace('"', "'")
    assert names.FINALIZER in everything
    assert f"startsWith('{names.ENV_PREFIX}')" in everything.replace("\\", "")


def test_every_label_of_ours_is_guarded_by_its_prefix() -> None:
    labels = [value for key, value in vars(names).items() if key.startswith("LABEL_") and key != "LABEL_MANAGED_BY"]

    assert labels
    assert all(label.startswith("longtask.dev/") for label in labels)


def test_switched_off() -> None:
    assert rendered_policies("policies.enabled=false") == []
