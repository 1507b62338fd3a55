"""How long from a task's creation to its Job, and from its pod's end to its own, at 20 tasks a second.

    python -m bench.latency [--scale small|full]

Both as a client sees them: from sending the create request, or the pod's event, to the event that shows the other.
"""

from __future__ import annotations

import asyncio
import sys

from bench.lib import cli, load, readings
from bench.lib.results import Results
from bench.lib.scene import NAMESPACE, Scene, scene

PER_SECOND = 20.0
#: Tasks measured, after some that only warm up.
SIZES, WARM = {"small": 200, "full": 1_200}, 40


def run(results: Results) -> None:
    """Measure once, at an even pace."""
    with scene(DEFAULT_CONCURRENCY="10000") as stage:
        asyncio.run(_measure(stage, results))


async def _measure(stage: Scene, results: Results) -> None:
    count = SIZES[results.scale] + WARM
    tasks = [load.task(f"task-{number:05d}") for number in range(count)]
    names = [task["metadata"]["name"] for task in tasks]
    jobs, pods, ends = (
        load.Firsts(names, load.task_of_child, lambda body: True),
        load.Firsts(names, load.task_of_child, load.pod_ended),
        load.Firsts(names, load.name_of, load.task_done),
    )
    async with (
        stage.kube() as kube,
        load.watched(kube, load.jobs_path(NAMESPACE), jobs.saw),
        load.watched(kube, load.pods_path(NAMESPACE), pods.saw),
        load.watched(kube, load.tasks_path(NAMESPACE), ends.saw),
    ):
        before = stage.cpu()
        sent = await load.create_paced(kube, load.tasks_path(NAMESPACE), tasks, PER_SECOND)
        await ends.until_all(120)
        await asyncio.sleep(2)
        results.detail("cpu_ms_per_task", readings.per_task(before, stage.cpu(), count))
    measured = names[WARM:]
    _note(results, "create", [(jobs.at[name] - sent[name]) * 1000 for name in measured])
    _note(results, "end", [(ends.at[name] - pods.at[name]) * 1000 for name in measured])


def _note(results: Results, what: str, milliseconds: list[float]) -> None:
    found = readings.summary(milliseconds)
    results.series[f"{what}_ms"] = sorted(round(value, 2) for value in milliseconds)
    results.detail(f"{what}_ms", found)
    results.figure(f"{what}_p50_ms", found["p50"])
    results.figure(f"{what}_p99_ms", found["p99"])


if __name__ == "__main__":
    sys.exit(cli.main("latency", __doc__, run))
