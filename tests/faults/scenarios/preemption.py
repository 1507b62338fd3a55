"""Others give way: the claim first, then the stop, then the end of who was stopped, then whom it was for."""

from __future__ import annotations

from tests.faults.kubelet import SUCCEEDS, WORKS
from tests.faults.play import Play
from tests.faults.registry import QUICK, scenario
from tests.faults.reports import save

PLACE = {"uri": "s3://bucket/checkpoints/"}


@scenario(quota={"concurrency": {"nominal": 2}, "preemption": "LowerPriority"})
async def preempt(play: Play) -> None:
    """Of two that run, the one that saved gives way to an urgent task, saves once more, and goes on from there."""
    await play.submit("c", WORKS)
    await play.until("c", "Running")
    await play.submit("a", WORKS, SUCCEEDS, checkpoint=PLACE, retry={"limits": {"application": 0}, "backoff": QUICK})
    await play.until("a", "Running")
    await save(play, "a", 1)
    await play.submit("b", SUCCEEDS, priority=5)
    await play.until("a", check=lambda status: status["attempts"][0].get("stopTime"))
    await save(play, "a", 2)
    await play.until("b", "Succeeded")
    await play.until("a", "Succeeded")
    play.tell("c")
    await play.finished("c")


@scenario(
    quota={"concurrency": {"nominal": 1}},
    lender={"concurrency": {"nominal": 1}, "preemption": "ReclaimWithinCohort"},
)
async def reclaim(play: Play) -> None:
    """A lender takes back what another tenant borrowed; of its two attempts the younger one gives way, alone."""
    await play.submit("c", WORKS)
    await play.until("c", "Running")
    await play.submit("a", WORKS, SUCCEEDS, retry={"limits": {"application": 0}, "backoff": QUICK})
    await play.until("a", "Running")
    lender = play.as_lender()
    await lender.submit("b", WORKS)
    await lender.until("b", "Running")
    await play.queued("a", "CohortExhausted")
    lender.tell("b")
    await play.until("a", "Succeeded")
    play.tell("c")
    await play.finished("c")
