"""What a node, a ladder and a disk do not give, on a real kubelet: an operator with limits that are soon met."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.e2e.holding import holds
from tests.e2e.stage import UNTIL_LEADING, Detached, Played, Stage, played, says
from tests.support.live import Json, condition

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
QUICK: Json = {"initialSeconds": 1, "factor": 1, "jitterPercent": 0}
EXAMPLES = "longtask/examples:0.1.0"
#: 64 GiB are more than any machine has that runs these tests; at 500m the ladder ends with 1 GiB.
SETTINGS = {"ladder": "250m=512Mi,64Gi;500m=1Gi", "ephemeral_storage_limit": "8Mi", "history_days": "1"}


def disk_filled(stage: Stage) -> Json:
    """Writes more to /tmp than its pod may, in its first attempt; the kubelet looks every ten seconds."""
    fills = "head -c 20000000 /dev/zero > /tmp/big; sleep 200 & wait $!"
    script = f"test $LONGTASK_ATTEMPT -ge 2 || {{ {fills}; }}; " + says({"second": True})
    limits = {"application": 1, "disruption": 0, "lost": 0}
    stage.tasks.create("disk-filled", script, retry={"limits": limits, "backoff": QUICK})
    return stage.tasks.until_finished("disk-filled", 180)


def log_filled(stage: Stage) -> Json:
    """Fills the disk with its log where a LimitRange of the namespace bounds what a container writes there."""
    bounds = {"type": "Container", "default": {"ephemeral-storage": "16Mi"}}
    body = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "disk"}, "spec": {"limits": [bounds]}}
    stage.client.request("POST", f"/api/v1/namespaces/{stage.namespace}/limitranges", body)
    fills = "head -c 30000000 /dev/zero | tr '\\0' '\\n'; sleep 200 & wait $!"
    script = f"test $LONGTASK_ATTEMPT -ge 2 || {{ {fills}; }}; " + says({"second": True})
    limits = {"application": 1, "disruption": 0, "lost": 0}
    stage.tasks.create("log-filled", script, retry={"limits": limits, "backoff": QUICK})
    return stage.tasks.until_finished("log-filled", 180)


def never_fits_the_node(stage: Stage) -> Json:
    """Runs short of memory, and the next rung is more than its node has.

    The API server of 1.36 knows that and refuses; a kubelet that is asked all the same says `Deferred`.
    """
    stage.tasks.create("no-such-node", **holds(440, 45), resources={"maxCpu": "250m"})
    return stage.tasks.until_finished("no-such-node", 180)


def at_the_top(stage: Stage) -> Json:
    """Runs out of memory where the ladder has no more."""
    script = "exec python3 -c 'kept = b\"x\" * (1500 << 20); print(len(kept))'"
    stage.tasks.create("top", script, resources={"cpu": "500m", "memory": "1Gi"}, retry={"backoff": QUICK})
    return stage.tasks.until_finished("top", 180)


SCENARIOS = (disk_filled, never_fits_the_node, at_the_top)


def finished_before(stage: Stage, name: str, command: str, ago: timedelta) -> None:
    """Leave a task of which the status says that it succeeded so long ago, with a peak of 700 MiB."""
    task = stage.tasks.create(name, image=EXAMPLES, command=["sh", "-c", command], suspend=True)
    then = (datetime.now(UTC) - ago).strftime("%Y-%m-%dT%H:%M:%SZ")
    attempt = {
        "number": 1, "run": 1, "generation": 1, "cause": "Completed", "exitCode": 0, "cpu": "500m", "memory": "1Gi",
        "peakMemory": "700Mi", "startTime": then, "completionTime": then,
    }  # fmt: skip
    ends = {"type": "Finished", "status": "True", "reason": "Completed", "message": "", "lastTransitionTime": then}
    status = {
        "observedGeneration": 1, "phase": "Succeeded", "reason": "Completed", "tenant": stage.namespace, "run": 1,
        "attempt": 1, "runStartTime": then, "startTime": then, "completionTime": then, "attempts": [attempt],
        "conditions": [ends],
    }  # fmt: skip
    path = f"{stage.tasks.path}/{task['metadata']['name']}/status"
    stage.client.request("PATCH", path, {"status": status}, form="application/merge-patch+json")


@pytest.fixture(scope="module")
def past(detached: Detached, new_stage: Callable[..., Stage]) -> Stage:
    """A namespace with two tasks of the past, which the operator finds when it starts with these settings."""
    detached.end_all()
    past = new_stage("past")
    finished_before(past, "fresh", "true", timedelta(hours=1))
    finished_before(past, "aged", ":", timedelta(hours=25))
    detached.start("limits", **SETTINGS).until_leading(UNTIL_LEADING)
    return past


@pytest.fixture(scope="module")
def stage(past: Stage, new_stage: Callable[..., Stage]) -> Stage:
    """A namespace beside it."""
    return new_stage("limits")


@pytest.fixture(scope="module")
def bounded(past: Stage, new_stage: Callable[..., Stage]) -> Iterator[Played]:
    with played(new_stage("bounded"), log_filled) as players:
        yield players


@pytest.fixture(scope="module")
def play(stage: Stage, bounded: Played) -> Iterator[Played]:
    """All at once, beside those of `bounded`."""
    with played(stage, *SCENARIOS) as players:
        yield players
        players.wait()


def causes(status: Json) -> list[str]:
    return [attempt["cause"] for attempt in status["attempts"]]


def test_a_disk_that_the_program_fills_is_charged_to_the_program(play: Played) -> None:
    status = play.of(disk_filled)
    assert (status["phase"], causes(status)) == ("Succeeded", ["Application", "Completed"]), status
    assert status["attempts"][0]["message"] == (
        'Usage of EmptyDir volume "tmp" exceeds the limit "8Mi". '
        "Write less to /tmp and $HOME, or ask an administrator to raise ephemeralStorageLimit."
    )


def test_so_is_one_that_its_log_fills(play: Played, bounded: Played) -> None:
    status = bounded.of(log_filled)
    assert (status["phase"], causes(status)) == ("Succeeded", ["Application", "Completed"]), status
    said = "Pod ephemeral local storage usage exceeds the total limit of containers 16Mi."
    assert status["attempts"][0]["message"] == f"{said} Write less to the container's disk, its log included."


def test_a_rung_that_no_node_could_hold_is_refused_and_not_asked_for_again(play: Played, stage: Stage) -> None:
    status = play.of(never_fits_the_node)
    (attempt,) = status["attempts"]
    assert (status["phase"], attempt["memory"], attempt["cause"]) == ("Succeeded", "512Mi", "Completed"), status
    said = r"Refused: .*node didn't have enough allocatable resources: memory, requested: 68719476736, allocatable: \d+"
    assert re.fullmatch(said, attempt["resizeRefused"]), attempt
    (pod,) = stage.tasks.pods("no-such-node")
    assert pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == "512Mi"


def test_at_the_ladders_top_the_task_fails_at_once_and_says_why(play: Played) -> None:
    status = play.of(at_the_top)
    assert (status["phase"], status["reason"], causes(status)) == ("Failed", "OutOfMemory", ["OutOfMemory"])
    assert status["deadLettered"] is True
    said = "the size 500m/1Gi cannot grow: no size of this cluster has more memory"
    assert condition(status, "Succeeded")["message"].endswith(said)


def test_what_a_kind_needed_counts_for_as_long_as_the_history_goes_back(play: Played, past: Stage) -> None:
    for name, command in (("after-fresh", "true"), ("after-aged", ":")):
        past.tasks.create(name, image=EXAMPLES, command=["sh", "-c", command])
    sizing = past.tasks.until_finished("after-fresh")["sizing"]
    assert (sizing["source"], sizing["display"]) == ("History", "500m/1Gi"), sizing
    said = "the last attempt of this kind that succeeded peaked at 700Mi or less; with 25 % headroom 875Mi"
    assert sizing["message"] == said
    sizing = past.tasks.until_finished("after-aged")["sizing"]
    assert (sizing["source"], sizing["display"]) == ("Smallest", "250m/512Mi"), sizing


def test_the_auditor_agrees(play: Played, stage: Stage) -> None:
    play.wait()
    assert stage.audit() == []
