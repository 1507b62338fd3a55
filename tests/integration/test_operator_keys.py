"""Tasks with one idempotency key on the real API server, with the real Job controller; the test plays the kubelet."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from longtask_operator.adapters.kube import Kube, load_credentials
from longtask_operator.adapters.tasks import observe_task
from longtask_operator.engines.context import Clock, new_caches
from longtask_operator.engines.keys import Keys
from tests.builders import START
from tests.support.auditor import LEDGER_PREFIX, ledger_text
from tests.support.live import await_, condition
from tests.support.operating import Stage, operating
from tests.support.pod_process import PlayedNode

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]
RESULT = '{"longtask":1,"result":{"order":4711}}'


@pytest.fixture(scope="module")
def stage(control_plane: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with operating(control_plane, tmp_path_factory.mktemp("operator"), "keys") as stage:
        stage.start()
        yield stage


def test_of_two_with_one_key_one_runs_and_both_have_the_result(stage: Stage) -> None:
    tasks = stage.tasks
    first = tasks.create("once-a", "true", idempotencyKey="once")
    stage.pod_of("once-a")  # within one second neither is the older one, and the uid decides
    tasks.create("once-b", "true", idempotencyKey="once", priority=5)
    waiting = tasks.until("once-b", "a duplicate", lambda status: status.get("reason") == "Duplicate")
    assert waiting["duplicateOf"] == {"name": "once-a", "uid": first["metadata"]["uid"]}
    stage.run("once-a")
    tasks.until_phase("once-a", "Running")
    stage.end("once-a", message=RESULT)

    done = tasks.until_finished("once-b")

    assert (done["phase"], done["result"]) == ("Succeeded", {"value": {"order": 4711}})
    assert "taken over from LongTask once-a" in condition(done, "Finished")["message"]
    assert stage.attempts_of_jobs("once-a", "once-b") == [("once-a", "1")]
    selected = stage.client.items(tasks.path, fieldSelector="spec.idempotencyKey=once")
    assert [task["metadata"]["name"] for task in selected] == ["once-a", "once-b"]


def test_one_that_comes_after_the_end_takes_the_outcome_over_at_once(stage: Stage) -> None:
    tasks, fail = stage.tasks, {"retry": {"limits": {"application": 0}}, "idempotencyKey": "late"}
    tasks.create("late-a", "true", **fail)
    stage.end("late-a", exit_code=3)
    first = tasks.until_finished("late-a")
    tasks.create("late-b", "true", **fail)

    second = tasks.until_finished("late-b")

    assert (second["phase"], second["reason"], second["deadLettered"]) == ("Failed", "Application", True)
    assert {c["type"]: c["status"] for c in second["conditions"]} == {
        c["type"]: c["status"] for c in first["conditions"]
    }
    assert stage.attempts_of_jobs("late-b") == []


def test_it_runs_itself_when_the_first_is_deleted_but_only_after_its_pod_is_gone(stage: Stage) -> None:
    tasks = stage.tasks
    tasks.create("heir-a", "true", idempotencyKey="heir")
    pod = stage.pod_of("heir-a")
    # There is such a node: else the garbage collector would give the pod up after a while.
    with PlayedNode(stage.client, "keys") as node:
        node.bind(pod)
        stage.run("heir-a")
        tasks.until_phase("heir-a", "Running")
        tasks.create("heir-b", "true", idempotencyKey="heir")
        tasks.until("heir-b", "a duplicate", lambda status: status.get("reason") == "Duplicate")
        tasks.delete("heir-a")
        tasks.until("heir-b", "the pod is waited for", lambda status: "is deleted" in status["queue"]["message"])
        # The pod stops, as the kubelet says it; only then may the other one start.
        assert stage.attempts_of_jobs("heir-b") == []
        stage.end("heir-a", exit_code=143)

        tasks.until("heir-b", "its own attempt", lambda status: tasks.jobs("heir-b"))

    assert "duplicateOf" not in tasks.until("heir-b", "seen", lambda status: status.get("reason") != "Duplicate")


def test_another_spec_is_a_conflict_until_the_other_goes(stage: Stage) -> None:
    tasks = stage.tasks
    tasks.create("clash-a", "true", idempotencyKey="clash")
    stage.pod_of("clash-a")
    tasks.create("clash-b", "false", idempotencyKey="clash")
    status = tasks.until("clash-b", "a conflict", lambda status: status.get("reason") == "KeyConflict")
    assert condition(status, "Stalled")["status"] == "True"
    assert condition(status, "Finished")["status"] == "False"
    assert "LongTask clash-a" in status["queue"]["message"]
    assert "spec.command" in status["queue"]["message"]

    tasks.delete("clash-a")

    tasks.until("clash-b", "its own attempt", lambda status: tasks.jobs("clash-b"))


def test_a_crash_between_ledger_and_status_gives_no_second_run(stage: Stage) -> None:
    tasks, names = stage.tasks, ("crash-a", "crash-b", "crash-c")
    created = [tasks.create(name, "true", idempotencyKey="crash")["metadata"] for name in names]
    stage.operators[-1].kill9()
    ledger = f"/api/v1/namespaces/{stage.home}/configmaps/{LEDGER_PREFIX}tenant-{stage.namespace}"
    stage.start(identity="second")

    def admitted() -> list[str]:
        held = ledger_text(stage.client.find(ledger))
        return [meta["name"] for meta in created if meta["uid"] in held]

    # Only now: a write of the first one may have been on its way when it died.
    await_("one of them admitted", admitted)
    (first,) = admitted()

    stage.end(first, message=RESULT)

    assert [tasks.until_finished(name)["result"]["value"] for name in names] == [{"order": 4711}] * 3
    assert stage.attempts_of_jobs(*names) == [(first, "1")]


def test_all_tasks_of_a_key_are_found_whatever_it_is_written_with(stage: Stage, control_plane: Any) -> None:
    key = 'a=b, c\\d "e" é/%+&'
    first = stage.tasks.create("odd-a", "true", idempotencyKey=key, suspend=True)
    for name, other in (("odd-b", key), ("odd-c", "a=b")):
        stage.tasks.create(name, "true", idempotencyKey=other, suspend=True)
    caches, ledgers = new_caches(), SimpleNamespace(appeared=[], vanished=[], entry=lambda uid: None)

    async def learn() -> None:
        async with Kube(load_credentials({"KUBECONFIG": str(control_plane.kubeconfig)})) as kube:
            clock = Clock(now=lambda: START, jitter=lambda: 0.5)
            context: Any = SimpleNamespace(kube=kube, caches=caches, clock=clock)
            keys = Keys(context, cast(Any, ledgers), lambda task: None)
            keys.known = lambda uid: ""
            caches.tasks.put(observe_task(first))
            for tell in ledgers.appeared:
                tell("a stranger")
            await keys.learn([first["metadata"]["uid"]])

    asyncio.run(learn())
    assert sorted(record.name for record in caches.tasks) == ["odd-a", "odd-b"]
