"""What follows a failed attempt on a real node: rules by exit code, and what happens when a budget runs out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.stage import Stage
from tests.support.live import await_

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
NewStage = Callable[..., Stage]
QUICK = {"initialSeconds": 1, "factor": 1}
LEAVES = """
import sys
from longtask_worker import run

def main(task):
    print("row 7 is bad")
    sys.exit(3)

run(main)
"""
WAITS = """
import time
from longtask_worker import run

def main(task):
    print("row 7", flush=True)
    while True:
        task.raise_if_cancelled()
        time.sleep(0.01)

run(main)
"""


def test_exit_codes_are_judged_by_the_rules(new_stage: NewStage) -> None:
    stage = new_stage("rules")
    rules = [{"exitCodes": [65], "action": "Fail"}, {"exitCodes": [75], "action": "Ignore"}]
    retry = {"rules": rules, "limits": {"application": 0}, "backoff": QUICK}
    stage.tasks.create("fails", "exit 65", retry=retry)
    stage.tasks.create("ignored", "test $LONGTASK_ATTEMPT -gt 2 || exit 75", retry=retry)
    status = stage.tasks.until_finished("fails")
    assert (status["phase"], status["attempt"], status["deadLettered"]) == ("Failed", 1, False)
    status = stage.tasks.until_finished("ignored")
    assert (status["phase"], status["attempt"]) == ("Succeeded", 3)
    assert status["attemptCounts"] == {"ignored": 2, "completed": 1}
    assert stage.audit() == []


def test_the_last_lines_of_the_log_stay_with_the_attempt(new_stage: NewStage) -> None:
    stage = new_stage("tails")
    once = {"limits": {"application": 0}}
    stage.tasks.create("plain", "echo first; echo 'row 7 is bad' >&2; exit 3", retry=once)
    code = "from longtask_worker import run\ndef main(task): raise ValueError('bad row')\nrun(main)"
    stage.tasks.create("sdk", command=["python3", "-c", code], retry=once)
    stage.tasks.create("sdk-left", command=["python3", "-c", LEAVES], retry=once)
    stage.tasks.create("sdk-cancelled", command=["python3", "-c", WAITS])
    (plain,) = stage.tasks.until_finished("plain")["attempts"]
    assert (plain["exitCode"], plain["nodeName"]) == (3, "node-1")
    assert sorted(plain["logTail"].splitlines()) == ["first", "row 7 is bad"]
    (sdk,) = stage.tasks.until_finished("sdk")["attempts"]
    assert (sdk["exitCode"], sdk["message"]) == (1, "ValueError: bad row")
    assert sdk["logTail"].startswith("Traceback (most recent call last):")
    assert sdk["logTail"].endswith("ValueError: bad row")
    (left,) = stage.tasks.until_finished("sdk-left")["attempts"]
    assert (left["exitCode"], left["logTail"]) == (3, "row 7 is bad")
    stage.tasks.until("sdk-cancelled", "a report", lambda s: s.get("progress"))
    stage.tasks.change("sdk-cancelled", cancel=True)
    (cancelled,) = stage.tasks.until_finished("sdk-cancelled")["attempts"]
    assert (cancelled["cause"], cancelled["logTail"]) == ("Cancelled", "row 7")


def test_a_task_out_of_budget_is_a_dead_letter_until_it_is_redriven(new_stage: NewStage) -> None:
    stage = new_stage("letters")
    spec: Any = {"retry": {"limits": {"application": 0}}, "ttlSecondsAfterFinished": 1}
    stage.tasks.create("letter", "test $LONGTASK_RUN -gt 1", **spec)
    permanent = """printf '{"longtask":1,"permanent":true}' > /dev/termination-log; exit 65"""
    stage.tasks.create("refused", permanent, **spec)
    status = stage.tasks.until_finished("letter")
    assert status["deadLettered"] is True
    assert {c["type"]: c["status"] for c in status["conditions"]}["DeadLettered"] == "True"
    await_("the other one deleted by its TTL", lambda: stage.tasks.find("refused") is None, 30)
    found = stage.client.items(stage.tasks.path, fieldSelector="status.deadLettered=true")
    assert [task["metadata"]["name"] for task in found] == ["letter"]
    stage.tasks.change("letter", redrive="again", ttlSecondsAfterFinished=3600)
    status = stage.tasks.until("letter", "the second run's end", lambda s: s.get("phase") == "Succeeded")
    assert "deadLettered" not in status
    assert [c["type"] for c in status["conditions"] if c["type"] == "DeadLettered"] == []
