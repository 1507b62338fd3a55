"""A node that runs short, on a real kubelet: what it evicts and what it refuses costs neither retries nor work.

The kubelet is told to keep more free than any machine has. So its node is under pressure at once, nothing of the
machine is used up, and all is well again when the kubelet has its own configuration back. Other pods of the node are
evicted too, the operator excepted: its priority class is a critical one (`CHART_SETTINGS`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.e2e.stage import Stage, says
from tests.e2e.summing import claim_of
from tests.e2e.test_liveness import sdk
from tests.e2e.test_node_refusals import ONLY_DISRUPTIONS, mutated_pods
from tests.support.live import Json, await_, condition

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
TAINTS = {"MemoryPressure": "node.kubernetes.io/memory-pressure", "PIDPressure": "node.kubernetes.io/pid-pressure"}
MORE_THAN_THERE_IS = "1Pi"
#: Saves what it has in its first attempt and works until it is told to stop.
SAVES = """
    done = task.checkpoint.load(default=0)
    task.report(done, 10)
    if task.attempt == 1:
        task.checkpoint.save(7)
        print("saved 7", flush=True)
        while True:
            task.raise_if_cancelled()
            time.sleep(0.1)
    return done
"""
#: Hears no SIGTERM: a shell is the container's first process here, and has no trap for it.
DEAF = "echo '3/10 reading' > $LONGTASK_PROGRESS_FILE; test $LONGTASK_ATTEMPT -ge 2 || sleep 300; " + says(
    {"second": 1}
)


@contextmanager
def pressed_node(stage: Stage, kind: str, signal: str, grace: str) -> Iterator[None]:
    """Let the node be under that kind of pressure, shown by its taint; pods are evicted for it after *grace*.

    The threshold is a soft one, because a hard one for memory would be taken off what the node has to give to pods.
    """
    stage.cluster.restart_kubelet(
        evictionSoft={signal: MORE_THAN_THERE_IS},
        evictionSoftGracePeriod={signal: grace},
        evictionMaxPodGracePeriod=2,
        nodeStatusUpdateFrequency="1s",
    )
    try:
        await_(f"{kind} and its taint", lambda: node_says(stage) == ({"Ready", kind}, [TAINTS[kind]]), 60)
        yield
    finally:
        stage.cluster.restart_kubelet()
        await_("a node without pressure", lambda: node_says(stage) == ({"Ready"}, []), 60)


def node_says(stage: Stage) -> tuple[set[str], list[str]]:
    """Return the node's true conditions and the keys of its taints."""
    (node,) = stage.client.items("/api/v1/nodes")
    true = {found["type"] for found in node["status"]["conditions"] if found["status"] == "True"}
    return true, [taint["key"] for taint in node["spec"].get("taints") or []]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evicted:
    """A task whose first attempt was evicted: the pod, the status while its second waited, and at the end."""

    pod: Json
    waiting: Json
    finished: Json

    @property
    def attempt(self) -> Json:
        first: Json = self.waiting["attempts"][0]
        return first

    @property
    def container(self) -> Json:
        """How its container ended; empty where the kubelet had removed it before it looked."""
        (container,) = self.pod["status"]["containerStatuses"]
        ended: Json = container["state"].get("terminated") or {}
        return ended if ended.get("reason") != "ContainerStatusUnknown" else {}


@pytest.fixture(scope="module")
def evicted(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Evicted]]:
    with claim_of(stage, tmp_path_factory.mktemp("claim")):
        checkpoint = {"volumeClaimName": "work"}
        stage.tasks.create("saves", **sdk(SAVES), checkpoint=checkpoint, retry=ONLY_DISRUPTIONS)
        stage.tasks.create("deaf", DEAF, progressFile=True, retry=ONLY_DISRUPTIONS)
        stage.tasks.until("saves", "a checkpoint", lambda s: s.get("checkpoint"))
        stage.tasks.until("deaf", "its progress", lambda s: (s.get("progress") or {}).get("done") == 3)
        names = ("saves", "deaf")
        with pressed_node(stage, "MemoryPressure", "memory.available", "1s"):
            waiting = {name: stage.tasks.until(name, "no place", has_no_place, 90) for name in names}
            pods = {name: first_pod(stage, name) for name in names}
        finished = {name: stage.tasks.until_finished(name) for name in names}
        yield {name: Evicted(pod=pods[name], waiting=waiting[name], finished=finished[name]) for name in names}


def has_no_place(status: Json) -> bool:
    return status.get("attempt") == 2 and status.get("reason") == "Unschedulable"


def first_pod(stage: Stage, name: str) -> Json:
    (pod,) = [pod for pod in stage.tasks.pods(name) if pod["metadata"]["labels"]["longtask.dev/attempt"] == "1"]
    return pod


@pytest.mark.parametrize("name", ["saves", "deaf"])
def test_the_kubelet_evicts_a_running_attempt(evicted: dict[str, Evicted], name: str) -> None:
    status = evicted[name].pod["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "Evicted")
    target = condition(status, "DisruptionTarget")
    assert (target["status"], target["reason"]) == ("True", "TerminationByKubelet")
    assert target["message"] == status["message"]


@pytest.mark.parametrize("name", ["saves", "deaf"])
def test_that_is_a_disruption_and_says_what_the_node_lacked(evicted: dict[str, Evicted], name: str) -> None:
    found = evicted[name]
    assert (found.attempt["cause"], found.attempt["nodeName"]) == ("Disruption", "node-1")
    assert found.attempt["message"].startswith("The node was low on resource: memory. Threshold quantity: 1Pi, ")
    assert found.attempt["message"] == found.pod["status"]["message"].strip()
    assert found.waiting["attemptCounts"] == {"disruption": 1}


def test_exit_code_and_log_are_kept_as_far_as_the_kubelet_tells(evicted: dict[str, Evicted]) -> None:
    """A worker with a sidecar is nearly always forgotten; one alone now and then."""
    for name, code, tail in (("saves", 143, "saved 7"), ("deaf", 137, None)):
        found = evicted[name]
        known = bool(found.container)
        assert found.attempt.get("exitCode") == (code if known else None), found
        assert found.attempt.get("logTail") == (tail if known else None), found


@pytest.mark.parametrize("name", ["saves", "deaf"])
def test_the_next_attempt_waits_until_the_pressure_is_gone(evicted: dict[str, Evicted], name: str) -> None:
    waiting, finished = evicted[name].waiting, evicted[name].finished
    assert waiting["phase"] == "Starting"
    assert "untolerated taint" in condition(waiting, "Succeeded")["message"]
    assert (finished["phase"], finished["attempt"]) == ("Succeeded", 2)
    assert finished["attemptCounts"] == {"disruption": 1, "completed": 1}


def test_it_goes_on_from_the_checkpoint(evicted: dict[str, Evicted]) -> None:
    finished = evicted["saves"].finished
    assert finished["attempts"][1]["resumedFrom"] == evicted["saves"].waiting["checkpoint"]["uri"]
    assert finished["result"]["value"] == 7


def test_a_pod_that_comes_to_such_a_node_before_its_taint_is_a_disruption(new_stage: Callable[..., Stage]) -> None:
    """The API server names the node of its pods, so that no scheduler looks at taints."""
    stage = new_stage("early")
    with mutated_pods(stage, "/spec/nodeName", '"node-1"'):
        with pressed_node(stage, "PIDPressure", "pid.available", "1h"):
            stage.tasks.create("early", says({"done": True}), retry=ONLY_DISRUPTIONS)
            refused = stage.tasks.until(
                "early", "a refusal", lambda s: (s.get("attemptCounts") or {}).get("disruption")
            )
        status = stage.tasks.until_finished("early")
    assert refused["attempts"][0]["message"] == "Pod was rejected: The node had condition: [PIDPressure]."
    assert "exitCode" not in refused["attempts"][0]
    assert status["phase"] == "Succeeded", status
    assert set(status["attemptCounts"]) == {"disruption", "completed"}
    assert stage.audit() == []


def test_the_auditor_agrees(evicted: dict[str, Evicted], stage: Stage) -> None:
    assert evicted
    assert stage.audit() == []
