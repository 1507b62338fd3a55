"""A node that does not answer: shown, waited for or given up as the spec says, and nothing is done twice.

A worker that falls silent with its node is not ended for that: the node's Lease is asked first.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.stage import Stage, says, worker_of
from tests.e2e.test_liveness import sdk
from tests.support.live import Json

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
QUICK: Json = {"initialSeconds": 1, "factor": 1, "jitterPercent": 0}
REPLACE = {"onNodeLoss": "Replace", "nodeLossTimeoutSeconds": 5}


@pytest.fixture
def lost(cluster: Any, new_stage: Callable[..., Stage]) -> Iterator[Stage]:
    """A stage with tasks at work whose kubelet is killed; their containers live on, and one of them hangs."""
    stage = new_stage("node-loss")
    first_only = "test $LONGTASK_ATTEMPT -ge 2 || sleep 400; "
    retry = {**REPLACE, "limits": {"application": 0}, "backoff": QUICK}
    stage.tasks.create("replaced", first_only + says({"second": True}), retry=retry)
    stage.tasks.create("patient", "sleep 150; " + says({"first": True}), retry={"limits": {"application": 0}})
    hangs = """
        import signal
        task.report(1, 10)
        to_hang = []
        signal.signal(signal.SIGUSR1, lambda *_: to_hang.append(True))
        while task.attempt == 1:
            time.sleep(0.1)
            if to_hang:
                ctypes.PyDLL(None).sleep(600)
    """
    silent = stage.tasks.create("silent", **sdk(hangs), heartbeatTimeoutSeconds=5, retry={"backoff": QUICK})
    for name in ("replaced", "patient"):
        stage.tasks.until_phase(name, "Running")
    stage.tasks.until("silent", "its progress", lambda s: (s.get("progress") or {}).get("done") == 1)
    cluster.stop_component("kubelet", kill=True)
    try:
        os.kill(worker_of(silent["metadata"]["uid"], "to_hang"), signal.SIGUSR1)
        yield stage
    finally:
        cluster.start_component("kubelet")


def test_a_lost_node_is_waited_for_or_given_up(cluster: Any, lost: Stage) -> None:
    for name in ("replaced", "patient", "silent"):
        told = lost.tasks.until(name, "its node is lost", lambda s: s.get("reason") == "NodeUnreachable", 150)
        assert (told["phase"], told["attempt"]) == ("Running", 1)
    given_up = lost.tasks.until("replaced", "attempt 1 over", lambda s: s["attempts"][0].get("completionTime"), 200)
    assert given_up["attempts"][0]["cause"] == "Lost"
    assert lost.tasks.status("patient")["attempt"] == 1
    silent = lost.tasks.status("silent")
    assert (silent["attempt"], silent["reason"]) == (1, "NodeUnreachable"), "its silence is the node's case"
    cluster.start_component("kubelet")
    replaced = lost.tasks.until_finished("replaced", 150)
    assert [attempt["cause"] for attempt in replaced["attempts"]] == ["Lost", "Completed"]
    patient = lost.tasks.until_finished("patient", 200)
    assert [attempt["cause"] for attempt in patient["attempts"]] == ["Completed"]
    silent = lost.tasks.until_finished("silent", 150)
    assert [attempt["cause"] for attempt in silent["attempts"]] == ["HeartbeatLost", "Completed"], "now it is its own"
    assert lost.audit() == []
