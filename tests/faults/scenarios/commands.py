"""What users say to a task that is there."""

from __future__ import annotations

from tests.faults.kubelet import SUCCEEDS, WORKS
from tests.faults.play import Play
from tests.faults.registry import scenario


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
