"""A node that does not answer: shown, waited for or given up as the spec says, and nothing is done twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.stage import Stage, says
from tests.support.live import Json

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(500)]
QUICK: Json = {"initialSeconds": 1, "factor": 1, "jitterPercent": 0}
REPLACE = {"onNodeLoss": "Replace", "nodeLossTimeoutSeconds": 5}


@pytest.fixture
def lost(cluster: Any, new_stage: Callable[..., Stage]) -> Iterator[Stage]:
    """A stage with two tasks at work whose kubelet is killed; their containers live on."""
    stage = new_stage("node-loss")
    first_only = "test $LONGTASK_ATTEMPT -ge 2 || sleep 400; "
    retry = {**REPLACE, "limits": {"application": 0}, "backoff": QUICK}
    stage.tasks.create("replaced", first_only + says({"second": True}), retry=retry)
    stage.tasks.create("patient", "sleep 150; " + says({"first": True}), retry={"limits": {"application": 0}})
    for name in ("replaced", "patient"):
        stage.tasks.until_phase(name, "Running")
    cluster.stop_component("kubelet", kill=True)
    try:
        yield stage
    finally:
        cluster.start_component("kubelet")


def test_a_lost_node_is_waited_for_or_given_up(cluster: Any, lost: Stage) -> None:
    for name in ("replaced", "patient"):
        told = lost.tasks.until(name, "its node is lost", lambda s: s.get("reason") == "NodeUnreachable", 150)
        assert (told["phase"], told["attempt"]) == ("Running", 1)
    given_up = lost.tasks.until("replaced", "attempt 1 over", lambda s: s["attempts"][0].get("completionTime"), 200)
    assert given_up["attempts"][0]["cause"] == "Lost"
    assert lost.tasks.status("patient")["attempt"] == 1
    cluster.start_component("kubelet")
    replaced = lost.tasks.until_finished("replaced", 150)
    assert [attempt["cause"] for attempt in replaced["attempts"]] == ["Lost", "Completed"]
    patient = lost.tasks.until_finished("patient", 200)
    assert [attempt["cause"] for attempt in patient["attempts"]] == ["Completed"]
    assert lost.audit() == []
