"""What users say to a task that is there."""

from __future__ import annotations

from tests.faults.kubelet import SUCCEEDS, WORKS, fails
from tests.faults.play import Play
from tests.faults.registry import ONE, SLOW, scenario


@scenario()
async def cancel(play: Play) -> None:
    """Cancelled while it runs."""
    await play.submit("a", WORKS)
    await play.until("a", "Running")
    await play.change("a", cancel=True)
    await play.until("a", "Cancelled")


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
