"""Zombies by the dozen: containers of a real kubelet, frozen, replaced, and let go on beside what replaced them.

A zombie is an attempt that nobody can reach, while its pod was given up and the next attempt runs. Each is frozen
together with its runtime at another moment of its work, so that the kubelet cannot end it, and given up as the pod
garbage collector does it whose node is gone, or by force as people do. Once the next attempt has committed a
checkpoint, and of every third task its result as well, the zombie goes on: it saves to a real S3, reports, and leaves
a result that the kubelet offers when the runtime answers again. What counts is judged from etcd's history of statuses.

A few more have the SDK. They end by themselves, also where their function does not stop, and leave nothing to be taken.

The kubelet keeps the CPU of a frozen pod in its books, so these attempts are smaller than those of the chart.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from longtask_worker import exit_codes
from tests.e2e.stage import Detached, Stage
from tests.e2e.summing import MOUNT, QUICK, claim_of, environment
from tests.support.auditor import Violation
from tests.support.auditor_history import read_history
from tests.support.live import FINISHED_PHASES, Json, await_
from tests.support.operator_process import OperatorProcess
from tests.support.s3 import S3Server
from tests.support.zombies import late_commits

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

#: As many as the project promises; on demand more.
ZOMBIES = int(os.environ.get("LONGTASK_ZOMBIES", "50"))
#: At once, each with its successor: all of them find room on a node of two CPUs of which others use a part.
AT_ONCE, SIZE = 20, "40m=64Mi"
#: With the SDK: every other one is stubborn, every third goes on after its successor's end.
WITH_SDK = 4
PROGRAM = (Path(__file__).parent / "zombie_worker.py").read_text()
SDK_PROGRAM = (Path(__file__).parent / "zombie_sdk_worker.py").read_text()
PAUSE = 0.3
RESULT = {"attempt": 2}
SECONDS = 450
ATTEMPT = "longtask.dev/attempt"
_OVER = "ZX"
_EXIT_CODE = 49  #: of the fields of /proc/PID/stat behind the name


class Board:
    """The statuses of all tasks, read at once for all who wait."""

    def __init__(self, stage: Stage) -> None:
        self._stage, self._statuses = stage, dict[str, Json]()
        self._news, self._closing = threading.Condition(), threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def until(self, name: str, what: str, check: Callable[[Json], Any]) -> Json:
        """Return the first status seen for which *check* holds."""
        with self._news:
            seen = self._news.wait_for(lambda: check(self._statuses.get(name, {})), SECONDS)
            status = self._statuses.get(name, {})
            assert seen, f"{name}: {what}; last status {json.dumps(status)[:1500]}"
            return status

    def close(self) -> None:
        self._closing.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._closing.wait(0.3):
            found = self._stage.client.items(self._stage.tasks.path)
            with self._news:
                self._statuses = {task["metadata"]["name"]: task.get("status") or {} for task in found}
                self._news.notify_all()


@dataclass
class Story:
    """One task whose first attempt becomes a zombie."""

    stage: Stage
    board: Board
    s3: S3Server
    number: int
    moment: float  #: seconds between the first accepted checkpoint and the freeze
    uid: str = ""
    before: set[str] = field(default_factory=set)  #: what the zombie had saved when it was let go on
    code: int | None = None  #: the zombie's exit code

    @property
    def name(self) -> str:
        return f"zombie-{self.number}"

    @property
    def stubborn(self) -> bool:
        """Whether the zombie ends as if it had succeeded, whatever it was told."""
        return self.number % 2 == 0

    @property
    def by_force(self) -> bool:
        """Whether its pod is deleted by force: the operator waits a minute for a word of the kubelet."""
        return self.number % 10 == 0

    @property
    def result_first(self) -> bool:
        """Whether its successor is over when the zombie goes on."""
        return self.number % 3 == 0

    def play(self) -> None:
        self.create()
        self.until_committed(1)
        time.sleep(self.moment)
        zombie = frozen(self.process(1))
        try:
            self.give_up()
            self.until_committed(2)
            if self.result_first:
                self.end_successor()
            self.before = self.saved(1)
            os.kill(zombie.worker, signal.SIGCONT)
            self.code = zombie.exit_code(self.name)
        finally:
            zombie.bury()
        if not self.result_first:
            await_(f"{self.name}: the runtime hears of the zombie's end", zombie.is_buried, 60)
            await_(f"{self.name}: the kubelet says what the zombie left", lambda: self.is_offered, 60)
            self.end_successor()

    def create(self) -> None:
        spec: Json = {
            "command": ["python3", "-c", PROGRAM],
            "env": self.s3.spec_env,
            "payload": {"pause": PAUSE, "stubborn": self.stubborn},
            "checkpoint": {"uri": self.s3.uri(f"{self.stage.namespace}/"), "intervalSeconds": 1},
            "retry": {"limits": {"lost": 1, "disruption": 1, "application": 0}, "backoff": QUICK},
        }
        self.uid = self.stage.tasks.create(self.name, **spec)["metadata"]["uid"]

    def until_committed(self, attempt: int) -> None:
        what = f"a checkpoint of attempt {attempt}"
        self.board.until(self.name, what, lambda s: (s.get("checkpoint") or {}).get("attempt") == attempt)

    def give_up(self) -> None:
        """Delete the pod, as the pod garbage collector does whose node is gone: it says that the pod has failed."""
        (pod,) = self.stage.tasks.pods(self.name)
        path = f"/api/v1/namespaces/{self.stage.namespace}/pods/{pod['metadata']['name']}"
        if not self.by_force:
            gone = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC"}
            status = {"status": {"phase": "Failed", "conditions": [gone]}}
            self.stage.client.request("PATCH", f"{path}/status", status, form="application/strategic-merge-patch+json")
        self.stage.client.request("DELETE", path, query={"gracePeriodSeconds": "0"})

    @property
    def is_offered(self) -> bool:
        """Whether the kubelet has said how the zombie ended, unless there is no pod any more of which it could."""
        pods = [pod for pod in self.stage.tasks.pods(self.name) if pod["metadata"]["labels"][ATTEMPT] == "1"]
        return all(left_by(pod) for pod in pods)

    def end_successor(self) -> None:
        os.kill(self.process(2), signal.SIGUSR1)
        self.board.until(self.name, "the end", lambda s: s.get("phase") in FINISHED_PHASES)

    def process(self, attempt: int) -> int:
        """Return the worker's process as this machine numbers it."""
        wanted = {f"LONGTASK_UID={self.uid}".encode(), f"LONGTASK_ATTEMPT={attempt}".encode()}
        (worker,) = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if wanted <= environment(pid)]
        return worker

    def saved(self, attempt: int) -> set[str]:
        """Return the URIs of what the attempt has saved, as it lies on S3."""
        below = self.s3.path(f"{self.stage.namespace}/{self.uid}/{attempt}")
        return {self.s3.uri(str(one.relative_to(self.s3.path("")))) for one in below.glob("*/manifest.json")}

    @property
    def saved_late(self) -> set[str]:
        return self.saved(1) - self.before

    def heard(self) -> list[tuple[str, int]]:
        """Return what each report of the zombie offered, and the code of its answer."""
        raw = self.s3.path(f"{self.stage.namespace}/{self.uid}/1/heard.json").read_text()
        return [(uri, code) for uri, code in json.loads(raw)]


@dataclass
class SdkStory(Story):
    """The same of a worker with the SDK, which saves to a claim: an S3 client would not fit into its size."""

    folder: Path = Path()

    @property
    def name(self) -> str:
        return f"sdk-zombie-{self.number}"

    def create(self) -> None:
        spec: Json = {
            "command": ["python3", "-c", SDK_PROGRAM],
            "payload": {"pause": PAUSE, "stubborn": self.stubborn},
            "checkpoint": {"volumeClaimName": "work", "intervalSeconds": 1},
            "retry": {"limits": {"lost": 1, "disruption": 1, "application": 0}, "backoff": QUICK},
        }
        self.uid = self.stage.tasks.create(self.name, **spec)["metadata"]["uid"]

    def saved(self, attempt: int) -> set[str]:
        below = (self.folder / self.uid / str(attempt)).glob("*/manifest.json")
        return {f"{MOUNT}/{one.relative_to(self.folder)}" for one in below}


def left_by(pod: Json) -> Json:
    """Return the termination message of a pod's container, empty if there is none yet."""
    (container,) = pod["status"]["containerStatuses"]
    found: Json = json.loads((container["state"].get("terminated") or {}).get("message") or "{}")
    return found


@dataclass(frozen=True, slots=True)
class Frozen:
    """A container's process and its runtime, both stopped: nothing on the node can end it, or hear of its end."""

    worker: int
    shim: int

    def exit_code(self, name: str) -> int:
        """Wait until the process is over and return its exit code, negative for a signal; nobody has reaped it yet."""
        await_(f"{name}: process {self.worker} over", lambda: stat(self.worker)[0] in _OVER, 90)
        return os.waitstatus_to_exitcode(int(stat(self.worker)[_EXIT_CODE]))

    def is_buried(self) -> bool:
        return not Path(f"/proc/{self.worker}").exists()

    def bury(self) -> None:
        """Let its runtime answer again."""
        if Path(f"/proc/{self.shim}").exists():
            os.kill(self.shim, signal.SIGCONT)


def frozen(worker: int) -> Frozen:
    os.kill(worker, signal.SIGSTOP)
    shim = int(stat(worker)[1])
    os.kill(shim, signal.SIGSTOP)
    return Frozen(worker, shim)


def stat(pid: int) -> list[str]:
    """Return the fields of a process from its state on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


@dataclass(frozen=True, slots=True)
class Told:
    stories: list[Story]  #: without the SDK
    with_sdk: list[SdkStory]
    statuses: dict[str, list[Json]]
    left: dict[str, Json]  #: what zombies left, as their kubelet said it of a pod, by the task's name
    refused: int  #: reports that the operator answered 409


@pytest.fixture(scope="module")
def told(
    detached: Detached, new_stage: Callable[..., Stage], cluster_s3: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Told]:
    """Play all stories, those first whose attempt 2 is long in coming."""
    operator = detached.leading("zombies", ladder=SIZE, progress_writes_per_second="1000")
    stage, moments = new_stage("zombies"), random.Random(20261127)
    board = Board(stage)
    try:
        stories = [Story(stage, board, cluster_s3, n, moments.uniform(0, 1)) for n in range(ZOMBIES)]
        with claim_of(stage, tmp_path_factory.mktemp("claim")) as folder, ThreadPoolExecutor(AT_ONCE) as pool:
            with_sdk = [
                SdkStory(stage, board, cluster_s3, n, moments.uniform(0, 1), folder=folder)
                for n in range(1, WITH_SDK + 1)
            ]
            longest_first = sorted([*with_sdk, *stories], key=lambda story: not story.by_force)
            list(pool.map(lambda story: story.play(), longest_first))
        assert [violation for violation in stage.audit() if not is_of_zombie(violation)] == []
        statuses = stage.all_statuses(story.name for story in (*stories, *with_sdk))
        yield Told(stories, with_sdk, statuses, words_of_zombies(stage), refused(operator))
    finally:
        board.close()


def is_of_zombie(violation: Violation) -> bool:
    """Tell whether it says that attempt 1 lives beside attempt 2: that is what a zombie is, while its pod is shown.

    The pods of those by force are still there. Those that failed by our word may be said to run once more: this
    kubelet is not away.
    """
    rules = ("EarlyRelease", "EndedAlive", "OneLivePod")
    return violation.rule in rules and bool(re.search(r"\bzombie-\d+-[0-9a-f]{6}-1-", violation.message))


def words_of_zombies(stage: Stage) -> dict[str, Json]:
    """Return what pods of attempt 1 were said to have left, by the task's name."""
    history = read_history(stage.cluster.etcd_endpoint, since=stage.since, namespaces=[stage.namespace])
    pods = [
        c.body for c in history if c.kind == "Pod" and c.body and (c.body.get("status") or {}).get("containerStatuses")
    ]
    labels = [(pod["metadata"]["labels"], left_by(pod)) for pod in pods]
    return {label["longtask.dev/task"]: left for label, left in labels if label[ATTEMPT] == "1" and left}


def refused(operator: OperatorProcess) -> int:
    with urllib.request.urlopen(operator.metrics_url, timeout=5) as answer:
        text = answer.read().decode()
    return int(sum(float(count) for count in re.findall(r'^longtask_reports_total\{code="409"\} (.+)$', text, re.M)))


def test_no_zombie_published_anything(told: Told) -> None:
    stories = (*told.stories, *told.with_sdk)
    found = {s.name: late_commits(told.statuses[s.name], s.saved_late, RESULT) for s in stories}
    assert {name: late for name, late in found.items() if late} == {}
    assert len(found) == ZOMBIES + WITH_SDK


def test_every_zombie_tried_all_of_it_and_was_told(told: Told) -> None:
    """The exit code says that it also left a result and a checkpoint as its last word, and that it ended by itself."""
    codes = [exit_codes.OK if story.stubborn else exit_codes.SUPERSEDED for story in told.stories]
    assert [story.code for story in told.stories] == codes
    told_to_stop = 0
    for story in told.stories:
        late = [code for uri, code in story.heard() if uri in story.saved_late]
        assert late, f"{story.name} offered nothing"
        assert 409 in late, f"{story.name} heard {late}"
        assert 200 not in late, f"{story.name} heard {late}"
        told_to_stop += late.count(409)
    assert told.refused >= told_to_stop


def test_a_zombie_with_the_sdk_ends_by_itself_and_leaves_nothing_to_be_taken(told: Told) -> None:
    assert [story.code for story in told.with_sdk] == [exit_codes.SUPERSEDED] * WITH_SDK
    assert any(story.saved_late for story in told.with_sdk), "none tried anything"
    for left in (told.left[story.name] for story in told.with_sdk if story.name in told.left):
        assert left["message"] == "superseded by a newer attempt"
        assert not {"result", "uri", "checkpoint"} & set(left)


def test_what_a_kubelet_says_of_a_zombie_counts_for_nothing(told: Told) -> None:
    """The pods of those by force are still there when their runtime answers: a result and a checkpoint to be taken."""
    offered = [story for story in told.stories if story.by_force and not story.result_first]
    assert offered
    for story in offered:
        left = told.left[story.name]
        assert left["result"] == {"attempt": 1}
        assert left["checkpoint"]["uri"] in story.saved_late


def test_every_task_went_on_from_what_stood(told: Told) -> None:
    for story in (*told.stories, *told.with_sdk):
        status = told.statuses[story.name][-1]
        first, second = (one["cause"] for one in status["attempts"])
        # The kubelet, which is not away, may contradict so soon that nobody hears the collector's word.
        assert first in (("Lost",) if story.by_force else ("Disruption", "Lost"))
        assert second == "Completed"
        assert status["phase"] == "Succeeded"
        resumed = status["attempts"][1]["resumedFrom"]
        assert resumed in story.before, "what stood before it was let go on"
