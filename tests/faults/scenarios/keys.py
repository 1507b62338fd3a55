"""Idempotency keys."""

from __future__ import annotations

from tests.faults.kubelet import SUCCEEDS, WORKS
from tests.faults.play import Play
from tests.faults.registry import scenario


@scenario()
async def one_key(play: Play) -> None:
    """Two tasks with one idempotency key: the second never runs and takes over the first one's end."""
    spec = {"idempotencyKey": f"key{play.suffix}"}
    await play.submit("a", WORKS, **spec)
    await play.until("a", "Running")
    await play.submit("b", SUCCEEDS, **spec)
    await play.until("b", check=lambda status: status.get("duplicateOf"))
    play.tell("a")
    await play.finished("a", "b")


@scenario()
async def key_heir(play: Play) -> None:
    """The holder of an idempotency key is deleted while it runs; its duplicate runs itself."""
    spec = {"idempotencyKey": f"key{play.suffix}"}
    await play.submit("a", WORKS, **spec)
    await play.until("a", "Running")
    await play.submit("b", SUCCEEDS, **spec)
    await play.until("b", check=lambda status: status.get("duplicateOf"))
    await play.delete("a")
    await play.gone("a")
    await play.finished("b")


@scenario()
async def key_conflict(play: Play) -> None:
    """One key with two specs: the second waits until the first is gone, and runs then."""
    key = f"key{play.suffix}"
    await play.submit("a", WORKS, idempotencyKey=key)
    await play.until("a", "Running")
    await play.submit("b", idempotencyKey=key, args=["other"])
    await play.queued("b", "KeyConflict")
    await play.delete("a")
    await play.gone("a")
    await play.finished("b")
