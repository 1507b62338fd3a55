"""What a tenant feels of another one that floods the queue.

    python -m bench.neighbour [--scale small|full]

Tenant B creates a few tasks a second, first alone, then while tenant A, which may run one at a time, creates
10,000 at an even pace. What B waits for is its Job.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass

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


def run(results: Results) -> None:
    """Measure B alone, then beside the flood."""
    with scene(namespaces=("flooding", "steady"), DEFAULT_CONCURRENCY="1000") as stage:
        asyncio.run(_measure(stage, results))


async def _measure(stage: Scene, results: Results) -> None:
    size = SIZES[results.scale]
    async with stage.kube() as kube:
        await load.put(kube, load.quotas_path(), load.quota("flooding", 1))
        await _steady(kube, "warm", 20, size.per_second)
        count = int(size.seconds * size.per_second)
        alone = await _steady(kube, "alone", count, size.per_second)
        flood = asyncio.create_task(_flood(kube, size))
        beside = await _steady(kube, "beside", count, size.per_second)
        await flood
    for name, times in (("alone_ms", alone), ("beside_ms", beside)):
        results.series[name] = sorted(round(value, 2) for value in times)
        results.detail(name, readings.summary(times))
    results.figure("ratio", readings.summary(beside)["p99"] / readings.summary(alone)["p99"])


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
