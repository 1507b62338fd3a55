"""Checkpoints of real processes on real storages: reported, accepted, resumed from, pruned, asked for, refused."""

from __future__ import annotations

import itertools
import json
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.checkpoint_support import UID, Ledger, attempt_environment
from tests.integration.worker_support import PATIENCE, Received, Reply, ReportServer, end, start_worker
from tests.support.s3 import S3Server

pytestmark = pytest.mark.integration

# Counts from where it was; each number is one unit of work. Ends at the payload's total, or when asked to.
COUNT = """
import os
def main(task):
    n = task.checkpoint.load(default=0)
    began = n
    while n < task.payload["total"]:
        n += 1
        with open(task.payload["work"], "a") as work:
            work.write(f"{n}\\n")
        time.sleep(task.payload.get("pace", 0.01))
        task.checkpoint.save_if_due(n)
        task.raise_if_cancelled()
    return {"began": began, "n": n, "resumed": task.resumed, "from": task.checkpoint.resumed_from}
"""


# Saves a number of checkpoints, then keeps running without another one.
SAVE_AND_IDLE = """
def main(task):
    for n in range(task.payload["saves"]):
        task.checkpoint.save(n)
        time.sleep(0.01)
    while True:
        time.sleep(0.01)
        task.raise_if_cancelled()
"""


# Notes when each report is made up.
NOTE_TIMES = """
import os
from longtask_worker.pacing import Timetable
begins = Timetable.begins
def note(self, now):
    with open(os.path.join(os.path.dirname(os.environ["LONGTASK_TERMINATION_LOG"]), "times"), "a") as times:
        times.write(f"{now}\\n")
    begins(self, now)
Timetable.begins = note
"""


@dataclass
class Scene:
    """One task on one storage."""

    server: ReportServer
    ledger: Ledger
    base: str
    extra: dict[str, str]
    folder: Path

    def start(self, code: str = COUNT, interval: float = 0.05, **payload: Any) -> Any:
        (self.folder / "termination-log").write_bytes(b"")
        whole = {"total": 10**9, "work": str(self.folder / "work"), **payload}
        env = attempt_environment(self.server, self.ledger, self.base, self.extra, interval)
        return start_worker(code, {**env, "LONGTASK_PAYLOAD": json.dumps(whole)})

    def message(self) -> dict[str, Any]:
        fields: dict[str, Any] = json.loads((self.folder / "termination-log").read_bytes())
        return fields

    def work(self) -> list[int]:
        path = self.folder / "work"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def objects(self) -> list[str]:
        from longtask_worker.storage.files import FileStorage
        from longtask_worker.storage.s3 import split_uri

        if self.base.startswith("file:"):
            return sorted(uri[len(self.base) :] for uri in FileStorage().list_below(self.base))
        prefix = split_uri(self.base)["Key"]
        return sorted(key[len(prefix) :] for key in self.s3.keys(prefix))

    def saved_since_accepted(self) -> int:
        """Return how many checkpoints of the present attempt are newer than the one that was accepted last."""
        prefix = f"{UID}/{self.ledger.attempt}/"
        saved = [name.split("/")[2] for name in self.objects() if name.startswith(prefix) and "manifest" in name]
        accepted = self.ledger.accepted[0]["uri"][len(self.base) :].split("/")[2]
        return sum(int(number) > int(accepted) for number in saved)

    s3: Any = None

    def until(self, check: Callable[[], bool], seconds: float = PATIENCE) -> None:
        deadline = time.monotonic() + seconds
        while not check():
            assert time.monotonic() < deadline, self.objects()
            time.sleep(0.02)

    def until_accepted(self, count: int = 1) -> None:
        seen: set[str] = set()

        def enough(_reports: object) -> bool:
            seen.update(entry["uri"] for entry in self.ledger.accepted)
            return len(seen) >= count

        self.server.wait_for(enough)


@pytest.fixture(params=["s3", "file"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    server, ledger = ReportServer(tmp_path), Ledger()
    server.answer = ledger.answer
    if request.param == "s3":
        s3: S3Server = request.getfixturevalue("s3")
        base, extra = s3.uri(f"ckpt/{tmp_path.name}/"), s3.env
    else:
        s3, base, extra = None, (tmp_path / "claim").as_uri() + "/", {}  # type: ignore[assignment]
    yield Scene(server=server, ledger=ledger, base=base, extra=extra, folder=tmp_path, s3=s3)
    server.close()


def test_a_worker_killed_at_any_time_repeats_at_most_one_interval(scene: Scene) -> None:
    """Counted in units of work, for each of four attempts that die at different times after an accepted save."""
    interval, pace, kills = 1.0, 0.01, (0.05, 0.45, 0.75, 0.97)
    allowed: list[float] = []
    for number, delay in enumerate(kills, 1):
        scene.ledger.attempt = number
        before = scene.ledger.accepted[:1]
        process = scene.start(interval=interval, pace=pace)
        scene.until(lambda before=before: scene.ledger.accepted[:1] != before)  # type: ignore[misc]
        time.sleep(delay)
        process.kill()
        end(process)
        # On a busy machine it may have saved again by then, without an answer yet.
        allowed.append(interval / pace * (1 + scene.saved_since_accepted()))
    scene.ledger.attempt = last = len(kills) + 1
    done = max(scene.work())
    code, _, err = end(scene.start(total=done + 20))
    assert code == 0, err
    result = scene.message()["result"]
    assert (result["n"], result["resumed"]) == (done + 20, True)
    assert result["from"] == f"{scene.base}{UID}/{last - 1}/" + result["from"].split("/")[-2] + "/manifest.json"
    work = scene.work()
    assert sorted(set(work)) == list(range(1, done + 21)), "something was left out"
    repeated = [before - after + 1 for before, after in itertools.pairwise(work) if after <= before]
    assert len(repeated) <= len(kills)
    assert max(repeated) <= max(allowed), f"more than one interval was done again: {repeated}, not {allowed}"


def test_a_checkpoint_is_reported_at_once_but_no_more_often_than_the_operator_bears(scene: Scene) -> None:
    """With ten thousand workers each is to report every 200 s, and may name a checkpoint every 33 s; here a tenth.

    By the worker's own clock: how long its reports are on their way is no matter of its pace.
    """
    answer, turn = scene.ledger.answer, 20

    def slow(received: Received) -> Reply:
        reply = answer(received)
        return replace(reply, fields={**reply.fields, "nextReportSeconds": turn})

    scene.server.answer = slow
    process = scene.start(NOTE_TIMES + SAVE_AND_IDLE, saves=600)
    scene.server.wait_for(lambda reports: len(reports) >= 3)
    process.send_signal(signal.SIGTERM)
    end(process)
    named, newer = ((report.body.get("checkpoint") or {}).get("uri", "") for report in scene.server.reports[1:3])
    assert named != newer
    assert "" not in (named, newer)
    start, first, second = map(float, (scene.folder / "times").read_text().split()[:3])
    assert first - start < turn / 6, "the first one does not wait for its turn"
    assert turn / 6 <= second - first < turn * 0.75, "the next one keeps its distance"


def test_older_ones_are_pruned_after_the_echo_and_dead_attempts_cleaned_up(scene: Scene) -> None:
    scene.ledger.silent = True
    first = scene.start()
    scene.until(lambda: len(scene.objects()) >= 5)
    first.kill()
    end(first)
    left = scene.objects()
    assert len(left) >= 5, "nothing may go before something is accepted"
    scene.ledger.silent = False
    scene.ledger.attempt = 2
    second = scene.start(interval=0.5)
    scene.until_accepted(6)
    # Two accepted, one that may be as its echo could have been lost, and the one that was just saved.
    scene.until(lambda: len(left := scene.objects()) <= 4 and not [name for name in left if f"{UID}/1/" in name])
    second.send_signal(signal.SIGTERM)
    end(second)
    assert not [name for name in scene.objects() if name.startswith(f"{UID}/1/")]
    assert len(scene.ledger.accepted) == 2
    for entry in scene.ledger.accepted:
        assert entry["uri"][len(scene.base) :] in scene.objects()


def test_what_the_operator_asks_for_is_saved_and_reported_at_once(scene: Scene) -> None:
    process = scene.start(interval=3600)
    scene.server.wait_for(lambda reports: len(reports) >= 2)
    assert scene.objects() == []
    scene.ledger.requested = True
    scene.until_accepted(1)
    numbers = len(scene.server.reports)
    scene.server.wait_for(lambda reports: len(reports) >= numbers + 3)
    assert len(scene.objects()) == 1, "one request, one checkpoint"
    process.send_signal(signal.SIGTERM)
    end(process)


def test_work_that_is_no_loop_is_called_back(scene: Scene) -> None:
    code = """
def main(task):
    task.checkpoint.on_request(lambda: task.checkpoint.save({"state": "half"}))
    while not task.cancelled: time.sleep(0.01)
    task.raise_if_cancelled()
"""
    process = scene.start(code, interval=3600)
    scene.ledger.requested = True
    scene.until_accepted(1)
    process.send_signal(signal.SIGTERM)
    assert end(process)[0] == 143
    assert len(scene.objects()) == 1


def test_the_last_save_after_sigterm_stands_in_the_message(scene: Scene) -> None:
    scene.ledger.silent = True
    process = scene.start(interval=3600)
    scene.server.wait_for(lambda reports: len(reports) >= 2)
    process.send_signal(signal.SIGTERM)
    assert end(process)[0] == 143
    message = scene.message()
    assert message["checkpoint"]["uri"] == f"{scene.base}{UID}/1/1/manifest.json"
    assert len(message["checkpoint"]["sha256"]) == 64
    scene.ledger.take_from_message((scene.folder / "termination-log").read_bytes())
    done = max(scene.work())
    scene.ledger.attempt = 2
    assert end(scene.start(total=done + 1))[0] == 0
    assert scene.work() == list(range(1, done + 2)), "nothing is repeated"


def test_a_failed_attempt_leaves_its_last_checkpoint_too(scene: Scene) -> None:
    code = "def main(task):\n    task.checkpoint.save([1])\n    raise ValueError('x' * 9000)\n"
    assert end(scene.start(code))[0] == 1
    message = scene.message()
    assert message["checkpoint"]["sizeBytes"] == 3
    assert message["message"].startswith("ValueError")


def test_a_zombie_publishes_nothing_any_more(scene: Scene) -> None:
    zombie = scene.start(interval=0.02)
    scene.until_accepted(1)
    zombie.send_signal(signal.SIGSTOP)
    scene.ledger.attempt = 2
    successor = scene.start(interval=0.02)
    scene.server.wait_for(lambda _reports: f"/{UID}/2/" in scene.ledger.accepted[0]["uri"])
    (scene.folder / "termination-log").write_bytes(b"")
    zombie.send_signal(signal.SIGCONT)
    assert end(zombie)[0] == 79
    assert "checkpoint" not in scene.message()
    before = [name for name in scene.objects() if name.startswith(f"{UID}/1/")]
    scene.until_accepted(3)
    successor.send_signal(signal.SIGTERM)
    end(successor)
    assert [name for name in scene.objects() if name.startswith(f"{UID}/1/")] in (before, []), "written after its end"
    assert f"/{UID}/2/" in scene.ledger.accepted[0]["uri"]


def test_two_attempts_at_once_do_not_meet(scene: Scene) -> None:
    first = scene.start(interval=0.01, work=str(scene.folder / "first"))
    scene.until_accepted(1)
    for attempt in (2, 3):
        scene.ledger.attempt = attempt
        first_silent = scene.start(interval=0.01)
        scene.server.wait_for(lambda _r, a=attempt: f"/{UID}/{a}/" in scene.ledger.accepted[0]["uri"])  # type: ignore[misc]
        first_silent.kill()
        end(first_silent)
        for entry in scene.ledger.accepted:
            assert entry["uri"][len(scene.base) :] in scene.objects()
    first.kill()
    end(first)


def test_every_kind_of_value_survives_a_process(scene: Scene) -> None:
    code = """
from pathlib import Path
def main(task):
    kind = task.payload["kind"]
    before = task.checkpoint.load()
    if before is None:
        folder = Path(task.payload["folder"])
        folder.mkdir()
        (folder / "model.bin").write_bytes(b"w" * 9_000_000)
        (folder / "meta").mkdir()
        (folder / "meta" / "epoch").write_text("5")
        value = {"bytes": b"w" * 9_000_000, "json": {"epoch": 5}, "file": folder / "model.bin", "folder": folder}[kind]
        task.checkpoint.save(value)
        time.sleep(60)
    if kind == "bytes": return len(before)
    if kind == "json": return before
    if kind == "file": return [before.name, before.stat().st_size]
    return sorted(path.relative_to(before).as_posix() for path in before.rglob("*"))
"""
    expected = {
        "bytes": 9_000_000,
        "json": {"epoch": 5},
        "file": ["model.bin", 9_000_000],
        "folder": ["meta", "meta/epoch", "model.bin"],
    }
    for kind, result in expected.items():
        scene.ledger.accepted = []
        scene.ledger.attempt += 1
        process = scene.start(code, kind=kind, folder=f"{scene.folder}/{kind}")
        scene.until_accepted(1)
        process.kill()
        end(process)
        scene.ledger.attempt += 1
        code_, _, err = end(scene.start(code, kind=kind, folder=f"{scene.folder}/{kind}"))
        assert code_ == 0, err
        assert scene.message()["result"] == result


def test_a_large_result_goes_to_the_output(scene: Scene) -> None:
    outputs = json.dumps([{"name": "out", "uri": f"{scene.base}out/"}])
    env = attempt_environment(scene.server, scene.ledger, scene.base, scene.extra)
    process = start_worker("def main(task): return list(range(5000))", {**env, "LONGTASK_OUTPUTS": outputs})
    assert end(process)[0] == 0
    message = scene.message()
    assert message["uri"] == f"{scene.base}out/result-{UID}-1.json"
    assert message["sizeBytes"] == len(json.dumps(list(range(5000)), separators=(",", ":")))


def test_an_image_without_boto3_fails_for_good_and_says_why(scene: Scene) -> None:
    if scene.base.startswith("file:"):
        pytest.skip("files need nothing")
    code = "import sys\nsys.modules['boto3'] = None\n" + COUNT
    assert end(scene.start(code))[0] == 65
    assert "longtask-worker[s3]" in scene.message()["message"]


# Says what it is at: 0 before it loads, 1 after. The payload says whether it loads at all.
ORIGIN = """
def main(task):
    if task.payload["loads"]:
        task.checkpoint.load()
    task.report(1)
    time.sleep(0.5)
    return task.checkpoint.resumed_from
"""


@pytest.mark.parametrize(
    ("loads", "torn", "said"),
    [(True, 0, "newest"), (True, 1, "older"), (True, 2, ""), (False, 0, "")],
    ids=["whole", "torn", "all-torn", "unloaded"],
)
def test_an_attempt_says_what_it_went_on_from(scene: Scene, loads: bool, torn: int, said: str) -> None:
    process = scene.start(SAVE_AND_IDLE, saves=1)
    scene.server.wait_for(lambda _reports: len(scene.ledger.accepted) == 1)
    process.kill()
    end(process)
    first = scene.ledger.accepted[0]
    scene.ledger.attempt = 2
    process = scene.start(SAVE_AND_IDLE, saves=1)
    scene.server.wait_for(lambda _reports: len(scene.ledger.accepted) == 2)
    process.kill()
    end(process)
    uris = {"newest": scene.ledger.accepted[0]["uri"], "older": first["uri"], "": ""}
    for broken in scene.ledger.accepted[:torn]:
        broken["sha256"] = "0" * 64  # what is found there is not what was accepted
    scene.ledger.attempt = 3
    scene.server.reports.clear()
    assert end(scene.start(ORIGIN, loads=loads))[0] == 0
    reported = [report.body.get("resumedFrom") for report in scene.server.reports]
    assert set(reported) <= {None, uris[said]}
    assert reported[-1] == scene.message()["resumedFrom"] == uris[said]
    assert scene.message().get("result") == (uris[said] or None)


def test_a_fresh_attempt_says_nothing_of_it(scene: Scene) -> None:
    assert end(scene.start(ORIGIN, loads=True))[0] == 0
    assert all("resumedFrom" not in report.body for report in scene.server.reports)
    assert "resumedFrom" not in scene.message()
