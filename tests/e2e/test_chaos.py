"""Fifty tasks while the operator is killed at random moments: nothing lost, nothing twice.

The seed is printed; LONGTASK_CHAOS_SEED=<seed> plays the same scripts and pauses again.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.stage import UNTIL_LEADING, Detached, Stage, says, stoppable
from tests.support.auditor import Expected
from tests.support.live import RefusedError
from tests.support.operator_process import OperatorProcess

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
TASKS = 50
KILLS = 10
QUOTA = 12
#: Seconds from the start of an operator to its end: before it leads, while it reads, in the middle of its work.
LIVES = (0.3, 5.0)
#: One in so many is let begin to lead before its time runs, however long that takes on a busy machine.
LEADS_EVERY = 3
#: Like a container that is restarted in its pod, each operator has the name of the one before, and its lease.
IDENTITY = "chaos"
RETRY = {"limits": {"application": 2}, "backoff": {"initialSeconds": 1, "factor": 2, "jitterPercent": 50}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a task does and how it must therefore end."""

    name: str
    command: str
    expected: Expected
    spec: dict[str, Any]
    cancel: bool = False


def succeeds(number: int, seconds: float) -> Script:
    name = f"succeeds-{number}"
    expected = Expected(phase="Succeeded", causes=("Completed",), result={"name": name})
    return Script(name=name, command=f"sleep {seconds}; " + says({"name": name}), expected=expected, spec={})


def recovers(number: int, seconds: float) -> Script:
    name, failures = f"recovers-{number}", 1 + number % 2
    command = f"sleep {seconds}; test $LONGTASK_ATTEMPT -gt {failures}; " + says({"name": name})
    causes = ("Application",) * failures + ("Completed",)
    expected = Expected(phase="Succeeded", causes=causes, result={"name": name})
    return Script(name=name, command=command, expected=expected, spec={"retry": RETRY})


def fails(number: int, seconds: float) -> Script:
    expected = Expected(phase="Failed", causes=("Application",) * 3)
    return Script(name=f"fails-{number}", command=f"sleep {seconds}; exit 4", expected=expected, spec={"retry": RETRY})


def is_permanent(number: int, seconds: float) -> Script:
    outcome = """printf '{"longtask":1,"permanent":true}' > /dev/termination-log; exit 65"""
    expected = Expected(phase="Failed", causes=("Permanent",))
    return Script(name=f"permanent-{number}", command=f"sleep {seconds}; {outcome}", expected=expected, spec={})


def is_cancelled(number: int, seconds: float) -> Script:
    # Cancelled before or during its first attempt: which of the two is a matter of moments.
    expected = Expected(phase="Cancelled")
    return Script(name=f"cancelled-{number}", command=stoppable(), expected=expected, spec={}, cancel=True)


def scripts(rng: random.Random) -> list[Script]:
    kinds = [succeeds] * 5 + [recovers] * 2 + [fails, is_permanent, is_cancelled]
    found = [kinds[number % len(kinds)](number, round(rng.uniform(0, 4), 1)) for number in range(TASKS)]
    rng.shuffle(found)
    return found


@dataclass(slots=True)
class Killer:
    """Starts operators and kills them, until stopped; the last one lives."""

    detached: Detached
    rng: random.Random
    operator: OperatorProcess
    kills: int = 0
    led: int = 0  #: of those that were killed, how many had begun to lead

    def run(self, stop: threading.Event) -> None:
        for number in range(KILLS):
            if number % LEADS_EVERY == 0:
                self.operator.until("leading", lambda: stop.is_set() or self.operator.says("leading"), UNTIL_LEADING)
            if stop.wait(self.rng.uniform(*LIVES)):
                return
            self.operator.kill9()
            self.kills += 1
            self.led += self.operator.says("leading")
            self.operator = self.detached.start(IDENTITY)


def submit(stage: Stage, all_scripts: list[Script], rng: random.Random) -> None:
    """Create the tasks over some seconds, and cancel those that are to be cancelled a while later."""
    cancels: list[tuple[float, str]] = []
    for script in all_scripts:
        stage.tasks.create(script.name, script.command, **script.spec)
        if script.cancel:
            cancels.append((time.monotonic() + rng.uniform(0, 12), script.name))
        time.sleep(rng.uniform(0, 0.7))
    for moment, name in sorted(cancels):
        time.sleep(max(0.0, moment - time.monotonic()))
        stage.tasks.change(name, cancel=True)


@pytest.fixture(scope="module")
def chaos(detached: Detached, new_stage: Callable[..., Stage]) -> Iterator[tuple[Stage, list[Script], Killer]]:
    """Play everything and yield when all tasks have ended."""
    seed = int(os.environ.get("LONGTASK_CHAOS_SEED") or random.SystemRandom().randrange(10**9))
    print(f"LONGTASK_CHAOS_SEED={seed}")
    rng = random.Random(seed)
    stage, all_scripts = new_stage("chaos", quota=QUOTA), scripts(rng)
    killer = Killer(detached, random.Random(rng.random()), detached.leading(IDENTITY))
    stop = threading.Event()
    thread = threading.Thread(target=killer.run, args=(stop,))
    thread.start()
    try:
        submit(stage, all_scripts, rng)
        thread.join()
        killer.operator.until_leading(UNTIL_LEADING)
        for script in all_scripts:
            stage.tasks.until_finished(script.name, 120)
        yield stage, all_scripts, killer
    finally:
        stop.set()
        thread.join()


def test_every_kill_was_made(chaos: tuple[Stage, list[Script], Killer]) -> None:
    assert chaos[2].kills == KILLS
    assert chaos[2].led >= KILLS / LEADS_EVERY
    assert chaos[2].operator.runs()


def test_nothing_is_lost_and_nothing_runs_twice(chaos: tuple[Stage, list[Script], Killer]) -> None:
    stage, all_scripts, _ = chaos
    assert stage.audit({script.name: script.expected for script in all_scripts}) == []


def test_the_quota_was_never_exceeded_whatever_died(chaos: tuple[Stage, list[Script], Killer]) -> None:
    lines, pods = chaos[0].most_at_once()
    assert lines == QUOTA, "the quota was reached"
    assert pods <= QUOTA


def test_every_task_can_be_deleted_afterwards(chaos: tuple[Stage, list[Script], Killer]) -> None:
    stage, all_scripts, _ = chaos
    stage.client.request("DELETE", stage.tasks.path)
    for script in all_scripts:
        stage.tasks.until_gone(script.name)
    assert not stage.held_pods()


def test_a_status_is_not_to_be_undone(chaos: tuple[Stage, list[Script], Killer]) -> None:
    """Even an administrator cannot take a finished run back: the API server refuses it."""
    stage = chaos[0]
    stage.tasks.create("ended", "true")
    stage.tasks.until_finished("ended")
    path = f"{stage.tasks.path}/ended/status"
    with pytest.raises(RefusedError):
        stage.client.request("PATCH", path, {"status": None}, form="application/merge-patch+json")
