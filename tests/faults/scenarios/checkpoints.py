"""Workers that save: what was accepted is what the next attempt gets."""

from __future__ import annotations

from tests.faults.kubelet import SUCCEEDS, WORKS, fails
from tests.faults.play import Play
from tests.faults.registry import PLACE, QUICK, scenario
from tests.faults.reports import save


@scenario()
async def resume(play: Play) -> None:
    """The second of two accepted checkpoints is what the next attempt starts from."""
    await play.submit("a", WORKS, SUCCEEDS, checkpoint=PLACE, retry={"backoff": QUICK})
    await play.until("a", "Running")
    await save(play, "a", 1)
    await save(play, "a", 2)
    play.tell("a", fails())
    await play.finished("a")


@scenario()
async def resume_redriven(play: Play) -> None:
    """A redrive starts from the checkpoint of the run before."""
    await play.submit("a", WORKS, SUCCEEDS, checkpoint=PLACE, retry={"limits": {"application": 0}})
    await play.until("a", "Running")
    await save(play, "a", 1)
    play.tell("a", fails())
    await play.until("a", "Failed")
    await play.change("a", redrive="1")
    await play.until("a", "Succeeded")


@scenario()
async def resume_suspended(play: Play) -> None:
    """A suspended worker saves first; when resumed, the next attempt starts from there."""
    await play.submit("a", WORKS, SUCCEEDS, checkpoint=PLACE)
    await play.until("a", "Running")
    await save(play, "a", 1)
    await play.change("a", suspend=True)
    await play.until("a", check=lambda status: status["attempts"][0].get("stopTime"))
    await save(play, "a", 2)
    await play.until("a", "Suspended")
    await play.change("a", suspend=False)
    await play.until("a", "Succeeded")
