"""How attempts end, and what follows."""

from __future__ import annotations

from tests.faults.kubelet import SUCCEEDS, WORKS, fails, out_of_memory
from tests.faults.play import Play
from tests.faults.registry import JOB_RACE, QUICK, scenario


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
    await play.submit("a", out_of_memory(), SUCCEEDS, retry={"backoff": QUICK})
    await play.finished("a")
