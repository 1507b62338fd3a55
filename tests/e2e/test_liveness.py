"""Signs of life on a real kubelet: silence, reports without progress, starts that stand still, eviction."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import pytest

from tests.e2e.stage import Played, Stage, played, says, stoppable
from tests.support.live import Json, await_, condition

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
QUICK: Json = {"initialSeconds": 1, "factor": 1, "jitterPercent": 0}


def sdk(body: str) -> Json:
    """Return the command of a program on the SDK whose `main(task)` is *body*."""
    lines = textwrap.indent(textwrap.dedent(body), "    ")
    head = "import ctypes, time\nfrom longtask_worker import run\ndef main(task):\n"
    return {"command": ["python3", "-c", f"{head}{lines}\nrun(main)"]}


def silent(stage: Stage) -> Json:
    """Reports, then hangs in a call that no thread of it survives: its reporter is silent too."""
    body = """
        task.report(1, 10)
        time.sleep(7)
        while task.attempt == 1:
            ctypes.PyDLL(None).sleep(600)
        return {"attempt": task.attempt}
    """
    retry = {"limits": {"application": 0}, "backoff": QUICK}
    stage.tasks.create("silent", **sdk(body), retry=retry, heartbeatTimeoutSeconds=10)
    return stage.tasks.until_finished("silent", 240)


def still(stage: Stage) -> Json:
    """Its reporter lives and its work stands still."""
    body = """
        task.report(1, 10)
        while task.attempt == 1:
            time.sleep(1)
            task.raise_if_cancelled()
        return {"attempt": task.attempt}
    """
    retry = {"limits": {"application": 0}, "backoff": QUICK}
    stage.tasks.create("still", **sdk(body), retry=retry, noProgressTimeoutSeconds=10)
    return stage.tasks.until_finished("still", 240)


def mute(stage: Stage) -> Json:
    """Never reports, though it promised to."""
    stage.tasks.create("mute", stoppable(), retry={"limits": {"heartbeatLost": 0}}, heartbeatTimeoutSeconds=5)
    return stage.tasks.until_finished("mute", 240)


def steady(stage: Stage) -> Json:
    """Works in steps longer than its timeout for progress: its own pace counts."""
    body = """
        for done in range(5):
            task.report(done, 5)
            time.sleep(8)
    """
    stage.tasks.create("steady", **sdk(body), heartbeatTimeoutSeconds=10, noProgressTimeoutSeconds=12)
    return stage.tasks.until_finished("steady", 240)


def too_slow(stage: Stage) -> tuple[Json, Json]:
    """Will not be done by its deadline at its own rate; a later deadline ends the warning."""
    body = """
        for done in range(300):
            task.report(done, 300)
            time.sleep(1)
            task.raise_if_cancelled()
    """
    stage.tasks.create("too-slow", **sdk(body), deadlineSeconds=200)
    warned = stage.tasks.until("too-slow", "at risk", lambda s: has(s, "DeadlineAtRisk"), 120)
    stage.tasks.change("too-slow", deadlineSeconds=3000)
    calmed = stage.tasks.until("too-slow", "at risk no more", lambda s: not has(s, "DeadlineAtRisk"), 60)
    stage.tasks.change("too-slow", cancel=True)
    stage.tasks.until_finished("too-slow")
    return warned, calmed


def has(status: Json, kind: str) -> bool:
    return any(found["type"] == kind for found in status.get("conditions") or ())


def no_image(stage: Stage) -> tuple[Json, Json]:
    retry = {"limits": {"neverStarted": 0}}
    stage.tasks.create("no-image", image="localhost:1/nothing:1", retry=retry, startTimeoutSeconds=45)
    reason = ("ErrImagePull", "ImagePullBackOff")
    told = stage.tasks.until("no-image", "the reason", lambda s: s.get("reason") in reason, 45)
    return told, stage.tasks.until_finished("no-image", 150)


def nowhere(stage: Stage) -> tuple[Json, Json]:
    retry = {"limits": {"neverStarted": 0}}
    stage.tasks.create("nowhere", "exit 0", nodeSelector={"no": "such"}, retry=retry, startTimeoutSeconds=30)
    told = stage.tasks.until("nowhere", "the reason", lambda s: s.get("reason") == "Unschedulable", 30)
    return told, stage.tasks.until_finished("nowhere", 150)


def no_secret(stage: Stage) -> tuple[Json, Json]:
    """Its own bound is far off, the default of 600 s: the one for its reason counts, 12 s by the chart's settings."""
    env = [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "key"}}}]
    stage.tasks.create("no-secret", "exit 0", env=env, retry={"limits": {"neverStarted": 0}})
    word = "CreateContainerConfigError"
    told = stage.tasks.until("no-secret", "the reason", lambda s: s.get("reason") == word, 60)
    return told, stage.tasks.until_finished("no-secret", 150)


def evicted(stage: Stage) -> Json:
    """Evicted through the API, as `kubectl drain` does it: no retry of the application is used."""
    script = f"test $LONGTASK_ATTEMPT -ge 2 || {{ {stoppable()}; }}; " + says({"second": True})
    stage.tasks.create("evicted", script, retry={"limits": {"application": 0}, "backoff": QUICK})
    stage.tasks.until_phase("evicted", "Running")
    (pod,) = stage.tasks.pods("evicted")
    meta = {"name": pod["metadata"]["name"], "namespace": stage.namespace}
    path = f"/api/v1/namespaces/{stage.namespace}/pods/{meta['name']}/eviction"
    stage.client.request("POST", path, {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta})
    return stage.tasks.until_finished("evicted", 150)


SCENARIOS = (silent, still, mute, steady, too_slow, no_image, no_secret, nowhere, evicted)


@pytest.fixture(scope="module")
def running(stage: Stage) -> Iterator[Played]:
    with played(stage, *SCENARIOS) as players:
        yield players
        players.wait()


def causes(status: Json) -> list[str]:
    return [attempt["cause"] for attempt in status["attempts"]]


def test_silence_ends_an_attempt_and_uses_its_own_budget(running: Played) -> None:
    status = running.of(silent)
    assert causes(status) == ["HeartbeatLost", "Completed"]
    assert "no report for 15 s since" in status["attempts"][0]["message"]
    assert status["result"]["value"] == {"attempt": 2}


def test_reports_without_progress_are_another_thing(running: Played) -> None:
    status = running.of(still)
    assert causes(status) == ["NoProgress", "Completed"]
    assert "reports without progress since" in status["attempts"][0]["message"]


def test_a_program_that_never_reports_is_told_so(running: Played) -> None:
    status = running.of(mute)
    assert (status["phase"], causes(status), status["deadLettered"]) == ("Failed", ["HeartbeatLost"], True)
    assert "no report at all" in status["attempts"][0]["message"]


def test_long_steps_are_no_standstill(running: Played) -> None:
    status = running.of(steady)
    assert causes(status) == ["Completed"]


def test_a_deadline_at_risk_is_warned_of_while_it_is(running: Played) -> None:
    warned, calmed = running.of(too_slow)
    assert condition(warned, "DeadlineAtRisk")["reason"] == "TooSlow"
    assert calmed["phase"] == "Running"


def test_an_image_that_cannot_be_pulled_is_said_within_seconds_and_ends(running: Played) -> None:
    told, status = running.of(no_image)
    assert told["phase"] == "Starting"
    assert (causes(status), status["deadLettered"]) == (["NeverStarted"], True)
    assert "localhost:1/nothing:1" in status["attempts"][0]["message"]


def test_a_start_that_people_must_repair_ends_by_the_bound_of_its_reason(running: Played) -> None:
    told, status = running.of(no_secret)
    assert (told["phase"], causes(status), status["deadLettered"]) == ("Starting", ["NeverStarted"], True)
    message = status["attempts"][0]["message"]
    assert "did not start within 12 s" in message
    assert "absent" in message


def test_what_no_node_can_take_is_said_within_seconds_and_ends(running: Played) -> None:
    told, status = running.of(nowhere)
    assert told["phase"] == "Starting"
    assert causes(status) == ["NeverStarted"]


def test_an_eviction_uses_no_retry_of_the_program(running: Played) -> None:
    status = running.of(evicted)
    assert causes(status) == ["Disruption", "Completed"]


def test_in_the_end_nothing_is_held_and_nothing_ran_twice(running: Played, stage: Stage) -> None:
    running.wait()
    await_("an empty ledger", lambda: stage.ledger() == "", 30)
    assert stage.audit() == []
