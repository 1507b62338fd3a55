"""The scenarios of the crash sweep. A new one is a function with `@scenario`; nothing else has to know of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tests.faults.kubelet import NEVER_STARTS, SUCCEEDS, WORKS, fails, out_of_memory
from tests.faults.play import Play, Scenario

SCENARIOS: dict[str, Scenario] = {}
Story = Callable[[Play], Awaitable[None]]
#: The shortest backoff, without chance.
QUICK = {"initialSeconds": 1, "factor": 1, "maxSeconds": 1, "jitterPercent": 0}
#: Long enough that a scenario does something while the task waits.
SLOW = {"initialSeconds": 600, "factor": 1, "maxSeconds": 600, "jitterPercent": 0}


def scenario(
    *, quota: dict[str, Any] | None = None, fresh: bool = False, may_differ: dict[str, str] | None = None
) -> Callable[[Story], Story]:
    """Add a story to the scenarios, under its name with dashes; its docstring says what it is about."""

    def add(story: Story) -> Story:
        name = story.__name__.replace("_", "-")
        about = (story.__doc__ or "").strip()
        SCENARIOS[name] = Scenario(
            name=name, story=story, quota=quota, about=about, fresh=fresh, may_differ=may_differ or {}
        )
        return story

    return add


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


@scenario(quota={"concurrency": {"nominal": 1}})
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


@scenario()
async def delete_backoff(play: Play) -> None:
    """Deleted between two attempts."""
    await play.submit("a", fails(), retry={"backoff": SLOW})
    await play.until("a", "Backoff")
    await play.delete("a")
    await play.gone("a")


@scenario(quota={"concurrency": {"nominal": 1}})
async def quota_wait(play: Play) -> None:
    """Two tasks, one place."""
    await play.submit("a", WORKS)
    await play.until("a", "Running")
    await play.submit("b", SUCCEEDS)
    await play.until("b", "Queued")
    play.tell("a")
    await play.finished("a", "b")


#: The Job of an ended attempt that the Job controller has not ended yet is deleted; one that it has is kept.
JOB_RACE = {"Job deleted": "whether the Job controller or the operator's next look is first is a matter of moments"}


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
