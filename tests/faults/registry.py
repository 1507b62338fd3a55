"""What makes a function a scenario of the sweep, and what scenarios share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tests.faults.play import Play, Scenario

SCENARIOS: dict[str, Scenario] = {}
Story = Callable[[Play], Awaitable[None]]
#: The shortest backoff, without chance.
QUICK = {"initialSeconds": 1, "factor": 1, "maxSeconds": 1, "jitterPercent": 0}
#: Long enough that a scenario does something while the task waits.
SLOW = {"initialSeconds": 600, "factor": 1, "maxSeconds": 600, "jitterPercent": 0}
#: A quota of one attempt at a time.
ONE = {"concurrency": {"nominal": 1}}
#: A quota of one attempt of each person at a time.
ONE_EACH = {"perUser": {"maxConcurrency": 1}}
#: Where checkpoints are said to be. Nobody reads it: the worker is played, and the operator never looks.
PLACE = {"uri": "s3://bucket/checkpoints/"}
#: The Job of an ended attempt that the Job controller has not ended yet is deleted; one that it has is kept.
JOB_RACE = {"Job deleted": "whether the Job controller or the operator's next look is first is a matter of moments"}


def scenario(
    *,
    quota: dict[str, Any] | None = None,
    lender: dict[str, Any] | None = None,
    fresh: bool = False,
    may_differ: dict[str, str] | None = None,
) -> Callable[[Story], Story]:
    """Add a story to the scenarios, under its name with dashes; its docstring says what it is about."""

    def add(story: Story) -> Story:
        name = story.__name__.replace("_", "-")
        about = (story.__doc__ or "").strip()
        SCENARIOS[name] = Scenario(
            name=name, story=story, quota=quota, lender=lender, about=about, fresh=fresh, may_differ=may_differ or {}
        )
        return story

    return add
