"""LongTasks that are deleted, whatever they are doing."""

from __future__ import annotations

from tests.faults.kubelet import NEVER_STARTS, SUCCEEDS, WORKS, Act, fails
from tests.faults.play import Play
from tests.faults.registry import ONE, ONE_EACH, SLOW, scenario


@scenario(quota=ONE)
async def delete_queued(play: Play) -> None:
    """Deleted while it waits for the quota that another task holds."""
    await play.submit("a", WORKS)
    await play.until("a", "Running")
    await play.submit("b", SUCCEEDS)
    await play.until("b", "Queued")
    await play.delete("b")
    await play.gone("b")
    play.tell("a")
    await play.finished("a")


@scenario()
async def delete_starting(play: Play) -> None:
    """Deleted while its pod cannot start."""
    await play.submit("a", NEVER_STARTS)
    await play.until("a", "Starting")
    await play.delete("a")
    await play.gone("a")


@scenario()
async def delete_running(play: Play) -> None:
    """Deleted while it runs."""
    await play.submit("a", WORKS)
    await play.until("a", "Running")
    await play.delete("a")
    await play.gone("a")


@scenario(quota=ONE_EACH)
async def delete_lingering(play: Play) -> None:
    """Deleted while it runs, and its pod takes a while: another task of its person waits for that."""
    await play.submit("a", Act(exit=None, lingers=2.0))
    await play.until("a", "Running")
    await play.delete("a")
    await play.submit("b")
    await play.finished("b")
    await play.gone("a")


@scenario()
async def delete_backoff(play: Play) -> None:
    """Deleted between two attempts."""
    await play.submit("a", fails(), retry={"backoff": SLOW})
    await play.until("a", "Backoff")
    await play.delete("a")
    await play.gone("a")


@scenario()
async def delete_finished(play: Play) -> None:
    """Deleted once it is finished."""
    await play.submit("a")
    await play.finished("a")
    await play.delete("a")
    await play.gone("a")


@scenario()
async def delete_cancelled(play: Play) -> None:
    """Cancelled while it runs, and deleted in the same breath."""
    await play.submit("a", WORKS)
    await play.until("a", "Running")
    await play.change("a", cancel=True)
    await play.delete("a")
    await play.gone("a")
