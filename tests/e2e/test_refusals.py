"""What a real API server refuses is a wait: said within seconds, holding nothing, ended by the cause's end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.stage import Stage, says
from tests.support.live import Json, await_

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
NewStage = Callable[..., Stage]
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
BINDINGS = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"


def held_back(stage: Stage, name: str) -> Json:
    """Return the status of a task that is refused, once nothing is left of its attempt."""
    stage.tasks.create(name, says({"made": name}))
    status = stage.tasks.until(name, "refused", lambda s: s.get("reason") == "RefusedByCluster", 30)
    jobs = f"/apis/batch/v1/namespaces/{stage.namespace}/jobs"

    def nothing_left() -> bool:
        items = stage.client.request("GET", jobs)["items"]
        return not items and not stage.ledger().strip()

    await_("neither Job nor ledger entry while it waits", nothing_left, 30)
    return status


def ends_well(stage: Stage, name: str) -> None:
    status = stage.tasks.until_finished(name, 120)
    assert (status["phase"], status["result"]) == ("Succeeded", {"value": {"made": name}})
    assert "attemptCounts" not in status or status["attemptCounts"] == {"completed": 1}
    assert [attempt["cause"] for attempt in status["attempts"]] == ["Completed"]


def test_a_resource_quota_on_pods_is_a_wait_that_costs_one_write_for_each_try(new_stage: NewStage) -> None:
    stage = new_stage("pods")
    path = f"/api/v1/namespaces/{stage.namespace}/resourcequotas"
    quota: dict[str, Any] = {"metadata": {"name": "pods"}, "spec": {"hard": {"pods": "0"}}}
    stage.client.request("POST", path, {"apiVersion": "v1", "kind": "ResourceQuota", **quota})
    counted = lambda: (stage.client.request("GET", f"{path}/pods").get("status") or {}).get("hard")  # noqa: E731
    await_("the quota at work", counted, 30)
    began = time.monotonic()
    status = held_back(stage, "refused")
    assert (status["phase"], "exceeded quota: pods" in status["queue"]["message"]) == ("Queued", True)
    third = lambda s: (s.get("reason"), s.get("attempt")) == ("RefusedByCluster", 3)  # noqa: E731
    stage.tasks.until("refused", "refused three times", third, 90)
    # It takes 1 to 2 s each time to see why there is no pod; the waits of 2 s and 4 s are a fifth shorter at most.
    assert time.monotonic() - began >= 7
    said = [known for known in stage.statuses("refused") if known.get("reason") == "RefusedByCluster"]
    assert len({known["queue"]["message"] for known in said}) == 1
    assert [known["attempt"] for known in said] == list(range(1, len(said) + 1))
    refusals = f'longtask_held_back_total{{reason="RefusedByCluster",tenant="{stage.namespace}"}}'
    assert stage.metric(refusals) >= len(said)
    stage.client.request("DELETE", f"{path}/pods")
    ends_well(stage, "refused")
    assert stage.audit() == []


def test_a_limit_range_is_a_wait_too(new_stage: NewStage) -> None:
    stage = new_stage("ranges")
    path = f"/api/v1/namespaces/{stage.namespace}/limitranges"
    limits = [{"type": "Container", "max": {"memory": "64Mi"}}]
    body = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small"}, "spec": {"limits": limits}}
    stage.client.request("POST", path, body)
    assert "maximum memory usage" in held_back(stage, "too-large")["queue"]["message"]
    stage.client.request("DELETE", f"{path}/small")
    ends_well(stage, "too-large")


@pytest.mark.parametrize(("group", "plural"), [("", "pods"), ("batch", "jobs")])
def test_a_policy_that_denies_is_a_wait_with_its_own_message(new_stage: NewStage, group: str, plural: str) -> None:
    stage = new_stage(f"denies-{plural}")
    name = f"e2e-denies-{plural}"
    rule = {"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [plural]}
    only_here = {"matchLabels": {"kubernetes.io/metadata.name": stage.namespace}}
    api = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    policy = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": "false", "message": "nothing runs on Sundays"}],
    }
    binding = {
        "policyName": name,
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": only_here},
    }
    stage.client.request("POST", POLICIES, {**api, "kind": "ValidatingAdmissionPolicy", "spec": policy})
    stage.client.request("POST", BINDINGS, {**api, "kind": "ValidatingAdmissionPolicyBinding", "spec": binding})
    try:
        denied = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}}
        container = {"name": "c", "image": stage.tasks.image, "command": ["true"]}
        spec = {"restartPolicy": "Never", "containers": [container]}
        denied |= {"spec": spec}
        if plural == "jobs":
            denied |= {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": {"spec": spec}}}

        def is_denied() -> bool:
            answer = stage.kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(denied), check=False)
            return answer.returncode != 0 and "Sundays" in answer.stderr

        await_("the policy at work", is_denied, 30)
        assert "nothing runs on Sundays" in held_back(stage, "denied")["queue"]["message"]
    finally:
        for path in (BINDINGS, POLICIES):
            stage.client.request("DELETE", f"{path}/{name}")
    ends_well(stage, "denied")


def test_the_end_of_the_report_certificate_can_be_watched(new_stage: NewStage) -> None:
    end = new_stage("certificate").metric("longtask_report_certificate_expiration_timestamp_seconds")
    assert 300 < (end - time.time()) / 86_400 < 366
