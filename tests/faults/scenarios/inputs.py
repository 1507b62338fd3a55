"""Tasks that begin with what their inputs need."""

from __future__ import annotations

from tests.faults.kubelet import SUCCEEDS, WORKS, fails
from tests.faults.play import Play
from tests.faults.registry import ONE, QUICK, scenario
from tests.faults.store import READER, SIZE

HINTED = ("InputHint", "250m/1Gi")
ASKED = "the sizes of its inputs are asked for"


@scenario(may_differ={"sizing": "whoever took over before it ran says only that the size was decided on admission"})
async def input_asked(play: Play) -> None:
    """The store is asked for the size of an input, and answers late; what it says holds for the second attempt too."""
    asked = [{"name": "orders", "uri": play.ground.store.put(f"orders{play.suffix}")}]
    with play.ground.store.silent():
        await play.submit("a", fails(), SUCCEEDS, image=READER, inputs=asked, retry={"backoff": QUICK})
        await play.until("a", check=lambda status: (status.get("queue") or {}).get("message") == ASKED)
    await play.finished("a")
    await play.until("a", check=lambda status: (status["sizing"]["source"], status["sizing"]["display"]) == HINTED)


@scenario(quota=ONE)
async def input_stated(play: Play) -> None:
    """The spec states the size of the input; the task waits for the quota meanwhile, and is moved up."""
    await play.submit("b", WORKS)
    await play.until("b", "Running")
    stated = [{"name": "orders", "uri": "file:///data/orders", "sizeBytes": SIZE}]
    await play.submit("a", fails(), SUCCEEDS, image=READER, inputs=stated, retry={"backoff": QUICK})
    await play.queued("a", "QuotaExhausted")
    await play.change("a", priority=5)
    play.tell("b")
    await play.finished("b", "a")
    await play.until("a", check=lambda status: (status["sizing"]["source"], status["sizing"]["display"]) == HINTED)
