"""What a tenant feels of another one that floods the queue.

    python -m bench.neighbour [--scale small|full]

Tenant B creates a few tasks a second, first alone, then while tenant A, which may run one at a time, creates
10,000 at an even pace. What B waits for is its Job.

Before, the same where no operator runs and the bench does the least that a strict admission has to do for B
(`lib/least.py`): what that takes is the API server's own.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass

from bench.demands import LEAST
from bench.lib import cli, load, readings
from bench.lib.least import least
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
NAMESPACES = ("flooding", "steady")


def run(results: Results) -> None:
    """Measure B alone, then beside the flood: without an operator, then with it."""
    with scene(namespaces=NAMESPACES, start=False) as stage:
        asyncio.run(_without_operator(stage, results))
    with scene(namespaces=NAMESPACES, DEFAULT_CONCURRENCY="1000") as stage:
        asyncio.run(_measure(stage, results))


async def _without_operator(stage: Scene, results: Results) -> None:
    async with stage.kube() as kube, stage.kube() as flooding, least(stage, "steady"):
        found = await _compare(kube, flooding, results)
    for name, times in found.items():
        results.detail(f"without_operator_{name}_ms", readings.summary(times))
    results.figure(f"ratio{LEAST}", _p99_ratio(found))


async def _measure(stage: Scene, results: Results) -> None:
    async with stage.kube() as kube, stage.kube() as flooding:
        await load.put(kube, load.quotas_path(), load.quota("flooding", 1))
        found = await _compare(kube, flooding, results)
    for name, times in found.items():
        results.series[f"{name}_ms"] = sorted(round(value, 2) for value in times)
        results.detail(f"{name}_ms", readings.summary(times))
    results.figure("ratio", _p99_ratio(found))


def _p99_ratio(found: dict[str, list[float]]) -> float:
    return readings.summary(found["beside"])["p99"] / readings.summary(found["alone"])["p99"]


async def _compare(kube: Kube, flooding: Kube, results: Results) -> dict[str, list[float]]:
    """Return what B needs alone and beside the flood: two clients, so that none waits for a connection of the other."""
    size = SIZES[results.scale]
    count = int(size.seconds * size.per_second)
    await _steady(kube, "warm", 20, size.per_second)
    alone = await _steady(kube, "alone", count, size.per_second)
    flood = asyncio.create_task(_flood(flooding, size))
    beside = await _steady(kube, "beside", count, size.per_second)
    await flood
    return {"alone": alone, "beside": beside}


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
