"""Whose tasks they are, with the roles of the chart: limits of each person, and what tenants cannot write."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.stage import Stage, endless, stoppable
from tests.support.auditor_history import read_history
from tests.support.auditor_quota import QuotaAuditor
from tests.support.live import Json, await_
from tests.support.rules import GITOPS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
ALICE, BOB = "alice-of-identity", "bob-of-identity"


@pytest.fixture(scope="module")
def stage(new_stage: Callable[..., Stage]) -> Stage:
    """A tenant of which each person may run one attempt; two of them and the GitOps controller may edit in it."""
    stage = new_stage("identity", quota=10)
    stage.set_quota(perUser={"maxConcurrency": 1})
    for name, user in (("alice", ALICE), ("bob", BOB), ("gitops", GITOPS)):
        stage.kubectl("create", "rolebinding", name, "--clusterrole=edit", f"--user={user}")
    return stage


def submit(stage: Stage, name: str, user: str, script: str = "", **annotations: str) -> Any:
    task: Json = {
        "apiVersion": "longtask.dev/v1alpha1",
        "kind": "LongTask",
        "metadata": {"name": name, "annotations": {f"longtask.dev/{key}": text for key, text in annotations.items()}},
        "spec": {"image": stage.tasks.image, "command": ["sh", "-euc", script or stoppable()]},
    }
    return stage.kubectl("--as", user, "create", "-f", "-", input=json.dumps(task), check=False)


def test_a_person_is_counted_however_the_task_came(stage: Stage) -> None:
    """Her own task, and one that a GitOps controller submitted for her; the controller itself is no person."""
    key = "submitted-by"
    assert submit(stage, "own", ALICE).returncode == 0
    stage.tasks.until_phase("own", "Running")
    assert submit(stage, "by-gitops", GITOPS, **{key: ALICE}).returncode == 0
    assert submit(stage, "of-nobody", GITOPS).returncode == 0
    assert submit(stage, "of-nobody-too", GITOPS).returncode == 0
    waits = stage.tasks.until("by-gitops", "UserLimit", lambda status: status.get("reason") == "UserLimit", 30)
    assert ALICE in waits["queue"]["message"]
    for name in ("of-nobody", "of-nobody-too"):
        stage.tasks.until_phase(name, "Running")
    stage.tasks.change("own", cancel=True)
    stage.tasks.until_phase("by-gitops", "Running")
    assert stage.tasks.status("by-gitops")["createdBy"] == GITOPS


def test_a_deleted_task_counts_for_its_person_until_its_pod_is_gone(stage: Stage) -> None:
    assert submit(stage, "lingering", BOB).returncode == 0
    stage.tasks.until_phase("lingering", "Running")
    (pod,) = stage.tasks.pods("lingering")
    path = f"/api/v1/namespaces/{stage.namespace}/pods/{pod['metadata']['name']}"
    with endless(pod):
        stage.tasks.delete("lingering")
        await_("the task is gone", lambda: stage.tasks.find("lingering") is None, 30)
        assert submit(stage, "next", BOB).returncode == 0
        stage.tasks.until("next", "UserLimit", lambda status: status.get("reason") == "UserLimit", 30)
        assert stage.client.request("GET", path)["status"]["phase"] == "Running", "nothing would be shown here"
    stage.tasks.until_phase("next", "Running", seconds=90)
    await_("the pod is gone", lambda: stage.client.find(path) is None, 30)
    history = read_history(stage.cluster.etcd_endpoint, since=stage.since, namespaces=["", stage.namespace])
    audit = QuotaAuditor().replay(history)
    assert (audit.most[stage.namespace] > 1, audit.violations) == (True, [])


def test_nobody_gets_out_of_it_by_naming_another(stage: Stage) -> None:
    done = submit(stage, "forged", ALICE, **{"submitted-by": "bob"})
    assert "may be set, changed or removed only by the ServiceAccounts in the chart's" in done.stderr
    assert submit(stage, "forged", ALICE, **{"created-by": "bob"}).returncode == 0
    stage.tasks.until("forged", "its creator", lambda status: status.get("createdBy") == ALICE, 30)
    stage.tasks.change("forged", cancel=True)


def test_the_quota_says_nothing_where_persons_are_known(stage: Stage) -> None:
    await_("a status of the quota", lambda: stage.quota().get("status", {}).get("conditions"), 30)
    kinds = [condition["type"] for condition in stage.quota()["status"]["conditions"]]
    assert kinds == ["Ready"]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["patch", "lt", "own", "--subresource=status", "--type=merge"], id="status-of-a-task"),
        pytest.param(["patch", "tq", "{namespace}", "--type=merge"], id="quota"),
        pytest.param(["patch", "tq", "{namespace}", "--subresource=status", "--type=merge"], id="status-of-a-quota"),
        pytest.param(["patch", "namespace", "{namespace}", "--type=merge"], id="namespace"),
        pytest.param(["patch", "cm", "longtask-ledger-tenant-{namespace}", "-n", "longtask-system"], id="ledger"),
    ],
)
def test_a_tenant_with_the_role_edit_cannot_write(stage: Stage, command: list[str]) -> None:
    filled = [word.format(namespace=stage.namespace) for word in command]
    patch = json.dumps({"metadata": {"labels": {"longtask.dev/tenant": "other"}}, "status": {"phase": "Succeeded"}})
    done = stage.kubectl("--as", ALICE, *filled, "-p", patch, check=False)
    assert "Forbidden" in done.stderr


def test_a_status_in_the_manifest_is_not_taken(stage: Stage) -> None:
    patch = json.dumps({"status": {"phase": "Succeeded", "tenant": "other"}})
    stage.kubectl("--as", ALICE, "patch", "lt", "of-nobody", "--type=merge", "-p", patch)
    status = stage.tasks.status("of-nobody")
    assert (status["phase"], status["tenant"]) == ("Running", stage.namespace)
