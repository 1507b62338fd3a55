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

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
NewStage = Callable[..., Stage]

MANIFEST = Path(__file__).parents[2] / "worker-image/examples/resumable/longtask.yaml"
LINES, SECONDS_PER_LINE, INTERVAL, STRIDE = 1500, 0.02, 2, 10
#: Seconds after an accepted checkpoint at which its worker is killed.
KILLS = (0.1, 1.0, 1.7)
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
        own = f"{prefix}{number}/"
        first = stage.tasks.until("count", f"a checkpoint of attempt {number}", lambda s, own=own: standing(s, own), 90)
        known = {None, standing(first, own)}
        stage.tasks.until("count", "a second one", lambda s, own=own, known=known: standing(s, own) not in known)
        time.sleep(delay)
        os.kill(worker_of(uid, "resumable"), signal.SIGKILL)
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
