"""Idempotency keys on a real node: one runs, the others have its outcome, and nothing runs twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.stage import Stage, held, says, stoppable
from tests.support.live import await_

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
NewStage = Callable[..., Stage]


@pytest.fixture(scope="module")
def stage(new_stage: NewStage) -> Stage:
    return new_stage("keys")


def waits_as(stage: Stage, name: str, reason: str) -> Any:
    return stage.tasks.until(name, reason, lambda status: (status.get("queue") or {}).get("reason") == reason, 60)


def test_a_duplicate_takes_over_outcome_and_result(stage: Stage) -> None:
    script = held(says({"order": 4711}))
    first = stage.tasks.create("first", script, idempotencyKey="order-4711")
    stage.tasks.until_phase("first", "Running")
    stage.tasks.create("again", script, idempotencyKey="order-4711")
    status = waits_as(stage, "again", "Duplicate")
    assert status["duplicateOf"] == {"name": "first", "uid": first["metadata"]["uid"]}
    stage.let_end("first")
    taken = stage.tasks.until_finished("again")
    assert (taken["phase"], taken["result"]) == ("Succeeded", {"value": {"order": 4711}})
    assert taken["duplicateOf"]["name"] == "first"
    assert (stage.tasks.jobs("again"), taken.get("attempts")) == ([], None)
    stage.tasks.create("later", script, idempotencyKey="order-4711")
    assert stage.tasks.until_finished("later")["result"] == {"value": {"order": 4711}}
    assert stage.tasks.jobs("later") == []


def test_a_failure_is_taken_over_too(stage: Stage) -> None:
    none = {"limits": {"application": 0}}
    for name in ("fails", "fails-too"):
        stage.tasks.create(name, "sleep 2; exit 3", idempotencyKey="bad", retry=none)
    ends = [stage.tasks.until_finished(name) for name in ("fails", "fails-too")]
    assert [(end["phase"], end["reason"]) for end in ends] == [("Failed", "Application")] * 2
    assert len(stage.tasks.jobs("fails") + stage.tasks.jobs("fails-too")) == 1


def test_a_duplicate_runs_itself_if_the_first_is_deleted_unfinished(stage: Stage) -> None:
    stage.tasks.create("goes", stoppable(), idempotencyKey="heir")
    stage.tasks.until_phase("goes", "Running")
    # The same spec: it would work for minutes, so that running is what shows it came to run.
    stage.tasks.create("stays", stoppable(), idempotencyKey="heir")
    waits_as(stage, "stays", "Duplicate")
    stage.tasks.delete("goes")
    status = stage.tasks.until_phase("stays", "Running")
    assert "duplicateOf" not in status
    stage.tasks.change("stays", cancel=True)
    assert stage.tasks.until_finished("stays")["phase"] == "Cancelled"


def test_the_same_key_with_another_spec_is_a_conflict_until_one_of_the_two_goes(stage: Stage) -> None:
    stage.tasks.create("one", stoppable(), idempotencyKey="clash")
    stage.tasks.until_phase("one", "Running")
    stage.tasks.create("other", says({"other": True}), idempotencyKey="clash")
    status = waits_as(stage, "other", "KeyConflict")
    assert "LongTask one has the same idempotencyKey and differs in spec.command" in status["queue"]["message"]
    conditions = {condition["type"]: condition["status"] for condition in status["conditions"]}
    assert (conditions["Stalled"], conditions["Ready"], conditions["Finished"]) == ("True", "False", "False")
    stage.tasks.delete("one")
    assert stage.tasks.until_finished("other")["result"] == {"value": {"other": True}}
    await_("nothing of the first", lambda: not stage.tasks.pods("one"), 30)


def test_nothing_of_it_ran_twice(stage: Stage) -> None:
    """Runs last: the whole history of the namespace."""
    assert stage.audit() == []
