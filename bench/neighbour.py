"""What a tenant feels of another one that floods the queue.

    python -m bench.neighbour [--scale small|full]

Tenant B creates a few tasks a second, first alone, then while tenant A, which may run one at a time, creates
10,000 at an even pace. What B waits for is its Job.

Before, the same where no operator runs: the bench itself writes task, ConfigMap and Job, one after the other. What that
takes is the API server's own: a strict admission needs these three writes in this order.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench.demands import LEAST
from bench.lib import cli, load, readings
from bench.lib.results import Results
from bench.lib.scene import Scene, scene
from longtask_operator.adapters.kube import Json, Kube


@dataclass(frozen=True, slots=True)
class Size:
    """How much is created, and how fast."""

    flood: int
    seconds: float
    per_second: float  #: of tenant B


SIZES = {"small": Size(1_000, 15, 8), "full": Size(10_000, 75, 8)}
#: Creates so many objects, whose names begin with that word, at that pace; returns how long each took, in milliseconds.
Steady = Callable[[Kube, str, int, float], Awaitable[list[float]]]
NAMESPACES = ("flooding", "steady")
_LEDGER = "/api/v1/namespaces/steady/configmaps"


def run(results: Results) -> None:
    """Measure B alone, then beside the flood: without an operator, then with it."""
    with scene(namespaces=NAMESPACES, start=False) as stage:
        asyncio.run(_without_operator(stage, results))
    with scene(namespaces=NAMESPACES, DEFAULT_CONCURRENCY="1000") as stage:
        asyncio.run(_measure(stage, results))


async def _without_operator(stage: Scene, results: Results) -> None:
    async with stage.kube() as kube, stage.kube() as flooding:
        await kube.create(_LEDGER, {"metadata": {"name": "ledger"}})
        found = await _compare(kube, flooding, results, _bare)
    for name, times in found.items():
        results.detail(f"without_operator_{name}_ms", readings.summary(times))
    results.figure(f"ratio{LEAST}", _p99_ratio(found))


async def _measure(stage: Scene, results: Results) -> None:
    async with stage.kube() as kube, stage.kube() as flooding:
        await load.put(kube, load.quotas_path(), load.quota("flooding", 1))
        found = await _compare(kube, flooding, results, _steady)
    for name, times in found.items():
        results.series[f"{name}_ms"] = sorted(round(value, 2) for value in times)
        results.detail(f"{name}_ms", readings.summary(times))
    results.figure("ratio", _p99_ratio(found))


def _p99_ratio(found: dict[str, list[float]]) -> float:
    return readings.summary(found["beside"])["p99"] / readings.summary(found["alone"])["p99"]


async def _compare(kube: Kube, flooding: Kube, results: Results, steady: Steady) -> dict[str, list[float]]:
    """Return what B needs alone and beside the flood: two clients, so that none waits for a connection of the other."""
    size = SIZES[results.scale]
    count = int(size.seconds * size.per_second)
    await steady(kube, "warm", 20, size.per_second)
    alone = await steady(kube, "alone", count, size.per_second)
    flood = asyncio.create_task(_flood(flooding, size))
    beside = await steady(kube, "beside", count, size.per_second)
    await flood
    return {"alone": alone, "beside": beside}


async def _bare(kube: Kube, name: str, count: int, per_second: float) -> list[float]:
    """Return how long task, ConfigMap and Job took together."""
    took: list[float] = []

    async def create(number: int) -> None:
        began = time.monotonic()
        await kube.create(load.tasks_path("steady"), load.task(f"{name}-{number:05d}"))
        await kube.merge_patch(f"{_LEDGER}/ledger", {"data": {"last": f"{name}-{number}"}})
        await kube.create(load.jobs_path("steady"), load.job(f"{name}-{number:05d}"))
        took.append((time.monotonic() - began) * 1000)

    await load.paced([functools.partial(create, number) for number in range(count)], per_second)
    return took


async def _steady(kube: Kube, name: str, count: int, per_second: float) -> list[float]:
    """Return how long B waited for each Job, in milliseconds."""
    tasks: list[Json] = [load.task(f"{name}-{number:05d}") for number in range(count)]
    names = [task["metadata"]["name"] for task in tasks]
    jobs = load.Firsts(names, load.task_of_child, lambda body: True)
    async with load.watched(kube, load.jobs_path("steady"), jobs.saw):
        sent = await load.create_paced(kube, load.tasks_path("steady"), tasks, per_second)
        await jobs.until_all(120)
    return [(jobs.at[name] - sent[name]) * 1000 for name in names]


async def _flood(kube: Kube, size: Size) -> None:
    tasks = [load.task(f"flood-{number:05d}") for number in range(size.flood)]
    await load.create_paced(kube, load.tasks_path("flooding"), tasks, size.flood / size.seconds)


if __name__ == "__main__":
    sys.exit(cli.main("neighbour", __doc__, run))
