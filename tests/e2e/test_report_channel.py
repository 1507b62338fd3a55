"""The way of the reports breaks: nobody is ended for what could not be heard, but a worker that hangs is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.stage import Stage
from tests.e2e.test_liveness import QUICK, sdk
from tests.support.live import Json, await_
from tests.support.operator_process import NAMESPACE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
SERVICE = f"/api/v1/namespaces/{NAMESPACE}/services/longtask-reports"
#: Longer than the silence that ends the attempt, 15 s at the pace that few workers are asked for.
BROKEN_SECONDS = 22


@contextmanager
def broken_channel(stage: Stage) -> Iterator[None]:
    """Break the way of all reports: the Service finds the leader's EndpointSlice by the name of its port."""

    def name_port(name: str) -> None:
        patch = [{"op": "replace", "path": "/spec/ports/0/name", "value": name}]
        stage.client.request("PATCH", SERVICE, patch, form="application/json-patch+json")

    name_port("nothing")
    try:
        yield
    finally:
        name_port("reports")


def test_only_a_worker_that_hangs_is_ended_for_its_silence(stage: Stage) -> None:
    body = """
        task.report(1, 10**6)
        while task.attempt == 1:
            ctypes.PyDLL(None).sleep(600)
        for done in range(2, 10**6):
            task.raise_if_cancelled()
            task.report(done, 10**6)
            time.sleep(0.5)
    """
    retry = {"limits": {"application": 0}, "backoff": QUICK}
    stage.tasks.create("alone", **sdk(body), retry=retry, heartbeatTimeoutSeconds=5)
    hung = stage.tasks.until("alone", "the end of the one that hangs", lambda s: (s.get("attempt") or 0) > 1, 90)
    assert [attempt.get("cause") for attempt in hung["attempts"]][:1] == ["HeartbeatLost"]
    first = stage.tasks.until("alone", "progress", lambda s: done(s) > 1, 60)
    with broken_channel(stage):
        await_("the operator to know", lambda: stage.metric("longtask_reports_deaf") == 1, 60)
        time.sleep(BROKEN_SECONDS)  # the length of the outage is what is tested
        last = done(stage.tasks.status("alone"))
    await_("the operator to hear", lambda: stage.metric("longtask_reports_deaf") == 0, 60)
    went_on = stage.tasks.until("alone", "more progress", lambda s: done(s) > last, 90)
    assert (went_on["attempt"], went_on["phase"]) == (first["attempt"], "Running")
    stage.tasks.change("alone", cancel=True)
    ended = stage.tasks.until_finished("alone")
    assert [attempt["cause"] for attempt in ended["attempts"]] == ["HeartbeatLost", "Cancelled"]
    assert stage.audit() == []


def done(status: Json) -> int:
    return int((status.get("progress") or {}).get("done") or 0)
