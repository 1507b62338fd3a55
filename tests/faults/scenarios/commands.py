"""What users say to a task that is there."""

from __future__ import annotations

import json

from tests.faults.api import Json
from tests.faults.kubelet import SUCCEEDS, WORKS, Act, fails
from tests.faults.play import Play
from tests.faults.registry import JOB_RACE, ONE, PLACE, SLOW, scenario
from tests.faults.reports import save, told_to_end, until_told


@scenario()
async def cancel(play: Play) -> None:
    """Cancelled while it runs."""
    await play.submit("a", WORKS)
    await play.until("a", "Running")
    await play.change("a", cancel=True)
    await play.until("a", "Cancelled")


@scenario(may_differ=JOB_RACE)
async def cancel_told(play: Play) -> None:
    """Cancelled: the worker hears of it from the answer to its report, saves, and ends by itself before any SIGTERM.

    It reports also while the stop is being written. Its last checkpoint stands in its termination message alone.
    """
    await play.submit("a", WORKS, checkpoint=PLACE, retry={"limits": {"application": 0}})
    await play.until("a", "Running")
    await until_told(play, "a", lambda status, told: status.get("progress") and not told)

    async def reports() -> None:
        await told_to_end(play, "a")

    reported = play.before_the_stop("Cancelled", reports)
    await play.change("a", cancel=True)
    await play.over(reported)
    await until_told(play, "a", lambda status, told: told)
    saved = await save(play, "a", 1)
    last = saved | {"uri": saved["uri"].replace("/1/manifest", "/2/manifest")}
    said = json.dumps({"longtask": 1, "message": "cancelled", "checkpoint": last})
    play.tell("a", Act(exit=130, message=said))

    def ended_by_itself(status: Json) -> bool:
        (attempt,), checkpoint = status["attempts"], status["checkpoint"]
        counts, ended = status.get("attemptCounts"), (attempt["cause"], attempt.get("exitCode"))
        return (ended, counts, checkpoint["uri"]) == (("Cancelled", 130), {"cancelled": 1}, last["uri"])

    await play.until("a", "Cancelled")
    await play.until("a", check=ended_by_itself)


@scenario()
async def suspend(play: Play) -> None:
    """Suspended while it runs, resumed, and done in its second attempt."""
    await play.submit("a", WORKS, SUCCEEDS)
    await play.until("a", "Running")
    await play.change("a", suspend=True)
    await play.until("a", "Suspended")
    await play.change("a", suspend=False)
    await play.until("a", "Succeeded")


@scenario()
async def cancel_backoff(play: Play) -> None:
    """Cancelled between two attempts."""
    await play.submit("a", fails(), retry={"backoff": SLOW})
    await play.until("a", "Backoff")
    await play.change("a", cancel=True)
    await play.until("a", "Cancelled")


@scenario(quota=ONE)
async def cancel_queued(play: Play) -> None:
    """Cancelled while it waits for the quota."""
    await play.submit("a", WORKS)
    await play.until("a", "Running")
    await play.submit("b")
    await play.until("b", "Queued")
    await play.change("b", cancel=True)
    await play.until("b", "Cancelled")
    play.tell("a")
    await play.finished("a")


@scenario()
async def deadline(play: Play) -> None:
    """The deadline, set while it runs, has passed."""
    await play.submit("a", WORKS)
    await play.until("a", "Running")
    await play.change("a", deadlineSeconds=1)
    await play.until("a", "Failed")


@scenario()
async def deadline_backoff(play: Play) -> None:
    """The deadline passes between two attempts."""
    await play.submit("a", fails(), retry={"backoff": SLOW})
    await play.until("a", "Backoff")
    await play.change("a", deadlineSeconds=1)
    await play.until("a", "Failed")


@scenario()
async def time_to_live(play: Play) -> None:
    """Deleted by the operator once its time after the end is over."""
    await play.submit("a", ttlSecondsAfterFinished=1)
    await play.gone("a")
