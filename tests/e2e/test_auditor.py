"""The auditor reads etcd: what it decodes is what the API server says, so an empty audit is not a blind one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.stage import Stage, says
from tests.support.auditor_history import read_history
from tests.support.auditor_protobuf import Json
from tests.support.operator_process import NAMESPACE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def finished(stage: Stage) -> Stage:
    stage.tasks.create("one", says({"n": 1}))
    stage.tasks.until_finished("one")
    assert stage.audit() == []
    return stage


def same(stage: Stage, live: Json, kind: str) -> Json:
    """Return the version in etcd that *live* is, as the API server told it: there may be a later one by now."""
    history = read_history(stage.cluster.etcd_endpoint, since=stage.since)
    (found,) = [change for change in history if change.revision == int(live["metadata"]["resourceVersion"])]
    assert (found.kind, found.namespace, found.name) == (
        kind,
        live["metadata"]["namespace"],
        live["metadata"]["name"],
    )
    assert found.body
    return found.body


def assert_within(found: Any, whole: Any, where: str = "") -> None:
    """Assert that everything in *found* stands in *whole* too."""
    if isinstance(found, dict):
        for key, value in found.items():
            # The API server leaves empty values out of its JSON.
            assert_within(value, whole.get(key, type(value)()), f"{where}.{key}")
    elif isinstance(found, list):
        for index, (one, other) in enumerate(zip(found, whole, strict=True)):
            assert_within(one, other, f"{where}[{index}]")
    else:
        assert found == whole, where


def test_a_job_and_a_pod_are_read_as_the_api_server_tells_them(finished: Stage) -> None:
    (job,), (pod,) = finished.tasks.jobs("one"), finished.tasks.pods("one")
    for kind, live in (("Job", job), ("Pod", pod)):
        stored = same(finished, live, kind)
        assert stored["metadata"]["uid"]
        assert_within({key: stored[key] for key in ("metadata", "spec", "status") if key in stored}, live)
    assert stored["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "250m", "memory": "512Mi"}
    (container,) = stored["status"]["containerStatuses"]
    assert container["state"]["terminated"]["exitCode"] == 0


def test_a_ledger_is_read_as_the_api_server_tells_it(finished: Stage) -> None:
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{finished.ledger_name}"
    live = finished.client.request("GET", path)
    assert same(finished, live, "ConfigMap")["data"] == live["data"]


def test_the_history_holds_every_step(finished: Stage) -> None:
    phases = [status.get("phase") for status in finished.statuses("one")]
    assert phases[0] is None
    assert phases[-1] == "Succeeded"
    history = read_history(finished.cluster.etcd_endpoint, since=finished.since)
    ledgers = [change for change in history if change.name == finished.ledger_name and change.body]
    (uid,) = {job["metadata"]["labels"]["longtask.dev/task-uid"] for job in finished.tasks.jobs("one")}
    assert any(uid in str(change.body) for change in ledgers)
    assert [change.revision for change in history] == sorted(change.revision for change in history)
