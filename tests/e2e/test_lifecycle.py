"""From apply to the end on a real kubelet: success, failure and retry, cancel, suspend, redrive, time limits."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.stage import Played, Stage, played, says, seconds_between, stoppable
from tests.support.auditor import Expected
from tests.support.live import Json, await_, condition

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = "longtask/examples:0.1.0"
WORDCOUNT = {"megabytes": 2, "n": 2, "top": 3, "seconds": 14}
QUICK: Json = {"initialSeconds": 1, "factor": 2, "jitterPercent": 0}


def sdk(stage: Stage) -> Json:
    stage.tasks.create("sdk", image=EXAMPLES, command=["python", "-m", "wordcount"], payload=WORDCOUNT)
    return stage.tasks.until_finished("sdk")


def progress_file(stage: Stage) -> Json:
    script = 'for i in $(seq 14); do echo "$i/14 step $i" > "$LONGTASK_PROGRESS_FILE"; sleep 1; done; ' + says(
        {"steps": 14}
    )
    stage.tasks.create("progress-file", script, progressFile=True)
    return stage.tasks.until_finished("progress-file")


def fails(stage: Stage) -> Json:
    script = 'echo "the last words of $LONGTASK_ATTEMPT"; exit $((LONGTASK_ATTEMPT + 2))'
    stage.tasks.create("fails", script, retry={"limits": {"application": 2}, "backoff": QUICK})
    return stage.tasks.until_finished("fails")


def recovers(stage: Stage) -> Json:
    script = "test $LONGTASK_ATTEMPT -eq 2; " + says({"attempt": 2})
    stage.tasks.create("recovers", script, retry={"backoff": QUICK})
    return stage.tasks.until_finished("recovers")


def permanent(stage: Stage) -> Json:
    outcome = json.dumps({"longtask": 1, "permanent": True, "message": "no such column"})
    stage.tasks.create("permanent", f"printf '%s' '{outcome}' > /dev/termination-log; exit 65")
    return stage.tasks.until_finished("permanent")


def out_of_memory(stage: Stage) -> Json:
    stage.tasks.create("out-of-memory", "exec tail /dev/zero", retry={"backoff": QUICK})
    stage.tasks.until("out-of-memory", "one attempt ended", lambda s: (s.get("attempts") or [{}])[0].get("cause"))
    stage.tasks.change("out-of-memory", cancel=True)
    return stage.tasks.until_finished("out-of-memory")


def cancel_running(stage: Stage) -> Json:
    stage.tasks.create("cancel-running", stoppable())
    stage.tasks.until_phase("cancel-running", "Running")
    stage.tasks.change("cancel-running", cancel=True)
    return stage.tasks.until_finished("cancel-running")


def cancel_stubborn(stage: Stage) -> Json:
    stage.tasks.create("cancel-stubborn", "trap '' TERM; while true; do sleep 0.2; done")
    stage.tasks.until_phase("cancel-stubborn", "Running")
    stage.tasks.change("cancel-stubborn", cancel=True)
    return stage.tasks.until_finished("cancel-stubborn")


def cancel_waiting(stage: Stage) -> Json:
    stage.tasks.create("cancel-waiting", "exit 0", suspend=True)
    stage.tasks.until_phase("cancel-waiting", "Suspended")
    stage.tasks.change("cancel-waiting", cancel=True)
    return stage.tasks.until_finished("cancel-waiting")


def suspend(stage: Stage) -> tuple[Json, Json]:
    stage.tasks.create("suspend", f"test $LONGTASK_ATTEMPT -eq 2 || {{ {stoppable()}; }}; " + says({"resumed": True}))
    stage.tasks.until_phase("suspend", "Running")
    stage.tasks.change("suspend", suspend=True)
    suspended = stage.tasks.until_phase("suspend", "Suspended")
    await_("no pod of a suspended task", lambda: all_over(stage.tasks.pods("suspend")), 30)
    stage.tasks.change("suspend", suspend=False)
    return suspended, stage.tasks.until_finished("suspend")


def redrive(stage: Stage) -> tuple[Json, Json]:
    stage.tasks.create("redrive", "exit 7", redrive="1", retry={"limits": {"application": 0}})
    failed = stage.tasks.until_finished("redrive")
    # A new image alone starts nothing; the redrive that follows takes it.
    command = ["sh", "-euc", says({"image": "another"})]
    changed = stage.tasks.change("redrive", image=EXAMPLES, command=command)
    generation = changed["metadata"]["generation"]
    stage.tasks.until("redrive", "new spec seen", lambda s: s.get("observedGeneration") == generation)
    assert stage.tasks.status("redrive")["phase"] == "Failed"
    stage.tasks.change("redrive", redrive="2")
    return failed, stage.tasks.until("redrive", "second run ends", lambda s: s["run"] == 2 and s.get("completionTime"))


def time_to_live(stage: Stage) -> bool:
    stage.tasks.create("time-to-live", "exit 0", ttlSecondsAfterFinished=2)
    stage.tasks.until_gone("time-to-live")
    return True


def deadline(stage: Stage) -> Json:
    stage.tasks.create("deadline", stoppable(), deadlineSeconds=12)
    return stage.tasks.until_finished("deadline")


def deadline_in_backoff(stage: Stage) -> Json:
    backoff = {"initialSeconds": 600}
    stage.tasks.create("deadline-in-backoff", "exit 1", deadlineSeconds=45, retry={"backoff": backoff})
    return stage.tasks.until_finished("deadline-in-backoff", 140)


def attempt_timeout(stage: Stage) -> Json:
    retry = {"backoff": {"initialSeconds": 1, "factor": 1, "jitterPercent": 0}}
    stage.tasks.create("attempt-timeout", stoppable(), attemptTimeoutSeconds=2, retry=retry)
    return stage.tasks.until_finished("attempt-timeout", 140)


def start_timeout(stage: Stage) -> Json:
    image = "registry.invalid/absent:1"
    limits = {"neverStarted": 0}
    stage.tasks.create("start-timeout", image=image, startTimeoutSeconds=30, retry={"limits": limits})
    return stage.tasks.until_finished("start-timeout", 140)


SCENARIOS = (
    sdk,
    progress_file,
    fails,
    recovers,
    permanent,
    out_of_memory,
    cancel_running,
    cancel_stubborn,
    cancel_waiting,
    suspend,
    redrive,
    time_to_live,
    deadline,
    deadline_in_backoff,
    attempt_timeout,
    start_timeout,
)


@pytest.fixture(scope="module")
def play(stage: Stage) -> Iterator[Played]:
    with played(stage, *SCENARIOS) as found:
        yield found


def all_over(pods: list[Json]) -> bool:
    return all(pod["status"]["phase"] in ("Succeeded", "Failed") for pod in pods)


def causes(status: Json) -> list[str]:
    return [attempt["cause"] for attempt in status["attempts"]]


def conditions(status: Json) -> dict[str, str]:
    return {found["type"]: f"{found['status']} {found['reason']}" for found in status["conditions"]}


def test_an_sdk_task_runs_with_progress_and_succeeds_with_the_right_result(play: Played, stage: Stage) -> None:
    status = play.of(sdk)
    assert (status["phase"], causes(status), status["attempt"]) == ("Succeeded", ["Completed"], 1)
    result = status["result"]["value"]
    assert {**result, "sha256": ""} == locally_counted()
    assert len(result["sha256"]) == 64
    shown = [
        entry["progress"]["done"]
        for entry in stage.statuses("sdk")
        if entry.get("phase") == "Running" and "done" in entry.get("progress", {})
    ]
    assert len(set(shown)) >= 2, shown
    assert shown == sorted(shown)
    assert status["progress"]["percent"] == 100
    assert status["progress"]["unit"] == "bytes"
    seconds = seconds_between(status["startTime"], status["attempts"][-1]["completionTime"])
    assert status["usage"]["cpuSeconds"] >= seconds * 0.25
    assert 0 < status["usage"]["cpuSecondsUsed"] <= seconds * 2


def locally_counted() -> Any:
    """Return what the same program counts here, without a cluster."""
    paths = [ROOT / "worker-image", ROOT / "worker-image/examples/wordcount"]
    program = (
        "import json, sys, wordcount\n"
        "from longtask_worker import Task\n"
        "payload = json.loads(sys.argv[1])\n"
        "once = wordcount.Counts(payload['n'])\n"
        "block = wordcount.make_block()\n"
        "for line in block: once.add_line([wordcount.spell(number) for number in line])\n"
        "size = sum(len(wordcount.spell_line(line)) for line in block)\n"
        "blocks = -(-payload['megabytes'] * wordcount.MEGABYTE // size)\n"
        "found = wordcount.summary(once.times(blocks), blocks * size, '', payload['top'], True)\n"
        "print(json.dumps(found))\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    command = [sys.executable, "-c", program, json.dumps(WORDCOUNT)]
    return json.loads(subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout)


def test_any_image_shows_progress_through_the_file(play: Played, stage: Stage) -> None:
    status = play.of(progress_file)
    assert (status["phase"], status["result"]["value"]) == ("Succeeded", {"steps": 14})
    assert status["progress"]["display"].startswith("14/14")
    running = [entry for entry in stage.statuses("progress-file") if entry.get("phase") == "Running"]
    done = [entry["progress"]["done"] for entry in running if "done" in entry.get("progress", {})]
    assert any(0 < number < 14 for number in done)
    assert done == sorted(done)


def test_a_failing_task_is_retried_then_failed_and_all_is_recorded(play: Played) -> None:
    status = play.of(fails)
    attempts = status["attempts"]
    assert status["phase"] == "Failed"
    assert [(a["number"], a["cause"], a["exitCode"], a["run"]) for a in attempts] == [
        (1, "Application", 3, 1),
        (2, "Application", 4, 1),
        (3, "Application", 5, 1),
    ]
    assert status["attemptCounts"] == status["attemptTotals"] == {"application": 3}
    assert [a.get("logTail", "").strip() for a in attempts] == ["", "the last words of 2", "the last words of 3"]
    assert len({a["podUid"] for a in attempts} | {a["jobName"] for a in attempts}) == 6
    assert all(a["nodeName"] and a["startTime"] and a["completionTime"] for a in attempts)
    assert conditions(status)["Succeeded"] == "False Application"
    assert conditions(status)["Finished"].startswith("True")
    assert conditions(status)["Ready"].startswith("False")
    assert conditions(status)["Stalled"].startswith("True")


def test_the_backoff_between_attempts_doubles_and_is_shown(play: Played, stage: Stage) -> None:
    attempts = play.of(fails)["attempts"]
    waits = [seconds_between(a["completionTime"], b["startTime"]) for a, b in itertools.pairwise(attempts)]
    assert waits[0] >= 1
    assert waits[1] >= 2
    waiting = [entry for entry in stage.statuses("fails") if entry.get("phase") == "Backoff"]
    assert {entry["attempt"] for entry in waiting} == {1, 2}
    assert all(entry["nextAttemptTime"] for entry in waiting)
    assert conditions(waiting[0])["Succeeded"] == "Unknown Backoff"
    assert conditions(waiting[0])["Admitted"] == "False Backoff"


def test_a_task_that_fails_once_succeeds_with_the_second_result(play: Played) -> None:
    status = play.of(recovers)
    assert (status["phase"], causes(status)) == ("Succeeded", ["Application", "Completed"])
    assert status["result"]["value"] == {"attempt": 2}
    assert conditions(status)["Succeeded"] == "True Completed"
    assert "Stalled" not in conditions(status)


def test_a_permanent_error_is_not_retried(play: Played) -> None:
    status = play.of(permanent)
    assert (status["phase"], causes(status)) == ("Failed", ["Permanent"])
    assert status["attempts"][0]["message"] == "no such column"
    assert status["attempts"][0]["exitCode"] == 65


def test_a_container_killed_for_memory_is_told_from_a_program_that_failed(play: Played) -> None:
    first = play.of(out_of_memory)["attempts"][0]
    assert (first["cause"], first["exitCode"]) == ("OutOfMemory", 137)


def test_a_running_task_is_cancelled(play: Played, stage: Stage) -> None:
    status = play.of(cancel_running)
    assert (status["phase"], causes(status)) == ("Cancelled", ["Cancelled"])
    assert conditions(status)["Succeeded"] == "False Cancelled"
    assert conditions(status)["Ready"].startswith("True")
    assert "Cancelling" in [entry.get("phase") for entry in stage.statuses("cancel-running")]
    await_("no pod of a cancelled task", lambda: all_over(stage.tasks.pods("cancel-running")), 30)


def test_who_ignores_sigterm_is_killed_after_the_grace_period(play: Played) -> None:
    status = play.of(cancel_stubborn)
    (attempt,) = status["attempts"]
    assert (status["phase"], attempt["cause"], attempt["exitCode"]) == ("Cancelled", "Cancelled", 128 + 9)


def test_a_waiting_task_is_cancelled_without_an_attempt(play: Played, stage: Stage) -> None:
    status = play.of(cancel_waiting)
    assert (status["phase"], status.get("attempts") or []) == ("Cancelled", [])
    assert stage.tasks.jobs("cancel-waiting") == []


def test_a_task_is_suspended_and_resumed(play: Played) -> None:
    suspended, status = play.of(suspend)
    assert causes(suspended) == ["Suspended"]
    assert conditions(suspended)["Admitted"] == "False Suspended"
    assert conditions(suspended)["Succeeded"] == "Unknown Suspended"
    assert conditions(suspended)["Ready"].startswith("True")
    assert (status["phase"], causes(status)) == ("Succeeded", ["Suspended", "Completed"])
    assert status["result"]["value"] == {"resumed": True}


def test_a_redrive_runs_another_image_and_keeps_the_history(play: Played, stage: Stage) -> None:
    failed, status = play.of(redrive)
    assert (failed["phase"], failed["run"], failed["lastRedrive"], causes(failed)) == (
        "Failed",
        1,
        "1",
        ["Application"],
    )
    assert (status["phase"], status["run"], status["lastRedrive"]) == ("Succeeded", 2, "2")
    assert [(a["number"], a["run"], a["cause"]) for a in status["attempts"]] == [
        (1, 1, "Application"),
        (2, 2, "Completed"),
    ]
    assert status["attempts"][0]["generation"] < status["attempts"][1]["generation"]
    assert status["attemptCounts"] == {"completed": 1}
    assert status["attemptTotals"] == {"application": 1, "completed": 1}
    assert status["result"]["value"] == {"image": "another"}
    images = {
        job["metadata"]["labels"]["longtask.dev/attempt"]: job["spec"]["template"]["spec"]["containers"][0]["image"]
        for job in stage.tasks.jobs("redrive")
    }
    assert images == {"1": stage.tasks.image, "2": EXAMPLES}


def test_a_finished_task_goes_after_its_time_to_live(play: Played) -> None:
    assert play.of(time_to_live)


def test_the_deadline_ends_a_running_task(play: Played) -> None:
    status = play.of(deadline)
    assert (status["phase"], causes(status)) == ("Failed", ["Deadline"])
    assert conditions(status)["Succeeded"] == "False Deadline"
    # How long the container then takes to end is the node's.
    assert 12 <= seconds_between(status["runStartTime"], status["attempts"][0]["stopTime"]) < 12 + 10


def test_the_deadline_counts_waits(play: Played) -> None:
    status = play.of(deadline_in_backoff)
    assert (status["phase"], causes(status)) == ("Failed", ["Application"])
    assert conditions(status)["Succeeded"] == "False Deadline"
    assert 45 <= seconds_between(status["runStartTime"], status["completionTime"]) < 45 + 10


def test_attempts_time_out_and_are_retried_within_their_own_budget(play: Played) -> None:
    status = play.of(attempt_timeout)
    assert (status["phase"], causes(status)) == ("Failed", ["AttemptTimeout"] * 4)
    assert status["attemptCounts"] == {"attemptTimeout": 4}


def test_an_image_that_cannot_be_pulled_is_told_at_once_and_given_up_after_the_start_timeout(
    play: Played, stage: Stage
) -> None:
    status = play.of(start_timeout)
    assert (status["phase"], causes(status)) == ("Failed", ["NeverStarted"])
    told = [
        entry
        for entry in stage.statuses("start-timeout")
        if entry.get("phase") == "Starting" and "ull" in told_of(entry)
    ]
    assert told, "no status before the end says that the image cannot be pulled"
    assert seconds_between(status["runStartTime"], told[0]["conditions"][0]["lastTransitionTime"]) < 30
    assert seconds_between(status["runStartTime"], status["completionTime"]) >= 30
    (attempt,) = status["attempts"]
    assert "registry.invalid" in attempt["message"]
    assert "exitCode" not in attempt


def told_of(status: Json) -> str:
    return " ".join(str(condition(status, kind).get("message")) for kind in ("Succeeded", "Admitted"))


def test_the_auditor_agrees_with_every_status(play: Played, stage: Stage) -> None:
    play.wait()
    once, twice = ("Completed",), ("Application", "Completed")
    violations = stage.audit(
        {
            "sdk": Expected(phase="Succeeded", causes=once),
            "progress-file": Expected(phase="Succeeded", causes=once, result={"steps": 14}),
            "fails": Expected(phase="Failed", causes=("Application",) * 3),
            "recovers": Expected(phase="Succeeded", causes=twice),
            "permanent": Expected(phase="Failed", causes=("Permanent",)),
            "cancel-running": Expected(phase="Cancelled", causes=("Cancelled",)),
            "cancel-stubborn": Expected(phase="Cancelled", causes=("Cancelled",)),
            "cancel-waiting": Expected(phase="Cancelled", causes=()),
            "suspend": Expected(phase="Succeeded", causes=("Suspended", "Completed")),
            "redrive": Expected(phase="Succeeded", causes=twice),
            "deadline": Expected(phase="Failed", causes=("Deadline",)),
            "attempt-timeout": Expected(phase="Failed", causes=("AttemptTimeout",) * 4),
            "start-timeout": Expected(phase="Failed", causes=("NeverStarted",)),
        }
    )
    assert violations == []
