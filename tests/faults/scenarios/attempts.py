"""How attempts end, and what follows."""

from __future__ import annotations

import json

from tests.faults.kubelet import NEVER_STARTS, SUCCEEDS, WORKS, Act, fails, out_of_memory
from tests.faults.play import Play
from tests.faults.registry import JOB_RACE, QUICK, scenario
from tests.faults.reports import cause_of_first, reports, reports_on, stuck_since


@scenario(fresh=True)
async def success(play: Play) -> None:
    """One attempt, which succeeds and leaves a result."""
    await play.submit("a", SUCCEEDS)
    await play.finished("a")


@scenario()
async def retry(play: Play) -> None:
    """The first attempt fails, the second succeeds."""
    await play.submit("a", fails(), SUCCEEDS, retry={"backoff": QUICK})
    await play.finished("a")


@scenario()
async def dead_letter(play: Play) -> None:
    """Two attempts fail, the budget is out."""
    await play.submit("a", fails(), retry={"limits": {"application": 1}, "backoff": QUICK})
    await play.finished("a")


@scenario()
async def redrive(play: Play) -> None:
    """A dead letter is redriven with another image and succeeds."""
    await play.submit("a", fails(), SUCCEEDS, retry={"limits": {"application": 0}})
    await play.until("a", "Failed")
    await play.change("a", redrive="1", image="registry.example/task:2")
    await play.until("a", "Succeeded")


@scenario(may_differ=JOB_RACE)
async def disruption(play: Play) -> None:
    """Evicted while it runs; the next attempt succeeds and no application retry is charged."""
    await play.submit("a", WORKS, SUCCEEDS, retry={"backoff": QUICK, "limits": {"application": 0}})
    await play.until("a", "Running")
    await play.evict("a")
    await play.finished("a")


@scenario()
async def out_of_memory_kill(play: Play) -> None:
    """Killed for memory; the next attempt succeeds."""
    # A size of its own: without one it would begin with what the plays before it needed.
    await play.submit("a", out_of_memory(), SUCCEEDS, resources={"memory": "512Mi"}, retry={"backoff": QUICK})
    await play.finished("a")


@scenario()
async def result(play: Play) -> None:
    """The termination message holds a result."""
    said = json.dumps({"longtask": 1, "result": {"rows": 7}, "message": "done"})
    await play.submit("a", Act(message=said))
    await play.finished("a")


@scenario()
async def rule_fails(play: Play) -> None:
    """An exit code that a rule names ends the task, whatever the budget."""
    await play.submit("a", fails(65), retry={"rules": [{"exitCodes": [65], "action": "Fail"}]})
    await play.finished("a")


@scenario(may_differ=JOB_RACE)
async def attempt_timeout(play: Play) -> None:
    """The kubelet ends an attempt that ran too long; the next one succeeds."""
    await play.submit("a", WORKS, SUCCEEDS, attemptTimeoutSeconds=1, retry={"backoff": QUICK})
    await play.finished("a")


@scenario()
async def start_timeout(play: Play) -> None:
    """The first attempt does not start in time, the second succeeds."""
    await play.submit("a", NEVER_STARTS, SUCCEEDS, startTimeoutSeconds=4, retry={"backoff": QUICK})
    await play.until("a", "Starting")
    await play.finished("a")


@scenario(may_differ=JOB_RACE)
async def job_deleted(play: Play) -> None:
    """Somebody deletes the Job of a running attempt; the next attempt succeeds."""
    await play.submit("a", WORKS, SUCCEEDS, retry={"backoff": QUICK, "limits": {"application": 0}})
    await play.until("a", "Running")
    await play.delete_job("a")
    await play.finished("a")


@scenario()
async def lost_pod(play: Play) -> None:
    """The pod vanishes without a word and the Job makes another one; that is ended, and the next attempt succeeds."""
    await play.submit("a", WORKS, SUCCEEDS, retry={"backoff": QUICK, "limits": {"application": 0}})
    await play.until("a", "Running")
    await play.lose_pod("a")
    await play.finished("a")


@scenario()
async def node_loss(play: Play) -> None:
    """The node of a running attempt does not answer; its pod is given up, and the next attempt succeeds."""
    replace = {"onNodeLoss": "Replace", "nodeLossTimeoutSeconds": 1}
    await play.submit("a", WORKS, SUCCEEDS, retry={**replace, "backoff": QUICK, "limits": {"application": 0}})
    await play.until("a", "Running")
    await play.lose_node("a")
    await play.finished("a")


@scenario()
async def silence(play: Play) -> None:
    """The first attempt never reports, though it promised to; it is ended for that, and the second succeeds."""
    await play.submit("a", WORKS, SUCCEEDS, heartbeatTimeoutSeconds=1, retry={"backoff": QUICK})
    await play.until("a", check=lambda status: cause_of_first(status) == "HeartbeatLost")
    await play.finished("a")


@scenario()
async def falls_silent(play: Play) -> None:
    """The first attempt reports, falls silent, and is slow to stop when it is ended for that; the second succeeds."""
    hangs = Act(exit=None, lingers=1.5)  # longer than the backoff: whoever takes it for dead has two at once
    retry = {"limits": {"heartbeatLost": 1}, "backoff": QUICK}
    await play.submit("a", hangs, SUCCEEDS, heartbeatTimeoutSeconds=2, retry=retry)
    await play.until("a", "Running")
    await reports(play, "a", lambda status: (status.get("progress") or {}).get("done") == 1, done=1, total=10)
    await play.until("a", check=lambda status: cause_of_first(status) == "HeartbeatLost")
    await play.finished("a")


@scenario(may_differ={"Stuck NoProgress began": "on a slow machine it is warned of in the moment in which it is ended"})
async def no_progress(play: Play) -> None:
    """The first attempt reports on and on and gets no further; it is ended for that, and the second succeeds."""
    await play.submit("a", WORKS, SUCCEEDS, noProgressTimeoutSeconds=1, retry={"backoff": QUICK})
    await play.until("a", "Running")
    await reports(play, "a", lambda status: cause_of_first(status) == "NoProgress", done=1, total=10)
    await play.finished("a")


@scenario()
async def stuck(play: Play) -> None:
    """Without time-outs an attempt that gets no further is warned of until it does, and nothing ends it."""
    await play.submit("a", WORKS, retry={"limits": {"application": 0}})
    await play.until("a", "Running")
    await reports(play, "a", stuck_since, done=1)
    since = stuck_since(await play.until("a", check=stuck_since))
    await reports_on(play, "a", done=1)
    await play.until("a", check=lambda status: stuck_since(status) == since)
    await reports(play, "a", lambda status: not stuck_since(status) and status["progress"]["done"] == 2, done=2)
    play.tell("a")
    await play.until("a", "Succeeded")
