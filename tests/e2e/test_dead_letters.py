"""Dead letters on a real kubelet: kept, counted and found, and run anew as the changed spec says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e.stage import Stage
from tests.support.live import Json, await_, condition

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
PLACE = "s3://bucket/letters/"
#: Saves and fails in its first run; in the second it tells what it was given.
SCRIPT = """
if test $LONGTASK_RUN -eq 1; then
  printf '{"longtask":1,"message":"no such table","checkpoint":{"uri":"%smanifest.json","sha256":"%064d"}}' \\
    "$LONGTASK_CHECKPOINT_URI" 0 > /dev/termination-log
  exit 3
fi
printf '{"longtask":1,"result":{"resume":"%s","memory":"%s"}}' \\
  "${LONGTASK_RESUME_URI:-}" "$LONGTASK_MEMORY" > /dev/termination-log
"""
#: What a redrive may ask for besides, by the task's name.
CHANGES: dict[str, Json] = {
    "larger": {"resources": {"cpu": "250m", "memory": "1Gi"}},
    "fresh": {"checkpoint": {"onRedrive": "Discard"}},
}


@pytest.fixture(scope="module")
def letters(new_stage: Callable[..., Stage]) -> Stage:
    """A stage with two dead letters that have a checkpoint each."""
    stage = new_stage("letters")
    for name in CHANGES:
        stage.tasks.create(
            name, SCRIPT, checkpoint={"uri": PLACE}, retry={"limits": {"application": 0}}, ttlSecondsAfterFinished=1
        )
    return stage


def counted(stage: Stage) -> float:
    """Return how many dead letters of this tenant the operator's metric counts."""
    return stage.metric(f'longtask_dead_letters{{tenant="{stage.namespace}"}}')


def test_a_dead_letter_is_kept_counted_and_run_anew_as_asked(letters: Stage) -> None:
    tasks = letters.tasks
    dead = {name: tasks.until_finished(name) for name in CHANGES}
    for status in dead.values():
        assert (status["phase"], status["deadLettered"]) == ("Failed", True)
        assert condition(status, "DeadLettered")["reason"] == "Application"
        assert (status["attempts"][0]["exitCode"], status["attempts"][0]["message"]) == (3, "no such table")
        assert status["attempts"][0]["nodeName"]
        assert status["checkpoint"]["uri"].startswith(PLACE)
    found = letters.client.items(tasks.path, fieldSelector="status.deadLettered=true")
    assert {task["metadata"]["name"] for task in found} == set(CHANGES)
    await_("both counted", lambda: counted(letters) == 2, 30)

    for name, change in CHANGES.items():
        tasks.change(name, redrive="again", ttlSecondsAfterFinished=3600, **change)
    ended = {name: tasks.until_phase(name, "Succeeded", seconds=90) for name in CHANGES}
    for status in ended.values():
        assert [(a["number"], a["run"], a["cause"]) for a in status["attempts"]] == [
            (1, 1, "Application"),
            (2, 2, "Completed"),
        ]
        assert (status["attemptCounts"], status["attemptTotals"]) == (
            {"completed": 1},
            {"application": 1, "completed": 1},
        )
        assert condition(status, "DeadLettered") == {}
    kept = dead["larger"]["checkpoint"]["uri"]
    assert ended["larger"]["result"]["value"] == {"resume": kept, "memory": str(1024**3)}
    assert ended["larger"]["attempts"][1]["resumedFrom"] == kept
    assert ended["larger"]["attempts"][1]["memory"] == "1Gi"
    assert ended["fresh"]["result"]["value"]["resume"] == ""
    assert "resumedFrom" not in ended["fresh"]["attempts"][1]
    assert letters.client.items(tasks.path, fieldSelector="status.deadLettered=true") == []
    await_("none counted", lambda: counted(letters) == 0, 30)
    assert letters.audit() == []
