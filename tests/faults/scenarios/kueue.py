"""Tasks that Kueue admits: the scenarios do to their Jobs what it does, as its user."""

from __future__ import annotations

from tests.faults.kubelet import SUCCEEDS, WORKS
from tests.faults.play import Play
from tests.faults.registry import QUICK, scenario


@scenario(quota={"concurrency": {"nominal": 0}}, fresh=True)
async def kueue(play: Play) -> None:
    """Admitted by Kueue, taken back while it runs, and done in its second attempt; our own quota has no room."""
    await play.submit("a", WORKS, SUCCEEDS, queueName="gpu-queue", retry={"backoff": QUICK})
    await play.kueue("a", attempt=1, suspend=False)
    await play.until("a", "Running")
    await play.kueue("a", attempt=1, suspend=True)
    await play.kueue("a", attempt=2, suspend=False)
    await play.until("a", "Succeeded")


@scenario()
async def kueue_cancel(play: Play) -> None:
    """Cancelled while Kueue holds its Job."""
    await play.submit("a", SUCCEEDS, queueName="gpu-queue")
    await play.until("a", check=lambda status: status.get("reason") == "BehindOthers" and status.get("attempt") == 1)
    await play.change("a", cancel=True)
    await play.until("a", "Cancelled")


@scenario()
async def kueue_delete(play: Play) -> None:
    """Deleted while Kueue holds its Job."""
    await play.submit("a", SUCCEEDS, queueName="gpu-queue")
    await play.until("a", check=lambda status: status.get("reason") == "BehindOthers" and status.get("attempt") == 1)
    await play.delete("a")
    await play.gone("a")
