"""How long from a task's creation to its Job, and from its pod's end to its own, at 20 tasks a second and at 5.

    python -m bench.latency [--scale small|full]

Both as a client sees them: from sending the create request, or the pod's event, to the event that shows the other.
At 5 a second the machine is not busy: that tells what the way itself takes, and the audit log tells its parts.

Before, the same where no operator runs and the bench does the least that a strict admission has to do (`lib/least.py`):
what this API server on this machine needs for it.
"""

from __future__ import annotations

import asyncio
import sys

from bench.demands import LEAST
from bench.lib import cli, load, readings
from bench.lib.least import least
from bench.lib.results import Results
from bench.lib.scene import NAMESPACE, Scene, scene

PER_SECOND, CALM = 20.0, 5.0
#: Tasks measured at each pace, after some that only warm up.
SIZES, WARM = {"small": (200, 50), "full": (1_200, 150)}, 40


def run(results: Results) -> None:
    """Measure once at each pace, without an operator and with it."""
    with scene(start=False) as stage:
        asyncio.run(_measure_least(stage, results))
    with scene(DEFAULT_CONCURRENCY="10000") as stage:
        asyncio.run(_measure(stage, results))


async def _measure_least(stage: Scene, results: Results) -> None:
    many, few = SIZES[results.scale]
    async with least(stage):
        for word, count, per_second in (("least-calm", few, CALM), ("least", many, PER_SECOND)):
            created, ended, cpu = await _drive(stage, word, count, per_second)
            results.detail(f"{word}_create_ms".replace("-", "_"), readings.summary(created))
            results.detail(f"{word}_end_ms".replace("-", "_"), readings.summary(ended))
    results.detail("least_cpu_ms_per_task", cpu)
    _figures(results, "create", readings.summary(created), LEAST)
    _figures(results, "end", readings.summary(ended), LEAST)


async def _measure(stage: Scene, results: Results) -> None:
    many, few = SIZES[results.scale]
    position = readings.audit_position(stage.cluster.audit_log)
    created, ended, _ = await _drive(stage, "calm", few, CALM)
    results.detail("calm_create_ms", readings.summary(created))
    results.detail("calm_end_ms", readings.summary(ended))
    results.detail("calm_path_ms", readings.path_of_tasks(stage.cluster.audit_log, position))
    created, ended, cpu = await _drive(stage, "task", many, PER_SECOND)
    results.detail("cpu_ms_per_task", cpu)
    _note(results, "create", created)
    _note(results, "end", ended)


async def _drive(
    stage: Scene, word: str, count: int, per_second: float
) -> tuple[list[float], list[float], dict[str, float]]:
    """Return the milliseconds from each task to its Job, from its pod's end to its own, and the CPU of a task."""
    tasks = [load.task(f"{word}-{number:05d}") for number in range(count + WARM)]
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
        sent = await load.create_paced(kube, load.tasks_path(NAMESPACE), tasks, per_second)
        await ends.until_all(120)
        await asyncio.sleep(2)
        cpu = readings.per_task(before, stage.cpu(), len(tasks))
    measured = names[WARM:]
    created = [(jobs.at[name] - sent[name]) * 1000 for name in measured]
    return created, [(ends.at[name] - pods.at[name]) * 1000 for name in measured], cpu


def _note(results: Results, what: str, milliseconds: list[float]) -> None:
    found = readings.summary(milliseconds)
    results.series[f"{what}_ms"] = sorted(round(value, 2) for value in milliseconds)
    results.detail(f"{what}_ms", found)
    _figures(results, what, found)


def _figures(results: Results, what: str, found: dict[str, float], suffix: str = "") -> None:
    for part in ("p50", "p99"):
        results.figure(f"{what}_{part}_ms{suffix}", found[part])


if __name__ == "__main__":
    sys.exit(cli.main("latency", __doc__, run))
