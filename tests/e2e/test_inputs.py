"""What reaches the container, what the API server refuses, and what people see with kubectl."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.stage import Played, Stage, held, played, says, stoppable
from tests.support.auditor_writes import Request, writes_in
from tests.support.live import Json, RefusedError, Tasks, await_
from tests.support.operator_process import OPERATOR_USER

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

#: What a shell, the kubelet or a JSON encoder could change.
PAYLOAD: Json = {
    "$(X)": "$(HOME) $$ $$(LONGTASK_NAME) $ $(",
    "naïve": "Größe, 日本語, \u2028, 😀👩\u200d🚀",
    "quotes": "\"'`\\ \n\t end",
    "nested": {"list": [1, -2.5, True, None, "$$$"], "empty": {}},
}
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
FROZEN = "frozen until the task is Finished"


def payload(stage: Stage) -> tuple[Json, bytes]:
    """Return the status, and the payload as the container saw it."""
    script = (
        "encoded=$(printf %s \"$LONGTASK_PAYLOAD\" | base64 | tr -d '\\n'); "
        'printf \'{"longtask":1,"result":{"seen":"%s"}}\' "$encoded" > /dev/termination-log'
    )
    stage.tasks.create("payload", script, payload=PAYLOAD)
    status = stage.tasks.until_finished("payload")
    return status, base64.b64decode(status["result"]["value"]["seen"])


def arguments(stage: Stage) -> Json:
    """Command and args expand nothing either: what the user wrote is what the program gets."""
    script = 'printf \'{"longtask":1,"result":{"first":"%s"}}\' "$1" > /dev/termination-log'
    stage.tasks.create("arguments", command=["sh", "-euc", script, "sh"], args=["a b 😀"])
    return stage.tasks.until_finished("arguments")


def frozen(stage: Stage) -> dict[str, str]:
    """Try changes of a running task and return each one's refusal."""
    stage.tasks.create("frozen", stoppable(), payload={"a": 1}, env=[{"name": "A", "value": "1"}])
    stage.tasks.until_phase("frozen", "Running")
    patches: dict[str, list[Json]] = {
        "renamed key": [{"op": "move", "from": "/spec/payload/a", "path": "/spec/payload/b"}],
        "changed value": [{"op": "replace", "path": "/spec/payload/a", "value": 2}],
        "image": [{"op": "replace", "path": "/spec/image", "value": "other:1"}],
        "env": [{"op": "remove", "path": "/spec/env"}],
        "priority": [{"op": "add", "path": "/spec/priority", "value": 7}],
    }
    answers = {name: refusal_of(stage.tasks, "frozen", patch) for name, patch in patches.items()}
    stage.tasks.change("frozen", cancel=True)
    stage.tasks.until_finished("frozen")
    answers["finished"] = refusal_of(stage.tasks, "frozen", patches["image"])
    return answers


def refusal_of(tasks: Tasks, name: str, patch: list[Json]) -> str:
    try:
        tasks.client.request("PATCH", f"{tasks.path}/{name}", patch, form="application/json-patch+json")
    except RefusedError as refusal:
        return refusal.message
    return ""


def secret(stage: Stage) -> Json:
    data = {"stringData": {"key": "s3cret"}, "metadata": {"name": "credentials"}}
    body = {"apiVersion": "v1", "kind": "Secret", **data}
    stage.client.request("POST", f"/api/v1/namespaces/{stage.namespace}/secrets", body)
    env = [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "credentials", "key": "key"}}}]
    stage.tasks.create("secret", 'test "$TOKEN" = s3cret; ' + says({"told": True}), env=env)
    return stage.tasks.until_finished("secret")


def missing_secret(stage: Stage) -> Json:
    env = [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "key"}}}]
    limits = {"neverStarted": 0}
    stage.tasks.create("missing-secret", "true", env=env, startTimeoutSeconds=8, retry={"limits": limits})
    # Nobody is judged in the minute after an operator's start, and the tests before these start one.
    return stage.tasks.until_finished("missing-secret", 180)


def failed(stage: Stage) -> Json:
    stage.tasks.create("failed", "exit 9", retry={"limits": {"application": 0}})
    return stage.tasks.until_finished("failed")


def tightened(stage: Stage) -> dict[str, Any]:
    """Tighten a rule under a running task, and return what becomes of it and of a new one."""
    stage.tasks.create("older", held(says({"old": True})))
    stage.tasks.until_phase("older", "Running")
    name = f"tightened-{stage.namespace}"
    undo = tighten(stage, name)
    try:
        await_("the tightened rule", lambda: newer_is_refused(stage), 60)
        stage.let_end("older")
        status = stage.tasks.until_finished("older")
        return {"status": status, "refused": newer_is_refused(stage)}
    finally:
        undo()


def tighten(stage: Stage, name: str) -> Callable[[], None]:
    """Add to the chart's own policy a rule that every task of the namespace breaks; return what takes it away."""
    path = f"{POLICIES}/longtask-spec"
    rule = f"object.metadata.namespace != '{stage.namespace}' || !object.metadata.name.startsWith('old')"
    before = stage.client.request("GET", path)["spec"]["validations"]
    validations = [*before, {"expression": rule, "message": f"no name may begin with old: {name}"}]
    form = "application/merge-patch+json"
    stage.client.request("PATCH", path, {"spec": {"validations": validations}}, form=form)

    def undo() -> None:
        stage.client.request("PATCH", path, {"spec": {"validations": before}}, form=form)

    return undo


def newer_is_refused(stage: Stage) -> bool:
    try:
        stage.tasks.client.request(
            "POST",
            stage.tasks.path,
            {
                "apiVersion": "longtask.dev/v1alpha1",
                "kind": "LongTask",
                "metadata": {"name": "old-too", "namespace": stage.namespace},
                "spec": {"image": "x:1"},
            },
            query={"dryRun": "All"},
        )
    except RefusedError as refusal:
        return "no name may begin with old" in refusal.message
    return False


SCENARIOS = (payload, arguments, frozen, secret, missing_secret, failed, tightened)


@pytest.fixture(scope="module")
def play(stage: Stage) -> Iterator[Played]:
    with played(stage, *SCENARIOS) as found:
        yield found


@pytest.fixture(scope="module")
def restricted(new_stage: Callable[..., Stage]) -> Stage:
    """A namespace whose pods must keep to the restricted Pod Security Standard, with a task in it."""
    labels = {
        "pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/enforce-version": "latest",
    }
    stage = new_stage("restricted", **labels)
    stage.tasks.create("restricted", 'echo 1/1 > "$LONGTASK_PROGRESS_FILE"; ' + says({"uid": 65532}), progressFile=True)
    return stage


@pytest.fixture(scope="module")
def alone(new_stage: Callable[..., Stage]) -> Stage:
    """A namespace with one task that simply succeeds."""
    stage = new_stage("alone")
    stage.tasks.create("alone", "sleep 3; " + says({"n": 1}))
    return stage


def test_a_payload_arrives_byte_for_byte(play: Played) -> None:
    status, seen = play.of(payload)
    assert status["phase"] == "Succeeded"
    assert json.loads(seen) == PAYLOAD
    assert seen.decode() == json.dumps(json.loads(seen), ensure_ascii=False, separators=(",", ":"))


def test_arguments_arrive_as_they_are(play: Played) -> None:
    assert play.of(arguments)["result"]["value"] == {"first": "a b 😀"}


@pytest.mark.parametrize("change", ["renamed key", "changed value", "image", "env"])
def test_a_frozen_spec_refuses_the_change_and_says_why(play: Played, change: str) -> None:
    assert FROZEN in play.of(frozen)[change]


def test_a_free_field_may_change_and_a_finished_task_may_be_changed(play: Played) -> None:
    answers = play.of(frozen)
    assert (answers["priority"], answers["finished"]) == ("", "")


def test_a_secret_reaches_the_environment(play: Played) -> None:
    status = play.of(secret)
    assert (status["phase"], status["result"]["value"]) == ("Succeeded", {"told": True})


def test_a_missing_secret_is_named(play: Played) -> None:
    status = play.of(missing_secret)
    assert (status["phase"], status["attempts"][0]["cause"]) == ("Failed", "NeverStarted")
    assert "absent" in status["attempts"][0]["message"]


def test_a_task_older_than_a_tightened_rule_still_gets_its_status(play: Played) -> None:
    found = play.of(tightened)
    assert found["refused"]
    assert (found["status"]["phase"], found["status"]["result"]["value"]) == ("Succeeded", {"old": True})


def test_kubectl_waits_for_the_condition_finished(play: Played, stage: Stage) -> None:
    play.of(failed)
    done = stage.kubectl("wait", "--for=condition=Finished", "longtask/failed", "--timeout=20s")
    assert "condition met" in done.stdout


def test_kubectl_describe_shows_what_happened(play: Played, stage: Stage) -> None:
    play.of(failed)
    wanted = {"AttemptFailed", "Failed"}
    await_("Events", lambda: wanted <= {event["reason"] for event in stage.tasks.events("failed")}, 60)
    text = stage.kubectl("describe", "longtask", "failed").stdout
    events = text[text.index("Events:") :]
    assert "AttemptFailed" in events
    assert "exit code 9" in events
    assert "Failed" in events


def test_kubectl_get_shows_the_columns(play: Played, stage: Stage) -> None:
    play.of(failed)
    header, row = stage.kubectl("get", "longtask", "failed").stdout.splitlines()
    assert header.split() == ["NAME", "TENANT", "PHASE", "PROGRESS", "ATTEMPT", "AGE"]
    assert row.split()[:3] == ["failed", stage.namespace, "Failed"]


def test_tasks_run_where_pods_must_be_restricted(restricted: Stage) -> None:
    status = restricted.tasks.until_finished("restricted")
    assert (status["phase"], status["result"]["value"]) == ("Succeeded", {"uid": 65532})
    violations = [event for event in restricted.tasks.events("restricted") if "violates PodSecurity" in str(event)]
    assert violations == []


def test_a_successful_task_costs_at_most_four_writes(alone: Stage) -> None:
    status = alone.tasks.until_finished("alone")
    assert status["phase"] == "Succeeded"
    assert alone.audit() == []
    writes = writes_in(alone.cluster.audit_log, OPERATOR_USER, alone.namespace)
    # A pod that is not running 2 s after its Job costs one more, and so does a wait for admission.
    slow = {entry.get("phase") for entry in alone.statuses("alone")} & {"Starting", "Queued"}
    assert len(writes) - len(slow) <= 4, told(writes)
    assert len(writes) >= 3, told(writes)


def test_a_settled_task_costs_no_write(alone: Stage) -> None:
    alone.tasks.until_finished("alone")
    assert alone.audit() == []
    before = writes_in(alone.cluster.audit_log, OPERATOR_USER, alone.namespace)
    time.sleep(8)  # nothing is to happen in this time, so there is nothing to wait for
    assert writes_in(alone.cluster.audit_log, OPERATOR_USER, alone.namespace) == before


def told(writes: list[Request]) -> str:
    return ", ".join(f"{write.verb} {write.resource} {write.name}" for write in writes)
