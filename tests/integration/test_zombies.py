"""Zombies with the SDK: real workers on a real API server and a real S3, frozen, replaced, and let go on.

A zombie is an attempt that nobody can reach, while its pod was given up and the next attempt runs. What the operator
lets none of them do is shown on a real kubelet by tests/e2e/test_zombies.py, with workers that try everything. Here is
shown what the SDK does: it saves late, learns that it has a successor, and ends without a word. The container of each
pod is a process of this machine, so many are affordable, each frozen at another moment of its work.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import threading
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from longtask_worker import exit_codes
from tests.support import pod_process
from tests.support.live import FINISHED_PHASES, Json, RefusedError, await_
from tests.support.operating import Stage, operating
from tests.support.pod_process import PlayedNode, PodProcess
from tests.support.s3 import S3Server
from tests.support.zombies import late_commits

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

#: As many as are at work at once; on demand more.
ZOMBIES = int(os.environ.get("LONGTASK_ZOMBIES", "12"))
#: So many at work at once a small machine can bear; those that only wait for the cluster do not count.
AT_WORK = threading.BoundedSemaphore(12)
NUMBERS, PAUSE, INTERVAL = 400, 0.25, 1
RESULT: Json = {"sum": sum(range(NUMBERS)), "attempt": 2}
QUICK: Json = {"initialSeconds": 1, "factor": 1, "jitterPercent": 0}
# Adds up numbers. Saves each time, so that a zombie has something to offer; every fourth does not stop when told to.
# A successor saves a few times and stays until the zombie is over, then does the rest at once.
PROGRAM = """
import os, time
from pathlib import Path
from longtask_worker import Task, run

def stay(task: Task) -> None:
    while not Path(os.environ["LONGTASK_TOKEN_FILE"]).with_name("go").exists():
        time.sleep(0.2)
        task.raise_if_cancelled()

def main(task: Task) -> dict:
    plan = task.payload
    state = task.checkpoint.load(default={"next": 0, "sum": 0})
    print("begins at", state["next"], flush=True)
    begin = state["next"]
    for number in range(begin, plan["numbers"]):
        state = {"next": number + 1, "sum": state["sum"] + number}
        if task.attempt > 1 and number > begin + 4:
            stay(task)
            continue
        time.sleep(plan["pause"])
        task.report(state["next"], plan["numbers"], unit="numbers", message=f"attempt {task.attempt}")
        print("saved", task.checkpoint.save(state), flush=True)
        if not plan["stubborn"]:
            task.raise_if_cancelled()
    while task.attempt == 1:  # a zombie that is through with its work before it hears of its successor
        print("saved", task.checkpoint.save(state), flush=True)
        time.sleep(plan["pause"])
        task.raise_if_cancelled()
    return {"sum": state["sum"], "attempt": task.attempt}

run(main)
"""


@dataclass
class Story:
    """One task whose first attempt becomes a zombie."""

    stage: Stage
    node: PlayedNode
    s3: S3Server
    folder: Path
    name: str
    stubborn: bool
    freeze_after: float
    uid: str = ""
    attempts: list[PodProcess] = field(default_factory=list)
    saved_late: list[str] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    code: int | None = None

    def create(self) -> None:
        spec: dict[str, Any] = {
            "command": ["python", "-c", PROGRAM],
            "payload": {"numbers": NUMBERS, "pause": PAUSE, "stubborn": self.stubborn},
            "checkpoint": {"uri": self.s3.uri("zombies/"), "intervalSeconds": INTERVAL},
            "retry": {"limits": {"lost": 0, "disruption": 1, "application": 0}, "backoff": QUICK},
        }
        self.uid = self.stage.tasks.create(self.name, **spec)["metadata"]["uid"]

    def start(self, number: int) -> PodProcess:
        """Start the process of attempt *number*, as soon as there is a pod for it."""
        pod = self.pods()[number]
        self.node.bind(pod)
        self.stage.run(self.name)
        self.attempts.append(pod_process.start(self.stage.client, pod, self.folder / str(number), self.s3.env))
        return self.attempts[-1]

    def await_pod(self, number: int) -> None:
        await_(f"{self.name}: a pod of attempt {number}", lambda: number in self.pods(), 150, pause=1)

    def pods(self) -> dict[int, Json]:
        """Return the pods by their attempt."""
        found = self.stage.tasks.pods(self.name)
        return {int(pod["metadata"]["labels"]["longtask.dev/attempt"]): pod for pod in found}

    def until(self, what: str, check: Any) -> Json:
        status: Json = {}

        def holds() -> bool:
            status.clear()
            status.update(self.stage.tasks.status(self.name))
            return bool(check(status))

        await_(lambda: f"{self.name}: {what}, not {status}", holds, 150, pause=1)
        return status

    def play(self) -> None:
        with AT_WORK:
            zombie, before = self.make_zombie()
        self.await_pod(2)
        with AT_WORK:
            self.wake_beside_successor(zombie, before)

    def make_zombie(self) -> tuple[PodProcess, set[str]]:
        """Return an attempt that is frozen at work and given up, and what it had saved."""
        self.create()
        self.await_pod(1)
        zombie = self.start(1)
        self.until("a checkpoint", lambda s: (s.get("checkpoint") or {}).get("attempt") == 1)
        time.sleep(self.freeze_after)
        zombie.freeze()
        assert zombie.process.poll() is None
        before = set(self.objects(1))
        self.give_up(zombie.pod)
        return zombie, before

    def wake_beside_successor(self, zombie: PodProcess, before: set[str]) -> None:
        """Let the zombie go on while its successor is at work, and both end."""
        successor = self.start(2)
        self.until("attempt 2 commits", lambda s: (s.get("checkpoint") or {}).get("attempt") == 2)
        self.wake(zombie, before)
        self.code = zombie.end()
        assert successor.process.poll() is None, "it was over before the zombie was"
        self.report_end(zombie)
        (successor.folder / "go").touch()
        assert successor.end() == 0, successor.output()
        self.stage.end(self.name, message=successor.message())
        self.until("the end", lambda s: s.get("phase") in FINISHED_PHASES)

    def wake(self, zombie: PodProcess, before: set[str]) -> None:
        """Let it go on, at first without a way to the operator: it saves before it can hear of its successor."""
        token = zombie.folder / "token"
        token.rename(token.with_suffix(".away"))
        zombie.thaw()
        # Looked at at once: its successor deletes what earlier attempts left.
        await_(f"{self.name}: a late save", lambda: self.note_late(before), 60, pause=0.1)
        token.with_suffix(".away").rename(token)

    def note_late(self, before: set[str]) -> bool:
        self.saved_late = sorted(set(self.objects(1)) - before)
        return bool(self.saved_late)

    def give_up(self, pod: Json) -> None:
        """Delete the pod, as the pod garbage collector does whose node is gone: it says that the pod has failed."""
        gone = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC"}
        self.stage.set_status(pod, {"phase": "Failed", "conditions": [gone]})
        path = f"/api/v1/namespaces/{self.stage.namespace}/pods/{pod['metadata']['name']}"
        self.stage.client.request("DELETE", path, query={"gracePeriodSeconds": "0"})

    def report_end(self, zombie: PodProcess) -> None:
        """What the zombie's kubelet would say of its end, had its node come back."""
        state = {"terminated": {"exitCode": 0, "reason": "Completed", "message": zombie.message()}}
        status = {"name": "task", "image": "i", "imageID": "i", "ready": False, "restartCount": 0, "state": state}
        try:
            self.stage.set_status(zombie.pod, {"phase": "Succeeded", "containerStatuses": [status]})
        except RefusedError as error:
            self.refused.append(error.code)

    def objects(self, attempt: int) -> list[str]:
        return [key for key in self.s3.keys(f"zombies/{self.uid}/{attempt}/") if key.endswith("manifest.json")]

    def bury(self) -> None:
        for process in self.attempts:
            process.kill()


class History:
    """Every state that the LongTasks of a namespace have had, as a watch tells it."""

    def __init__(self, control_plane: Any, namespace: str, path: Path) -> None:
        kubectl = [str(control_plane.devcluster.binaries["kubectl"]), "--kubeconfig", str(control_plane.kubeconfig)]
        command = [*kubectl, "get", "longtasks", "-n", namespace, "-o", "json", "--watch", "--output-watch-events"]
        self._path = path
        with path.open("wb") as output:
            self._watch = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

    def until_ended(self, names: Collection[str]) -> None:
        """Wait until the watch has told of the end of all these tasks: it does so a moment after the API server."""

        def ended() -> bool:
            told = self.statuses()
            return all(name in told and told[name][-1].get("phase") in FINISHED_PHASES for name in names)

        await_("the watch told of every end", ended)

    def statuses(self) -> dict[str, list[Json]]:
        """Return the statuses by the task's name, in their order, as far as they are told whole."""
        text, found, at = self._path.read_text(errors="ignore"), dict[str, list[Json]](), 0
        decoder = json.JSONDecoder()
        with suppress(json.JSONDecodeError):  # the last one is being written
            while (at := text.find("{", at)) >= 0:
                event, at = decoder.raw_decode(text, at)
                task = event["object"]
                found.setdefault(task["metadata"]["name"], []).append(task.get("status") or {})
        return found

    def close(self) -> None:
        self._watch.terminate()
        self._watch.wait()


@pytest.fixture(scope="module")
def told(
    control_plane: Any, s3: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[list[Story], History]]:
    """Play all stories beside each other."""
    folder = tmp_path_factory.mktemp("zombies")
    moments = random.Random(20261127)
    with operating(control_plane, folder, "zombies") as stage, PlayedNode(stage.client, "zombies") as node:
        stage.start({"LONGTASK_OPERATOR_PROGRESS_WRITES_PER_SECOND": "1000"})
        history = History(control_plane, stage.namespace, folder / "history.json")
        stories = [
            Story(stage, node, s3, folder / f"z{n}", f"zombie-{n}", n % 4 == 0, moments.uniform(0, 0.5))
            for n in range(ZOMBIES)
        ]
        try:
            with ThreadPoolExecutor(ZOMBIES) as pool:
                list(pool.map(Story.play, stories))
            history.until_ended([story.name for story in stories])
            yield stories, history
        finally:
            for story in stories:
                story.bury()
            history.close()


def test_no_zombie_published_anything(told: tuple[list[Story], History]) -> None:
    stories, history = told
    statuses = history.statuses()
    found = {story.name: late_commits(statuses[story.name], late_uris(story), RESULT) for story in stories}
    assert {name: late for name, late in found.items() if late} == {}
    assert len(stories) == ZOMBIES


def late_uris(story: Story) -> set[str]:
    return {story.s3.uri(key) for key in story.saved_late}


def test_every_zombie_saved_and_reported_late_was_told_and_ended_without_a_word(
    told: tuple[list[Story], History],
) -> None:
    """Its exit code says that a report was answered 409: one that it sent after it woke, and saved."""
    stories, _ = told
    assert [story.code for story in stories] == [exit_codes.SUPERSEDED] * ZOMBIES
    assert [story.name for story in stories if not story.saved_late] == [], "it tried nothing"
    assert {code for story in stories for code in story.refused} <= {404, 409, 422}
    for story in stories:
        message = json.loads(story.attempts[0].message())
        assert not {"result", "checkpoint", "uri"} & set(message), "the last word of a zombie names nothing"


def test_every_task_went_on_from_what_stood(told: tuple[list[Story], History]) -> None:
    stories, history = told
    statuses = history.statuses()
    for story in stories:
        status = statuses[story.name][-1]
        assert [one["cause"] for one in status["attempts"]] == ["Disruption", "Completed"]
        assert status["phase"] == "Succeeded"
        assert f"/{story.uid}/1/" in status["attempts"][1]["resumedFrom"]
        assert status["attempts"][1]["resumedFrom"].removeprefix(story.s3.uri()) not in story.saved_late
