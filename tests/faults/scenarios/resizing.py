"""Running attempts that are near their memory: they grow in place, or what was asked for is taken back."""

from __future__ import annotations

from tests.faults.kubelet import SUCCEEDS, WORKS, Act, out_of_memory
from tests.faults.play import Play
from tests.faults.registry import QUICK, scenario
from tests.faults.reports import reports_memory

#: A size of its own: without one it would begin with what the plays before it needed.
SMALL = {"memory": "512Mi"}
NEARLY_ALL = 450  #: MiB of it


@scenario()
async def resize(play: Play) -> None:
    """It is given the next size while it runs, and succeeds in its first attempt."""
    await play.submit("a", WORKS, resources=SMALL)
    await play.until("a", "Running")
    await reports_memory(play, "a", NEARLY_ALL, lambda attempt, asked: attempt["memory"] == "1Gi")
    play.tell("a")
    await play.finished("a")


@scenario()
async def resize_killed(play: Play) -> None:
    """It is given the next size and killed for memory all the same; the next attempt begins with the one after."""
    await play.submit("a", WORKS, SUCCEEDS, resources=SMALL, retry={"backoff": QUICK})
    await play.until("a", "Running")
    await reports_memory(play, "a", NEARLY_ALL, lambda attempt, asked: attempt["memory"] == "1Gi")
    play.tell("a", out_of_memory())
    await play.finished("a")


@scenario()
async def resize_infeasible(play: Play) -> None:
    """Its node can never give it more; that is taken back, and it goes on with what it has."""
    await play.submit("a", Act(exit=None, resizes="Infeasible"), resources=SMALL)
    await _goes_on(play)


@scenario()
async def resize_deferred(play: Play) -> None:
    """Its node has no room for more in time; that is taken back, and it goes on with what it has."""
    await play.submit("a", Act(exit=None, resizes="Deferred"), resources=SMALL)
    await _goes_on(play)


@scenario()
async def resize_refused(play: Play) -> None:
    """The cluster refuses it more; the ledger gives that back, and it goes on with what it has."""
    await play.refuse(limits_memory="768Mi")
    await play.submit("a", WORKS, resources=SMALL)
    await _goes_on(play)
    await play.refuse_no_more()


@scenario()
async def resize_deleted(play: Play) -> None:
    """Deleted while its node defers the resize."""
    await play.submit("a", Act(exit=None, resizes="Deferred"), resources=SMALL)
    await play.until("a", "Running")
    await reports_memory(play, "a", NEARLY_ALL, lambda attempt, asked: asked == "1Gi")
    await play.ledger_holds(f"tenant-{play.namespace}", "a", 1024)
    await play.delete("a")
    await play.gone("a")


async def _goes_on(play: Play) -> None:
    """Let it ask in vain, wait until the ledger holds what it has, and let it succeed."""
    await play.until("a", "Running")
    await reports_memory(play, "a", NEARLY_ALL, lambda attempt, asked: attempt.get("resizeRefused"))
    await play.ledger_holds(f"tenant-{play.namespace}", "a", 512)
    play.tell("a")
    await play.finished("a")
