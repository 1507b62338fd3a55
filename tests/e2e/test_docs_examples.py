"""The examples of the pages on attempts, sizes, checkpoints and dead letters, run as they are printed.

Only the namespace is another one. Where a reader is to watch, the test waits for what the reader would wait for.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.stage import Played, Stage, played
from tests.support.live import Json

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
NAMESPACE = "team-a"
WATCHES = re.compile(r"^kubectl get .* -w\b.*$", re.MULTILINE)


class Page:
    """A page of the documentation whose reader works in the namespace of *stage*."""

    def __init__(self, stage: Stage, name: str) -> None:
        self._stage = stage
        text = (ROOT / "docs" / "how-to" / name).read_text().replace(NAMESPACE, stage.namespace)
        self._blocks = FENCE.findall(text)

    def apply(self, name: str) -> None:
        """Apply the first manifest of that name."""
        manifests = (text for language, text in self._blocks if language == "yaml")
        text = next(text for text in manifests if (yaml.safe_load(text).get("metadata") or {}).get("name") == name)
        self._stage.kubectl("apply", "-f", "-", input=text)

    def run(self, beginning: str, watching: Callable[[], object] | None = None) -> str:
        """Run the commands of the block that begins so, and return what the last of them said."""
        shells = (text for language, text in self._blocks if language == "sh")
        block = next(text for text in shells if text.startswith(beginning))
        parts = WATCHES.split(block)
        assert (len(parts) == 2) == (watching is not None), block
        said = self._shell(parts[0])
        if watching:
            watching()
            said = self._shell(parts[1])
        return said

    def _shell(self, commands: str) -> str:
        cluster = self._stage.cluster
        folder = Path(cluster.devcluster.binaries["kubectl"]).parent
        env = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "PATH": f"{folder}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands], env=env, cwd=ROOT, text=True, capture_output=True, check=False
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
        return done.stdout


def attempts(stage: Stage) -> str:
    page = Page(stage, "attempts-and-causes.md")
    page.apply("hangs")
    stage.tasks.until_finished("hangs", 180)
    return page.run("kubectl get lt hangs")


def sizes(stage: Stage) -> str:
    page = Page(stage, "sizing.md")
    return page.run("kubectl apply", watching=lambda: stage.tasks.until_finished("keepall", 180))


def hints(stage: Stage) -> Json:
    page = Page(stage, "sizing.md")
    page.apply("import-large")
    return stage.tasks.until_finished("import-large", 120)


def checkpoints(stage: Stage) -> tuple[str, Json, Json]:
    page, folder = Page(stage, "checkpoints.md"), Path(f"/tmp/{stage.namespace}-checkpoints")
    page.apply("sums")
    try:
        page.run("mkdir")
        done = lambda status: (status.get("checkpoint") or {}).get("attempt") == 1  # noqa: E731
        page.run("kubectl apply", watching=lambda: stage.tasks.until("sums", "a checkpoint", done, 90))
        status = stage.tasks.until_finished("sums", 180)
        said = page.run("kubectl get lt sums")
        page.run("kubectl patch lt sums")
        redriven = lambda status: status.get("run") == 2 and status.get("phase") == "Succeeded"  # noqa: E731
        return said, status, stage.tasks.until("sums", "the second run's end", redriven, 90)
    finally:
        stage.kubectl("delete", "pv", f"{stage.namespace}-checkpoints", "--ignore-not-found", "--wait=false")
        subprocess.run(["rm", "-rf", str(folder)], check=False)


def dead_letters(stage: Stage) -> tuple[str, Json]:
    page = Page(stage, "dead-letters.md")
    page.apply("import")
    stage.tasks.until_finished("import")
    found = page.run("kubectl get lt -A")
    page.run(f"kubectl get lt -n {stage.namespace} --field-selector")
    stage.tasks.until("import", "a second run's end", lambda s: s.get("run") == 2 and s.get("deadLettered"), 90)
    page.run("kubectl patch lt import")
    return found, stage.tasks.until("import", "success", lambda s: s.get("phase") == "Succeeded", 60)


@pytest.fixture(scope="module")
def play(stage: Stage) -> Iterator[Played]:
    with played(stage, attempts, sizes, hints, checkpoints, dead_letters) as running:
        yield running


def test_attempts_and_causes(play: Played) -> None:
    first, second = play.of(attempts).splitlines()
    assert first.startswith("1 HeartbeatLost ")
    assert second.startswith("2 Completed 0 node-1")


def test_sizing(play: Played) -> None:
    assert "512Mi was nearly used up in attempt 1, which was resized while it ran" in play.of(sizes)


def test_sizing_from_inputs(play: Played) -> None:
    status = play.of(hints)
    assert (status["phase"], status["sizing"]["display"]) == ("Succeeded", "250m/1Gi")
    assert status["sizing"]["message"] in " ".join((ROOT / "docs/how-to/sizing.md").read_text().split())


def test_checkpoints(play: Played) -> None:
    said, status, redriven = play.of(checkpoints)
    assert status["phase"] == "Succeeded"
    assert status["result"]["value"] == {"sum": sum(range(600))}
    assert status["attempts"][1]["resumedFrom"] in said
    assert redriven["attempts"][2]["resumedFrom"] == status["checkpoint"]["uri"]
    assert redriven["attempts"][2]["memory"] == "2Gi"


def test_dead_letters(play: Played) -> None:
    found, status = play.of(dead_letters)
    assert found.endswith("Application: exit code 3\nno such table\n")
    assert found.splitlines()[0].startswith("NAMESPACE ")
    assert status["attemptTotals"] == {"application": 4, "completed": 1}


def test_all_of_it_left_the_records_in_order(play: Played, stage: Stage) -> None:
    play.wait()
    assert stage.audit() == []
