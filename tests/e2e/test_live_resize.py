"""Running attempts that grow in place on a real kubelet, before they are killed; and what happens where they cannot."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from longtask_operator.api.quantity import MEBIBYTE, parse_memory
from tests.e2e.holding import HOLDS, holds
from tests.e2e.node_room import full_node
from tests.e2e.stage import Played, Stage, played
from tests.support.auditor_history import read_history, versions
from tests.support.live import Json, await_
from tests.support.operator_process import NAMESPACE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
NewStage = Callable[..., Stage]
EXAMPLES = "longtask/examples:0.1.0"
QUICK = {"backoff": {"initialSeconds": 1, "factor": 1}}
KEEPALL = {"image": EXAMPLES, "command": ["python", "-m", "keepall"], "retry": QUICK}


def sizes(status: Json) -> list[tuple[str, str, str]]:
    return [(attempt["cpu"], attempt["memory"], attempt["cause"]) for attempt in status["attempts"]]


def events(stage: Stage, name: str) -> list[tuple[str, str]]:
    return [(event["reason"], event["note"]) for event in stage.tasks.events(name)]


def grows_in_place(stage: Stage) -> Json:
    stage.tasks.create("in-place", **KEEPALL, payload={"megabytes": 700, "seconds": 50})
    return stage.tasks.until_finished("in-place", 150)


def samples_in_place(stage: Stage) -> list[tuple[int, int | None]]:
    """Return, in MiB and again and again, what its pod asks for and what the ledger, read after that, holds."""
    await_("the task", lambda: stage.tasks.find("in-place"), 30)
    uid = stage.tasks.get("in-place")["metadata"]["uid"]
    await_("its pod", lambda: stage.tasks.pods("in-place"), 60)
    found: list[tuple[int, int | None]] = []
    while not stage.tasks.status("in-place").get("completionTime"):
        for pod in stage.tasks.pods("in-place"):
            asked = parse_memory(pod["spec"]["containers"][0]["resources"]["limits"]["memory"]) // MEBIBYTE
            held = [int(line.split()[4]) for line in stage.ledger().splitlines() if line.startswith(uid)]
            found.append((asked, held[0] if held else None))
        time.sleep(0.1)
    return found


def grows_by_kills(stage: Stage) -> Json:
    resources = {"growth": "NextAttempt"}
    stage.tasks.create("by-kills", **KEEPALL, payload={"megabytes": 700, "seconds": 12}, resources=resources)
    return stage.tasks.until_finished("by-kills", 150)


def grows_too_late(stage: Stage) -> Json:
    """It grows in place, and needs more than that at once: the kernel is quicker than its next report."""
    code = HOLDS.replace("return len(kept)", "kept.append(b'x' * (1200 << 20)) if task.attempt == 1 else None")
    spec = holds(440, 45) | {"command": ["python3", "-c", code]}
    stage.tasks.create("too-late", **spec)
    return stage.tasks.until_finished("too-late", 150)


@pytest.fixture(scope="module")
def growing(new_stage: NewStage) -> Any:
    stage = new_stage("live")
    with played(stage, grows_in_place, samples_in_place, grows_by_kills, grows_too_late) as found:
        yield stage, found


def test_an_attempt_that_reports_its_memory_is_resized_before_it_is_killed(growing: tuple[Stage, Played]) -> None:
    stage, found = growing
    status = found.of(grows_in_place)
    assert (status["phase"], sizes(status)) == ("Succeeded", [("250m", "1Gi", "Completed")]), status
    assert status["attemptCounts"] == {"completed": 1}
    (attempt,) = status["attempts"]
    assert attempt["startTime"] < attempt["resizeTime"] < attempt["completionTime"]
    assert "resizeRefused" not in attempt
    assert (status["sizing"]["source"], status["sizing"]["display"]) == ("Live", "250m/1Gi")
    assert status["sizing"]["message"] == "512Mi was nearly used up in attempt 1, which was resized while it ran"
    assert 600 * MEBIBYTE < parse_memory(attempt["peakMemory"]) < 800 * MEBIBYTE
    assert ("Resized", "attempt 1 was resized from 250m/512Mi to 250m/1Gi") in events(stage, "in-place")


def test_without_that_the_same_program_grows_by_being_killed(growing: tuple[Stage, Played]) -> None:
    status = growing[1].of(grows_by_kills)
    assert (status["phase"], sizes(status)) == (
        "Succeeded",
        [("250m", "512Mi", "OutOfMemory"), ("250m", "1Gi", "Completed")],
    )
    assert status["attemptCounts"] == {"outOfMemory": 1, "completed": 1}


def test_a_kill_after_a_resize_climbs_from_the_size_in_force(growing: tuple[Stage, Played]) -> None:
    status = growing[1].of(grows_too_late)
    assert (status["phase"], sizes(status)) == (
        "Succeeded",
        [("250m", "1Gi", "OutOfMemory"), ("250m", "2Gi", "Completed")],
    ), status


def test_the_ledger_holds_at_every_moment_what_the_pod_asks_for(growing: tuple[Stage, Played]) -> None:
    samples = growing[1].of(samples_in_place)
    assert {asked for asked, _ in samples} == {512, 1024}
    assert [(asked, held) for asked, held in samples if held is not None and held < asked] == []
    growing[1].wait()
    assert growing[0].audit() == []


def test_where_the_quota_has_no_room_nothing_is_resized_and_the_next_attempt_waits(new_stage: NewStage) -> None:
    stage = new_stage("noroom")
    stage.set_quota(memory={"nominal": "768Mi"})
    stage.tasks.create("held", **holds(440, 45))
    status = stage.tasks.until_finished("held", 150)
    assert (status["phase"], sizes(status)) == ("Succeeded", [("250m", "512Mi", "Completed")])
    said = [note for reason, note in events(stage, "held") if reason == "ResizeHeldBack"]
    assert said == [
        "not resized to 250m/1Gi: tenant " + f"{stage.namespace} uses 512Mi of 768Mi memory; this needs 512Mi more"
    ]
    assert stage.audit() == []


def test_what_the_cluster_refuses_is_not_asked_for_again(new_stage: NewStage) -> None:
    stage = new_stage("refused")
    quota = {"metadata": {"name": "memory"}, "spec": {"hard": {"limits.memory": "768Mi"}}}
    path = f"/api/v1/namespaces/{stage.namespace}/resourcequotas"
    stage.client.request("POST", path, {"apiVersion": "v1", "kind": "ResourceQuota", **quota})
    find = lambda: (stage.client.request("GET", f"{path}/memory").get("status") or {}).get("hard")  # noqa: E731
    await_("the quota at work", find, 30)
    stage.tasks.create("refused", **holds(440, 45))
    status = stage.tasks.until_finished("refused", 150)
    assert (status["phase"], sizes(status)) == ("Succeeded", [("250m", "512Mi", "Completed")])
    assert re.match(r"Refused: .*exceeded quota: memory", status["attempts"][0]["resizeRefused"])
    assert [reason for reason, _ in events(stage, "refused")].count("ResizeRefused") == 1
    assert held_in_turn(stage) == ["512", "1024", "512"]
    assert stage.audit() == []


def test_what_the_node_defers_for_long_is_taken_back(new_stage: NewStage) -> None:
    stage = new_stage("deferred")
    with full_node(stage, spare=512 + 300):  # it has room itself, and no more
        stage.tasks.create("deferred", **holds(440, 100))
        status = stage.tasks.until_finished("deferred", 220)
    assert (status["phase"], sizes(status)) == ("Succeeded", [("250m", "512Mi", "Completed")])
    assert status["attempts"][0]["resizeRefused"].startswith("Deferred: not within 60 s: Node didn't have enough")
    (pod,) = stage.tasks.pods("deferred")
    assert pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == "512Mi"
    assert held_in_turn(stage) == ["512", "1024", "512"]
    assert stage.audit() == []


def held_in_turn(stage: Stage) -> list[str]:
    """Return the memory of the one line that the tenant's ledger had, as it changed."""
    history = read_history(stage.cluster.etcd_endpoint, since=stage.since, namespaces=[NAMESPACE])
    texts = [body["data"]["attempts"].split() for body in versions(history, "ConfigMap", NAMESPACE, stage.ledger_name)]
    return [line[4] for line in texts if line]
