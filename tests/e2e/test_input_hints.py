"""The installed operator asks a real S3 server how large the inputs of tasks are; not always does it answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from longtask_operator.api.quantity import MEBIBYTE
from tests.e2e.stage import DEPLOYMENT, Stage, seconds_between
from tests.support.live import Client, Json, await_
from tests.support.operator_process import NAMESPACE
from tests.support.s3 import S3Server, serve
from tests.support.store_front import Front, stand_before

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
#: The chart's settings of these tests have a rule for it: 256Mi and 150 % of the inputs.
EXAMPLES = "longtask/examples:0.1.0"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
#: The chart's default of `sizing.inputs.waitSeconds`, and the second that a time in Kubernetes is exact to.
LONGEST = 5 + 1
ASKED = "the sizes of its inputs are asked for"


def with_env(client: Client, added: dict[str, str]) -> list[Json]:
    """Give the installed operator more variables, wait until it runs with them, and return those it had."""
    deployment = client.request("GET", DEPLOYMENT)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    kept = [variable for variable in container["env"] if variable["name"] not in added]
    roll(client, [*kept, *({"name": name, "value": value} for name, value in added.items())])
    before: list[Json] = container["env"]
    return before


def roll(client: Client, env: list[Json]) -> None:
    path = "/spec/template/spec/containers/0/env"
    client.request(
        "PATCH", DEPLOYMENT, [{"op": "replace", "path": path, "value": env}], form="application/json-patch+json"
    )

    def done() -> bool:
        found = client.request("GET", DEPLOYMENT)
        status, wanted = found.get("status") or {}, found["metadata"]["generation"]
        pods = client.items(PODS, labelSelector="app.kubernetes.io/component=operator")
        return (
            bool(
                status.get("observedGeneration") == wanted
                and status.get("updatedReplicas") == 1 == status.get("readyReplicas")
            )
            and len(pods) == 1
        )

    await_("the operator with its new variables", done, 90)


def restart(client: Client) -> None:
    """Let another process take the operator's place, which knows nothing of what was asked before."""
    (pod,) = client.items(PODS, labelSelector="app.kubernetes.io/component=operator")
    client.request("DELETE", f"{PODS}/{pod['metadata']['name']}")
    await_("the end of the operator", lambda: client.find(f"{PODS}/{pod['metadata']['name']}") is None, 60)


@pytest.fixture(scope="module")
def own_s3(cluster: Any, s3_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with serve(s3_program, tmp_path_factory.mktemp("s3"), address=cluster.devcluster.plan.gateway) as server:
        yield server


@pytest.fixture(scope="module")
def front(cluster: Any, own_s3: S3Server) -> Iterator[Front]:
    """What the operator takes for the store; it is of this file alone, since one of its tests closes it."""
    with stand_before(own_s3, address=cluster.devcluster.plan.gateway) as found:
        yield found


@pytest.fixture(scope="module")
def stage(new_stage: Callable[..., Stage], client: Client, own_s3: S3Server, front: Front) -> Iterator[Stage]:
    """A namespace whose inputs the operator may ask for."""
    places = {"LONGTASK_OPERATOR_INPUT_URIS": f"s3://{own_s3.bucket}/{{tenant}}/"}
    before = with_env(client, own_s3.env | {"AWS_ENDPOINT_URL_S3": front.endpoint} | places)
    try:
        yield new_stage("inputs")
    finally:
        roll(client, before)


def task(*uris: str) -> Any:
    inputs = [{"name": f"input-{number}", "uri": uri} for number, uri in enumerate(uris, start=1)]
    return {"image": EXAMPLES, "command": ["sh", "-c", "true"], "inputs": inputs}


def put(s3: S3Server, key: str, mebibytes: int) -> str:
    """Store an object of that size without sending it."""
    uri = s3.put(key, b"")
    with s3.path(key).open("r+b") as file:
        file.truncate(mebibytes * MEBIBYTE)
    return uri


def test_the_size_of_objects_becomes_the_size_of_the_first_attempt(stage: Stage, own_s3: S3Server) -> None:
    tenant = stage.namespace
    orders, prices = put(own_s3, f"{tenant}/orders", 500), put(own_s3, f"{tenant}/prices", 1000)
    other = put(own_s3, "other-tenant/orders", 500)
    stage.tasks.create("one", **task(orders))
    stage.tasks.create("two", **task(orders, prices))
    stage.tasks.create("foreign", **task(other))
    stage.tasks.create("missing", **task(own_s3.uri(f"{tenant}/none")))
    found = {name: stage.tasks.until_finished(name)["sizing"] for name in ("one", "two", "foreign", "missing")}
    assert {name: (sizing["display"], sizing["source"]) for name, sizing in found.items()} == {
        "one": ("250m/1Gi", "InputHint"),
        "two": ("500m/3Gi", "InputHint"),
        "foreign": ("250m/512Mi", "Smallest"),
        "missing": ("250m/512Mi", "Smallest"),
    }
    assert found["two"]["message"].startswith(
        "2 inputs of 1500Mi; the rule for longtask/examples gives 256Mi and 150 %"
    )
    assert "sizing.inputs.uris of the chart names no place" in found["foreign"]["message"]
    assert "the size of input input-1 is not known: there is no such object" in found["missing"]["message"]
    assert stage.audit() == []


def test_a_slow_answer_is_awaited_and_a_refusal_is_one(stage: Stage, own_s3: S3Server) -> None:
    for name in ("slow", "refused"):
        stage.tasks.create(name, **task(put(own_s3, f"{stage.namespace}/{name}-orders", 500)))
    slow, refused = (stage.tasks.until_finished(name)["sizing"] for name in ("slow", "refused"))
    assert (slow["display"], slow["source"]) == ("250m/1Gi", "InputHint")
    assert (refused["display"], refused["source"]) == ("250m/512Mi", "Smallest")
    assert "the size of input input-1 is not known: the operator may not read it" in refused["message"]


def test_a_store_that_says_nothing_delays_a_task_for_its_bound_and_nobody_else(stage: Stage, own_s3: S3Server) -> None:
    known = put(own_s3, f"{stage.namespace}/orders", 500)
    stage.tasks.create("silent", **task(put(own_s3, f"{stage.namespace}/silent-orders", 500)))
    stage.tasks.create("besides", "true")
    stage.tasks.create("answered", **task(known))
    # The store is left alone for half a minute from now on.
    stage.tasks.until("silent", "its attempt", lambda status: status.get("attempt"))
    stage.tasks.create("next", **task(put(own_s3, f"{stage.namespace}/silent-prices", 500)))
    silent = stage.tasks.until_finished("silent")
    found = {name: stage.tasks.until_finished(name) for name in ("besides", "answered", "next")}
    assert {status["phase"] for status in (silent, *found.values())} == {"Succeeded"}
    assert found["answered"]["sizing"]["source"] == "InputHint"
    for sizing in (silent["sizing"], found["next"]["sizing"]):
        assert (sizing["display"], sizing["source"]) == ("250m/512Mi", "Smallest")
        assert "is not known: the store did not answer within 3 s" in sizing["message"]
    assert waited_for_job(stage, "silent") <= LONGEST
    assert waited_for_job(stage, "besides") < waited_for_job(stage, "silent")
    # What is left alone for now keeps no further task waiting.
    assert [name for name in ("silent", *found) if said(stage, name, ASKED)] == ["silent"]
    assert stage.audit() == []


def waited_for_job(stage: Stage, name: str) -> float:
    """Return the seconds from the task's creation to that of its one Job, either exact to a second."""
    (job,) = stage.tasks.jobs(name)
    made, begun = (body["metadata"]["creationTimestamp"] for body in (stage.tasks.get(name), job))
    return seconds_between(made, begun)


def said(stage: Stage, name: str, message: str) -> bool:
    """Return whether the task was ever shown as waiting with *message*."""
    return any((status.get("queue") or {}).get("message") == message for status in stage.statuses(name))


def test_a_store_that_is_gone_delays_no_task_and_fails_none(
    stage: Stage, client: Client, own_s3: S3Server, front: Front
) -> None:
    restart(client)  # else the store would be left alone for what it did before
    front.leave()
    stage.tasks.create("late", **task(own_s3.uri(f"{stage.namespace}/late")))
    status = stage.tasks.until_finished("late", 60)
    assert (status["phase"], status["sizing"]["source"]) == ("Succeeded", "Smallest")
    assert "the operator cannot ask the store (EndpointConnectionError)" in status["sizing"]["message"]
    assert stage.audit() == []
