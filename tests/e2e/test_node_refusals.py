"""What a node does to pods of its own accord: it refuses them for now, and it is drained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.node_room import full_node
from tests.e2e.stage import Stage, says, stoppable
from tests.support.live import Json, await_

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
NewStage = Callable[..., Stage]
POLICIES = "/apis/admissionregistration.k8s.io/v1"
#: No retry of the application is left: an end that is charged to it fails the task.
ONLY_DISRUPTIONS: Json = {"limits": {"application": 0}, "backoff": {"initialSeconds": 1, "factor": 1}}


@contextmanager
def mutated_pods(stage: Stage, path: str, value: str) -> Iterator[None]:
    """Let the API server put *value* at *path* of every pod of the namespace, as a webhook of the cluster may."""
    name = f"test-{stage.namespace}"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    scope = {"matchLabels": {"kubernetes.io/metadata.name": stage.namespace}}
    patch = f'[JSONPatch{{op: "add", path: "{path}", value: {value}}}]'
    spec = {
        "matchConstraints": {"resourceRules": [rule], "namespaceSelector": scope},
        "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}],
    }
    kinds = {"MutatingAdmissionPolicy": spec, "MutatingAdmissionPolicyBinding": {"policyName": name}}
    plurals = ["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"]
    for (kind, body), plural in zip(kinds.items(), plurals, strict=True):
        whole = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": name},
            "spec": body,
        }
        stage.client.request("POST", f"{POLICIES}/{plural}", whole)
    try:
        await_("the policy at work", lambda: is_mutated(stage, path), 60)
        yield
    finally:
        for plural in reversed(plurals):
            stage.client.request("DELETE", f"{POLICIES}/{plural}/{name}")
        await_("the policy gone", lambda: not is_mutated(stage, path), 60)


def is_mutated(stage: Stage, path: str) -> bool:
    container = {"name": "probe", "image": "registry.example/probe:1"}
    spec = {"securityContext": {}, "containers": [container]}
    meta = {"name": "probe", "labels": {"app": "probe"}}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}
    pods = f"/api/v1/namespaces/{stage.namespace}/pods"
    found = stage.client.request("POST", pods, body, query={"dryRun": "All"})
    for key in path.strip("/").split("/"):
        found = found.get(key.replace("~1", "/")) or {}
    return bool(found)


def test_a_node_that_has_no_room_after_all_is_a_disruption(new_stage: NewStage) -> None:
    stage = new_stage("out-of-memory")
    with mutated_pods(stage, "/spec/nodeName", '"node-1"'):
        with full_node(stage, spare=100):
            stage.tasks.create("refused", says({"done": True}), retry=ONLY_DISRUPTIONS)
            stage.tasks.until("refused", "a second attempt", lambda s: (s.get("attempt") or 0) >= 2, 60)
        status = stage.tasks.until_finished("refused", 90)
    assert status["phase"] == "Succeeded", status
    assert {attempt["cause"] for attempt in status["attempts"][:-1]} == {"Disruption"}
    assert status["attempts"][0]["message"].startswith("refused by node node-1: OutOfmemory: ")
    assert stage.audit() == []


def test_a_node_that_is_the_wrong_one_is_a_disruption(new_stage: NewStage) -> None:
    stage = new_stage("wrong-node")
    with mutated_pods(stage, "/spec/nodeName", '"node-1"'):
        stage.tasks.create("choosy", says({"done": True}), retry=ONLY_DISRUPTIONS, nodeSelector={"disk": "fast"})
        stage.tasks.until("choosy", "a second attempt", lambda s: (s.get("attempt") or 0) >= 2, 60)
    try:
        stage.kubectl("label", "node", "node-1", "disk=fast")
        status = stage.tasks.until_finished("choosy", 90)
    finally:
        stage.kubectl("label", "node", "node-1", "disk-")
    assert status["phase"] == "Succeeded", status
    assert {attempt["cause"] for attempt in status["attempts"][:-1]} == {"Disruption"}
    assert status["attempts"][0]["message"].startswith("refused by node node-1: NodeAffinity: ")
    assert "application" not in status["attemptCounts"]
    assert stage.audit() == []


def test_a_pod_that_no_node_would_take_is_rejected_at_once(new_stage: NewStage) -> None:
    """The kubelet runs no pod whose label says that it is for another operating system."""
    stage = new_stage("rejected")
    with mutated_pods(stage, "/metadata/labels/kubernetes.io~1os", '"windows"'):
        stage.tasks.create("rejected", says({"done": True}))
        status = stage.tasks.until_finished("rejected", 60)
    assert (status["phase"], status["reason"], status["attempt"]) == ("Failed", "Rejected", 1)
    assert status["attemptCounts"] == {"rejected": 1}
    assert not status.get("deadLettered")
    (attempt,) = status["attempts"]
    assert attempt["message"].startswith("refused by node node-1: PodOSSelectorNodeLabelDoesNotMatch: ")
    assert "exitCode" not in attempt
    stage.tasks.change("rejected", redrive="1")
    status = stage.tasks.until("rejected", "the second run's end", lambda s: s.get("phase") == "Succeeded")
    assert status["attempts"][1]["cause"] == "Completed"
    assert stage.audit() == []


def test_a_drain_costs_no_retry_of_the_application(new_stage: NewStage) -> None:
    stage = new_stage("drain")
    script = f"test $LONGTASK_ATTEMPT -ge 2 || {{ {stoppable()}; }}; " + says({"second": True})
    stage.tasks.create("drained", script, retry=ONLY_DISRUPTIONS)
    stage.tasks.until_phase("drained", "Running")
    selector = "--pod-selector=longtask.dev/task=drained"
    try:
        stage.kubectl("drain", "node-1", selector, "--delete-emptydir-data", "--ignore-daemonsets", "--timeout=180s")
        waits = lambda s: s.get("attempt") == 2 and s.get("phase") == "Starting"  # noqa: E731
        status = stage.tasks.until("drained", "attempt 2 without a node", waits, 60)
        assert status["attempts"][0]["cause"] == "Disruption"
    finally:
        stage.kubectl("uncordon", "node-1")
    status = stage.tasks.until_finished("drained", 90)
    assert (status["phase"], status["attemptCounts"]) == ("Succeeded", {"disruption": 1, "completed": 1})
    assert stage.audit() == []
