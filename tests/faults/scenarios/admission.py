"""Quotas: who runs, who waits."""

from __future__ import annotations

from tests.faults.kubelet import SUCCEEDS, WORKS
from tests.faults.play import Play
from tests.faults.registry import scenario


@scenario(quota={"concurrency": {"nominal": 1}})
async def quota_wait(play: Play) -> None:
    """Two tasks, one place."""
    await play.submit("a", WORKS)
    await play.until("a", "Running")
    await play.submit("b", SUCCEEDS)
    await play.until("b", "Queued")
    play.tell("a")
    await play.finished("a", "b")
