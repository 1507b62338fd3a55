"""How many tasks a second, beside bare Jobs in the same run; CPU and writes of each part.

    python -m bench.throughput [--scale small|full]

In turn drives N bare Jobs and N LongTasks to their end, A B A B; pods run for a second. A round counts
only if all N finished.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from typing import Any

from bench.lib import cli, load, readings
from bench.lib.results import Results
from bench.lib.scene import NAMESPACE, Scene, scene
from longtask_operator.adapters.kube import Kube

#: Tasks a round, pairs of rounds.
SIZES = {"small": (150, 1), "full": (1_000, 3)}


def run(results: Results) -> None:
    """Measure so many pairs of rounds; the median of their ratios counts."""
    with scene(DEFAULT_CONCURRENCY="10000") as stage:
        asyncio.run(_measure(stage, results))


async def _measure(stage: Scene, results: Results) -> None:
    tasks, pairs = SIZES[results.scale]
    rounds: list[dict[str, Any]] = []
    async with stage.kube() as kube:
        for number in range(pairs):
            rounds.append(await _pair(kube, stage, number, tasks))
            print(rounds[-1], file=sys.stderr)
            results.detail("rounds", rounds)
            results.series["bare_per_s"] = [entry["bare_per_s"] for entry in rounds]
            results.series["tasks_per_s"] = [entry["tasks_per_s"] for entry in rounds]
            results.figure("ratio", statistics.median(entry["ratio"] for entry in rounds))
    cpu = [entry["cpu_ms_per_task"]["all"] / entry["cpu_ms_per_bare_job"]["all"] for entry in rounds]
    results.detail("cpu_to_bare_job", round(statistics.median(cpu), 2))


async def _pair(kube: Kube, stage: Scene, number: int, count: int) -> dict[str, Any]:
    """Drive bare Jobs and tasks to their end, one after the other, and return what was measured."""
    before = stage.cpu()
    jobs = [load.job(f"bare-{number}-{i}") for i in range(count)]
    bare = await load.burst(kube, load.jobs_path(NAMESPACE), jobs, load.job_done)
    await asyncio.sleep(2)
    between, position = stage.cpu(), readings.audit_position(stage.cluster.audit_log)
    tasks = [load.task(f"task-{number}-{i}") for i in range(count)]
    ours = await load.burst(kube, load.tasks_path(NAMESPACE), tasks, load.task_done)
    await asyncio.sleep(2)
    writes = readings.writes_of_operator(stage.cluster.audit_log, position)
    return {
        "bare_per_s": round(bare, 2),
        "tasks_per_s": round(ours, 2),
        "ratio": round(ours / bare, 3),
        "cpu_ms_per_bare_job": readings.per_task(before, between, count),
        "cpu_ms_per_task": readings.per_task(between, stage.cpu(), count),
        "writes_per_task": {k: round(v / count, 3) for k, v in writes.most_common()},
    }


if __name__ == "__main__":
    sys.exit(cli.main("throughput", __doc__, run))
