"""Checkpoints on a real kubelet, most of them of a worker without the SDK: what counts is what stands in the status."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.stage import Stage
from tests.e2e.summing import EVERY, MOUNT, NUMBERS, TOTAL, Summing, claim_of
from tests.support.live import Json

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def folder(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the claim that all tasks of the module mount."""
    with claim_of(stage, tmp_path_factory.mktemp("claim")) as folder:
        yield folder


def killed(stage: Stage, folder: Path) -> tuple[Summing, Json]:
    task = Summing.create(stage, folder, "killed", {"restsAt": EVERY + 7}, limits={"application": 1})
    task.until_rests()
    os.kill(task.process(1), signal.SIGKILL)
    return task, task.finished()


def suspended(stage: Stage, folder: Path) -> tuple[Summing, Json, Json]:
    """Saves nothing by itself."""
    task = Summing.create(stage, folder, "suspended", {"every": 1000, "restsAt": 5})
    task.until_rests()
    stage.tasks.change(task.name, suspend=True)
    stopped = task.until("suspended", lambda s: s.get("phase") == "Suspended")
    stage.tasks.change(task.name, suspend=False)
    return task, stopped, task.finished()


def redriven(stage: Stage, folder: Path, on_redrive: str) -> tuple[Summing, Json]:
    how = {"onRedrive": on_redrive}
    task = Summing.create(stage, folder, on_redrive.lower(), {"failAt": 25}, checkpoint=how)
    assert task.finished()["phase"] == "Failed"
    stage.tasks.change(task.name, redrive="again")
    return task, task.until("the second run's end", lambda s: s.get("phase") == "Succeeded")


def torn(stage: Stage, folder: Path) -> tuple[Summing, Json]:
    """The newest of two checkpoints is damaged before the next attempt reads it."""
    task = Summing.create(stage, folder, "torn", {"restsAt": 2 * EVERY + 3}, limits={"application": 1})
    task.until_rests()
    task.file(1, 2 * EVERY).write_bytes(b'{"next": 2')
    os.kill(task.process(1), signal.SIGKILL)
    return task, task.finished()


# The first attempt waits to be killed with two checkpoints, the second fails, the third loads nothing.
WITH_SDK = """
import time
from longtask_worker import run

def main(task):
    n = task.checkpoint.load(default=0) if task.attempt < 3 else 0
    task.report(n + 1)
    if task.attempt == 1:
        for n in (10, 20):
            task.checkpoint.save(n)
            time.sleep(4)
        time.sleep(600)
    time.sleep(1)
    if task.attempt == 2:
        raise ValueError(n)
    return n

run(main)
"""


def torn_of_sdk(stage: Stage, folder: Path) -> tuple[Json, Json]:
    """The same with the SDK; a third attempt loads nothing."""
    task = Summing.create(stage, folder, "torn-of-sdk", limits={"application": 2}, command=["python3", "-c", WITH_SDK])
    saved = task.until("two checkpoints", lambda s: (s.get("checkpoint") or {}).get("older"))["checkpoint"]
    (folder / saved["uri"].removeprefix(f"{MOUNT}/")).write_bytes(b"{")
    os.kill(task.process(1), signal.SIGKILL)
    return saved, task.finished()


@pytest.fixture(scope="module")
def plays(stage: Stage, folder: Path) -> Iterator[dict[str, Future[Any]]]:
    """All scenarios, at the same time."""
    with ThreadPoolExecutor(6) as pool:
        found = {play.__name__: pool.submit(play, stage, folder) for play in (killed, suspended, torn, torn_of_sdk)}
        for how in ("Keep", "Discard"):
            found[how] = pool.submit(redriven, stage, folder, how)
        yield found


def test_a_killed_worker_repeats_less_than_one_interval(plays: dict[str, Future[Any]]) -> None:
    task, status = plays["killed"].result()
    assert [(one["cause"], one["exitCode"]) for one in status["attempts"]] == [("Application", 137), ("Completed", 0)]
    assert status["attempts"][1]["resumedFrom"] == task.uri(1, EVERY)
    assert "resumedFrom" not in status["attempts"][0]
    assert [line["next"] for line in task.said("began")] == [0, EVERY]
    first, second = ({line["number"] for line in task.said("did", attempt)} for attempt in (1, 2))
    assert second == set(range(EVERY, NUMBERS))
    assert first & second == set(range(EVERY, EVERY + 8))
    assert status["result"]["value"] == {"sum": TOTAL, "attempt": 2}


def test_only_so_many_are_kept(plays: dict[str, Future[Any]]) -> None:
    task, status = plays["killed"].result()
    assert status["checkpoint"]["uri"] == task.uri(2, NUMBERS)
    assert [one["uri"] for one in status["checkpoint"]["older"]] == [task.uri(2, NUMBERS - EVERY)]
    assert [path.name for path in sorted((task.folder / task.uid / "2").iterdir())] == ["000020.json", "000030.json"]


def test_a_suspended_worker_is_asked_for_a_checkpoint_first(plays: dict[str, Future[Any]]) -> None:
    task, stopped, status = plays["suspended"].result()
    (saved,) = task.said("saved", 1)
    assert stopped["checkpoint"]["uri"] == saved["uri"]
    assert [one["cause"] for one in status["attempts"]] == ["Suspended", "Completed"]
    assert status["attempts"][1]["resumedFrom"] == saved["uri"]
    first, second = ({line["number"] for line in task.said("did", attempt)} for attempt in (1, 2))
    assert (first, second) == (set(range(6)), set(range(6, NUMBERS)))
    assert status["result"]["value"] == {"sum": TOTAL, "attempt": 2}


def test_a_redrive_goes_on_from_the_checkpoint(plays: dict[str, Future[Any]]) -> None:
    task, status = plays["Keep"].result()
    assert [(one["run"], one.get("resumedFrom")) for one in status["attempts"]] == [(1, None), (2, task.uri(1, 20))]
    assert status["result"]["value"] == {"sum": TOTAL, "attempt": 2}
    assert [line["next"] for line in task.said("began")] == [0, 20]


def test_a_redrive_that_discards_it_starts_fresh(plays: dict[str, Future[Any]]) -> None:
    task, status = plays["Discard"].result()
    assert [(one["run"], one.get("resumedFrom")) for one in status["attempts"]] == [(1, None), (2, None)]
    assert [line["next"] for line in task.said("began")] == [0, 0]
    assert status["checkpoint"]["uri"] == task.uri(2, NUMBERS)


def test_a_torn_checkpoint_is_passed_over_for_the_one_before(plays: dict[str, Future[Any]]) -> None:
    task, status = plays["torn"].result()
    assert status["attempts"][1]["resumedFrom"] == task.uri(1, EVERY)
    assert [line["uri"] for line in task.said("unreadable")] == [task.uri(1, 2 * EVERY)]
    assert [line["next"] for line in task.said("began")] == [0, EVERY]
    assert status["result"]["value"] == {"sum": TOTAL, "attempt": 2}


def test_an_attempt_says_what_it_went_on_from_also_with_the_sdk(plays: dict[str, Future[Any]]) -> None:
    saved, status = plays["torn_of_sdk"].result()
    assert [one.get("message") for one in status["attempts"]] == ["exit code 137", "ValueError: 10", None]
    assert [one.get("resumedFrom") for one in status["attempts"]] == [None, saved["older"][0]["uri"], None]


def test_checkpoints_leave_nothing_behind(plays: dict[str, Future[Any]], stage: Stage) -> None:
    for play in plays.values():
        play.exception()
    assert stage.audit() == []
