"""The installed operator asks a real S3 server how large the inputs of tasks are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from longtask_operator.api.quantity import MEBIBYTE
from tests.e2e.stage import DEPLOYMENT, Stage
from tests.support.live import Client, Json, await_
from tests.support.operator_process import NAMESPACE
from tests.support.s3 import S3Server, serve

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
#: The chart's settings of these tests have a rule for it: 256Mi and 150 % of the inputs.
EXAMPLES = "longtask/examples:0.1.0"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"


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


@pytest.fixture(scope="module")
def own_s3(cluster: Any, s3_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server of this file alone: one of its tests kills it."""
    with serve(s3_program, tmp_path_factory.mktemp("s3"), address=cluster.devcluster.plan.gateway) as server:
        yield server


@pytest.fixture(scope="module")
def stage(new_stage: Callable[..., Stage], client: Client, own_s3: S3Server) -> Iterator[Stage]:
    """A namespace whose inputs the operator may ask for."""
    places = {"LONGTASK_OPERATOR_INPUT_URIS": f"s3://{own_s3.bucket}/{{tenant}}/"}
    before = with_env(client, own_s3.env | places)
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


def test_a_store_that_is_gone_delays_no_task_and_fails_none(stage: Stage, own_s3: S3Server) -> None:
    own_s3.process.kill()
    own_s3.process.wait(10)
    stage.tasks.create("late", **task(own_s3.uri(f"{stage.namespace}/late")))
    status = stage.tasks.until_finished("late", 30)
    assert (status["phase"], status["sizing"]["source"]) == ("Succeeded", "Smallest")
    assert "the operator cannot ask the store (EndpointConnectionError)" in status["sizing"]["message"]
    assert stage.audit() == []
