"""The API server restarts, hangs or forbids: the operator says what is wrong and goes on by itself when it is over."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.stage import UNTIL_LEADING, Detached, Stage, says
from tests.support.auditor import Expected
from tests.support.live import RefusedError, await_
from tests.support.operator_process import OperatorProcess

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
#: Longer than any outage here, so that the process need not end: the lease outlives it.
PATIENT = {"lease_duration_seconds": "30", "lease_renew_deadline_seconds": "25", "lease_retry_seconds": "1"}
#: The longest task still works for some seconds after an outage, and one is retried twice. Whoever sits out the longest
#: wait between two tries needs more.
RECOVERY = 44
BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"


@pytest.fixture
def at_work(detached: Detached, new_stage: Callable[..., Stage]) -> tuple[OperatorProcess, Stage]:
    """An operator and tasks that end before, in and after an outage."""
    operator = detached.leading("patient", **PATIENT)
    stage = new_stage("outage")
    for number in range(8):
        stage.tasks.create(f"task-{number}", f"sleep {1 + 2 * number}; " + says({"n": number}))
    script = "test $LONGTASK_ATTEMPT -ge 3; " + says({})
    stage.tasks.create("retried", script, retry={"backoff": {"initialSeconds": 3, "factor": 1}})
    stage.tasks.until_phase("task-4", "Running")
    return operator, stage


def check_goes_on(operator: OperatorProcess, stage: Stage) -> None:
    """The same process does all that was begun, and what is new, soon: nothing sits out a long backoff."""
    await_("the API server takes a task", lambda: created(stage), 20)
    wanted = {f"task-{n}": Expected(phase="Succeeded", causes=("Completed",), result={"n": n}) for n in range(8)}
    wanted["retried"] = Expected(phase="Succeeded", causes=("Application", "Application", "Completed"))
    wanted["after"] = Expected(phase="Succeeded", causes=("Completed",))
    began = time.monotonic()
    for name in wanted:
        stage.tasks.until_finished(name)
    assert time.monotonic() - began < RECOVERY
    assert stage.audit(wanted) == []
    assert operator.runs()


def created(stage: Stage) -> bool:
    """Create a task; False where the API server, just started, does not know the kind yet."""
    try:
        stage.tasks.create("after", says({"after": True}))
    except RefusedError as refusal:
        if refusal.code != 503:
            raise
        return False
    return True


def test_the_api_server_restarts_while_tasks_run(cluster: Any, at_work: tuple[OperatorProcess, Stage]) -> None:
    operator, stage = at_work
    cluster.stop_component("kube-apiserver", kill=True)
    operator.until("told", lambda: operator.says("the API server does not answer"), 60)
    cluster.start_component("kube-apiserver")
    operator.until("recovered", lambda: operator.says("recovered"), 60)
    check_goes_on(operator, stage)


def test_the_api_server_hangs_for_eight_seconds(cluster: Any, at_work: tuple[OperatorProcess, Stage]) -> None:
    operator, stage = at_work
    pid = cluster.component_pid("kube-apiserver")
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(8)  # the length of the outage is what is tested
    finally:
        os.kill(pid, signal.SIGCONT)
    check_goes_on(operator, stage)


def test_permissions_are_revoked_for_ten_seconds(at_work: tuple[OperatorProcess, Stage]) -> None:
    operator, stage = at_work
    binding = stage.client.request("GET", f"{BINDINGS}/longtask-operator")
    stage.client.request("DELETE", f"{BINDINGS}/longtask-operator")
    try:
        stage.tasks.create("forbidden", says({"waited": True}))
        operator.until("told", lambda: operator.says("no permission"), 60)
        time.sleep(10)  # the length of the outage is what is tested
    finally:
        meta = {
            key: binding["metadata"][key] for key in ("name", "labels", "annotations") if key in binding["metadata"]
        }
        body = {key: binding[key] for key in ("apiVersion", "kind", "roleRef", "subjects")}
        stage.client.request("POST", BINDINGS, {**body, "metadata": meta})
    assert stage.tasks.until_finished("forbidden")["result"]["value"] == {"waited": True}
    check_goes_on(operator, stage)


def test_an_outage_that_outlasts_the_lease_ends_the_process_and_the_next_one_goes_on(
    cluster: Any, detached: Detached, new_stage: Callable[..., Stage]
) -> None:
    operator = detached.leading("impatient", lease_duration_seconds="8", lease_renew_deadline_seconds="6")
    stage = new_stage("long-outage")
    stage.tasks.create("through", "sleep 12; " + says({"through": True}))
    stage.tasks.until_phase("through", "Running")
    cluster.stop_component("kube-apiserver", kill=True)
    try:
        assert operator.process.wait(60) == 1
        assert operator.says("the lease is lost")
    finally:
        cluster.start_component("kube-apiserver")
    detached.start("next").until_leading(UNTIL_LEADING)
    assert stage.tasks.until_finished("through")["result"]["value"] == {"through": True}
    assert stage.audit({"through": Expected(phase="Succeeded", causes=("Completed",))}) == []
