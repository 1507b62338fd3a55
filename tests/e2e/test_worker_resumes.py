"""The SDK on a real node with a real S3: killed mid-way, an attempt repeats at most what was not saved."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.stage import Stage
from tests.support.live import await_
from tests.support.s3 import S3Server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
NewStage = Callable[..., Stage]

MANIFEST = Path(__file__).parents[2] / "worker-image/examples/resumable/longtask.yaml"
LINES, SECONDS_PER_LINE, INTERVAL = 1500, 0.02, 2
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


def worker_of(uid: str) -> int:
    """Return the process of the task's container, as this machine numbers it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environ, command = (process / "environ").read_bytes(), (process / "cmdline").read_bytes()
        except OSError:
            continue
        if f"LONGTASK_UID={uid}".encode() in environ.split(b"\0") and b"resumable" in command:
            found.append(int(process.name))
    assert len(found) == 1, found
    return found[0]


def test_a_worker_killed_mid_way_goes_on_from_its_checkpoint(new_stage: NewStage, cluster_s3: S3Server) -> None:
    stage = new_stage("resumes")
    uid = start(stage, cluster_s3, "count")
    accepted = stage.tasks.until("count", "a checkpoint", lambda s: s.get("checkpoint"))["checkpoint"]
    assert accepted["uri"].startswith(cluster_s3.uri(f"{stage.namespace}/ckpt/{uid}/1/"))
    seen = {accepted["uri"]}
    await_("a second one", lambda: stage.tasks.status("count")["checkpoint"]["uri"] not in seen, 60)
    os.kill(worker_of(uid), signal.SIGKILL)
    status = stage.tasks.until_finished("count", 150)

    first, second = status["attempts"]
    assert (status["phase"], first["cause"], first["exitCode"]) == ("Succeeded", "Application", 137)
    assert second["resumedFrom"].startswith(cluster_s3.uri(f"{stage.namespace}/ckpt/{uid}/1/"))
    result = status["result"]["value"]
    words = Counter(re.findall("[a-z]+", CORPUS))
    assert (result["lines"], result["words"]) == (LINES, words.total()), "a line is missing or counted twice"
    assert result["topWords"]["the"] == LINES
    reached = max(int(number) for number in re.findall(r"^line (\d+)$", first["logTail"], re.MULTILINE))
    assert 0 < result["began"] < LINES
    # One interval, and what may pass until a save stands in the status: 5 s to the next report, 3 s between two writes.
    assert reached - result["began"] <= (INTERVAL + 5 + 3) / SECONDS_PER_LINE
    assert stage.audit() == []


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
    reached = max(int(number) for number in re.findall(r"^line (\d+)$", first.get("logTail") or "line 0", re.MULTILINE))
    assert reached - result["began"] <= 10, "only what came after the last save is done again"
