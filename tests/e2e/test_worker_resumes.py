"""The SDK on a real node with a real S3: killed mid-way, an attempt repeats at most what was not saved."""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.stage import Stage, worker_of
from tests.support.s3 import S3Server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
NewStage = Callable[..., Stage]

MANIFEST = Path(__file__).parents[2] / "worker-image/examples/resumable/longtask.yaml"
LINES, SECONDS_PER_LINE, STRIDE = 2000, 0.02, 10
#: Longer than the time between two checkpoints that the operator writes of one task.
INTERVAL = 5
#: Seconds after an accepted checkpoint at which its worker is killed.
KILLS = (0.1, 2.0, 3.5)
CORPUS = "".join(f"the line {'abcdefghij'[number % 10]} of many, {number}\n" for number in range(LINES))


def start(stage: Stage, s3: S3Server, name: str) -> str:
    """Create the example's task on *s3* and return its UID."""
    spec: dict[str, Any] = yaml.safe_load(MANIFEST.read_text())["spec"]
    spec |= {
        "inputs": [{"name": "corpus", "uri": s3.put(f"{stage.namespace}/corpus.txt", CORPUS.encode())}],
        "env": s3.spec_env,
        "checkpoint": {"uri": s3.uri(f"{stage.namespace}/ckpt/"), "intervalSeconds": INTERVAL},
        "payload": {"top": 5, "secondsPerLine": SECONDS_PER_LINE},
        "retry": {"backoff": {"initialSeconds": 1, "factor": 1}},
    }
    created = stage.tasks.create(name, **spec)
    return str(created["metadata"]["uid"])


def test_a_worker_killed_again_and_again_repeats_at_most_one_interval_each_time(
    new_stage: NewStage, cluster_s3: S3Server
) -> None:
    """Killed early, half-way and late in an interval; what is done again is counted in lines, from the log."""
    stage = new_stage("resumes")
    uid = start(stage, cluster_s3, "count")
    prefix, reached = cluster_s3.uri(f"{stage.namespace}/ckpt/{uid}/"), dict[int, int]()
    for number, delay in enumerate(KILLS, 1):
        kill(stage, cluster_s3, uid, f"{prefix}{number}/", delay)
        ended = stage.tasks.until(
            "count", f"the end of attempt {number}", lambda s, n=number: s["attempts"][n - 1].get("cause")
        )["attempts"][number - 1]
        assert (ended["cause"], ended["exitCode"]) == ("Application", 137)
        reached[number] = max(lines_of(ended))
    status = stage.tasks.until_finished("count", 150)
    assert status["phase"] == "Succeeded"
    result = status["result"]["value"]
    words = Counter(re.findall("[a-z]+", CORPUS))
    assert (result["lines"], result["words"]) == (LINES, words.total()), "a line is missing or counted twice"
    assert result["topWords"]["the"] == LINES
    began = {int(number): int(line) for number, line in result["begins"].items()}
    for number, line in reached.items():
        own = f"{prefix}{number}/"
        assert status["attempts"][number]["resumedFrom"].startswith(own)
        # The log says every tenth line: nine more may have been counted.
        assert line + STRIDE - 1 - began[number + 1] <= INTERVAL / SECONDS_PER_LINE, f"attempt {number}: {began}"
    assert stage.audit() == []


def kill(stage: Stage, s3: S3Server, uid: str, own: str, delay: float) -> None:
    """Kill the worker *delay* seconds after a checkpoint of it was accepted, if it has saved none since.

    One that has goes on: what it would repeat depends on when the operator hears of that, and a machine may be busy.
    *own* is where the attempt saves.
    """
    newest: str | None = None
    while True:
        what, is_new = f"a new checkpoint below {own}", lambda s, last=newest: standing(s, own) not in (None, last)
        newest = standing(stage.tasks.until("count", what, is_new, 90), own)
        time.sleep(delay)
        worker = worker_of(uid, "resumable")
        os.kill(worker, signal.SIGSTOP)
        saved = s3.path(own.removeprefix(s3.uri())).glob("*/manifest.json")
        if newest == f"{own}{max(int(path.parent.name) for path in saved)}/manifest.json":
            os.kill(worker, signal.SIGKILL)
            return
        os.kill(worker, signal.SIGCONT)


def standing(status: dict[str, Any], prefix: str) -> str | None:
    """Return the URI of the accepted checkpoint if it lies below *prefix*."""
    uri = str((status.get("checkpoint") or {}).get("uri"))
    return uri if uri.startswith(prefix) else None


def lines_of(attempt: dict[str, Any]) -> list[int]:
    return [int(number) for number in re.findall(r"^line (\d+)$", attempt.get("logTail") or "line 0", re.MULTILINE)]


def test_a_suspended_worker_saves_first_and_repeats_nothing_of_it(new_stage: NewStage, cluster_s3: S3Server) -> None:
    stage = new_stage("suspends")
    start(stage, cluster_s3, "count")
    stage.tasks.until("count", "progress", lambda s: (s.get("progress") or {}).get("done"))
    stage.tasks.change("count", suspend=True)
    stage.tasks.until_phase("count", "Suspended")
    stage.tasks.change("count", suspend=False)
    status = stage.tasks.until_finished("count", 150)
    first, second = status["attempts"]
    assert (first["cause"], status["phase"]) == ("Suspended", "Succeeded")
    assert second["resumedFrom"]
    result = status["result"]["value"]
    assert result["lines"] == LINES
    assert result["topWords"]["the"] == LINES
    assert max(lines_of(first)) - result["begins"]["2"] <= 10, "only what came after the last save is done again"
