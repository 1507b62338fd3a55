"""Checkpoints on a real kubelet, with a worker without the SDK: what counts is what stands in the status."""

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
from tests.support.live import Json, await_

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(500)]
#: Zombies at once: each holds the CPU of its pod in the kubelet's books until its runtime answers again.
ZOMBIES = 3
#: How often that many. tests/integration/test_zombies.py makes the rest of fifty, without a kubelet.
ROUNDS = int(os.environ.get("LONGTASK_ZOMBIE_ROUNDS", "1"))


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture(scope="module")
def folder(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the claim that all tasks of the module mount."""
    with claim_of(stage, tmp_path_factory.mktemp("claim")) as folder:
        yield folder


def killed(stage: Stage, folder: Path) -> tuple[Summing, Json]:
    task = Summing.create(stage, folder, "killed", limits={"application": 1})
    task.until_did(EVERY + 7)
    os.kill(task.process(1), signal.SIGKILL)
    return task, task.finished()


def suspended(stage: Stage, folder: Path) -> tuple[Summing, Json, Json]:
    """Saves nothing by itself."""
    task = Summing.create(stage, folder, "suspended", {"every": 1000, "pause": 0.5})
    task.until_did(5)
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
    task = Summing.create(stage, folder, "torn", limits={"application": 1})
    task.until_did(2 * EVERY + 3)
    task.file(1, 2 * EVERY).write_bytes(b'{"next": 2')
    os.kill(task.process(1), signal.SIGKILL)
    return task, task.finished()


@pytest.fixture(scope="module")
def plays(stage: Stage, folder: Path) -> Iterator[dict[str, Future[Any]]]:
    """All scenarios but the zombies, at the same time."""
    with ThreadPoolExecutor(5) as pool:
        found = {play.__name__: pool.submit(play, stage, folder) for play in (killed, suspended, torn)}
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
    assert EVERY - 3 <= len(first & second) < EVERY
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
    assert len(first & second) <= 2
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
    assert status["attempts"][1]["resumedFrom"] == task.uri(1, 2 * EVERY)
    assert [line["uri"] for line in task.said("unreadable")] == [task.uri(1, 2 * EVERY)]
    assert [line["next"] for line in task.said("began")] == [0, EVERY]
    assert status["result"]["value"] == {"sum": TOTAL, "attempt": 2}


def test_checkpoints_leave_nothing_behind(plays: dict[str, Future[Any]], stage: Stage) -> None:
    for play in plays.values():
        play.exception()
    assert stage.audit() == []


class Zombie:
    """Attempt 1 of a task, frozen with its runtime, so that nothing on its node can end it."""

    def __init__(self, stage: Stage, folder: Path, name: str, *, stubborn: bool) -> None:
        plan = {"pause": 1, "stubborn": stubborn}
        self.task = Summing.create(stage, folder, name, plan, limits={"lost": 1})
        self.worker = self.shim = 0

    def freeze(self) -> None:
        """Freeze it just before it saves its second checkpoint, and declare its pod dead by force."""
        self.task.until_did(2 * EVERY - 1)
        self.worker = self.task.process(1)
        os.kill(self.worker, signal.SIGSTOP)
        self.shim = parent(self.worker)
        os.kill(self.shim, signal.SIGSTOP)
        (pod,) = self.task.stage.tasks.pods(self.task.name)
        path = f"/api/v1/namespaces/{self.task.stage.namespace}/pods/{pod['metadata']['name']}"
        self.task.stage.client.request("DELETE", path, query={"gracePeriodSeconds": "0"})

    def wake(self) -> None:
        """Let it go on once the next attempt has committed a checkpoint and still works."""
        status = self.task.until("attempt 2 commits", lambda s: (s.get("checkpoint") or {}).get("attempt") == 2)
        assert status["phase"] == "Running"
        assert not self.task.file(1, 2 * EVERY).exists(), "it was frozen too late to try anything"
        os.kill(self.worker, signal.SIGCONT)

    def until_over(self) -> None:
        over = ("Z", "X")
        stat = Path(f"/proc/{self.worker}/stat")
        await_(
            f"{self.task.name}: process {self.worker} over",
            lambda: not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in over,
            90,
        )

    def bury(self) -> None:
        """Let its runtime answer again."""
        if self.shim and Path(f"/proc/{self.shim}").exists():
            os.kill(self.shim, signal.SIGCONT)


@pytest.mark.parametrize("round", range(ROUNDS))
def test_a_zombie_publishes_nothing(stage: Stage, folder: Path, plays: dict[str, Future[Any]], round: int) -> None:
    for play in plays.values():
        play.exception()
    zombies = [Zombie(stage, folder, f"zombie-{round}-{n}", stubborn=n == 0) for n in range(ZOMBIES)]
    try:
        for act in (Zombie.freeze, Zombie.wake, Zombie.until_over):
            with ThreadPoolExecutor(ZOMBIES) as pool:
                list(pool.map(act, zombies))
        ends = [zombie.task.finished() for zombie in zombies]
    finally:
        for zombie in zombies:
            zombie.bury()
    for number, (zombie, status) in enumerate(zip(zombies, ends, strict=True)):
        judge(zombie.task, status, stubborn=number == 0)


def judge(task: Summing, status: Json, *, stubborn: bool) -> None:
    late = task.uri(1, 2 * EVERY)
    assert late in {line["uri"] for line in task.said("saved", 1)}, "it tried nothing"
    assert 409 in {line["code"] for line in task.said("refused", 1)}
    assert bool(task.said("ended", 1)) == stubborn
    assert [one["cause"] for one in status["attempts"]] == ["Lost", "Completed"]
    assert status["attempts"][1]["resumedFrom"] == task.uri(1, EVERY)
    assert status["result"]["value"] == {"sum": TOTAL, "attempt": 2}
    stood = [found["checkpoint"] for found in task.stage.statuses(task.name) if "checkpoint" in found]
    assert late not in {one["uri"] for one in stood}
    order = [one["attempt"] for one in stood]
    assert order == sorted(order)
    assert all(one["uri"].startswith(f"{MOUNT}/{task.uid}/{one['attempt']}/") for one in stood)
