"""How many tasks a second, beside bare Jobs in the same run; CPU and writes of each part.

    python -m bench.throughput [--scale small|full]

In turn drives N bare Jobs, N bare Jobs with the pod of an attempt, and N LongTasks to their end, A B C A B C; pods
run for a second. The first are as small as a Job can be: no variable, no volume, no security context. The second cost
what the same container costs whoever starts it. A round counts only if all N finished.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections.abc import Callable

from bench.demands import LEAST
from bench.lib import cli, load, readings
from bench.lib.least import least
from bench.lib.results import Results
from bench.lib.scene import NAMESPACE, Scene, scene
from longtask_operator.adapters.kube import Json, Kube

#: Tasks a round, rounds of each.
SIZES = {"small": (150, 1), "full": (1_000, 3)}


def run(results: Results) -> None:
    """Measure so many rounds of each; the medians of their ratios count."""
    with scene(start=False) as stage:
        asyncio.run(_measure_least(stage, results))
    with scene(DEFAULT_CONCURRENCY="10000") as stage:
        asyncio.run(_measure(stage, results))


async def _measure_least(stage: Scene, results: Results) -> None:
    count, rounds = SIZES[results.scale]
    found: list[Json] = []
    async with stage.kube() as kube, least(stage):
        for number in range(rounds):
            jobs = [load.job(f"bare-{number}-{i}") for i in range(count)]
            tasks = [load.task(f"least-{number}-{i}") for i in range(count)]
            bare = await load.burst(kube, load.jobs_path(NAMESPACE), jobs, load.job_done)
            ours = await load.burst(kube, load.tasks_path(NAMESPACE), tasks, load.task_done)
            found.append({"bare": round(bare, 2), "least": round(ours, 2)})
    results.detail("without_operator_per_s", found)
    results.figure(f"ratio{LEAST}", statistics.median(entry["least"] / entry["bare"] for entry in found))


async def _measure(stage: Scene, results: Results) -> None:
    count, rounds = SIZES[results.scale]
    found: list[Json] = []
    async with stage.kube() as kube:
        await load.burst(kube, load.tasks_path(NAMESPACE), [load.task("sample")], load.task_done)
        (sample,) = (await kube.get(load.jobs_path(NAMESPACE)))["items"]
        for number in range(rounds):
            found.append(await _round(kube, stage, sample, number, count))
            print(found[-1], file=sys.stderr)
            results.detail("rounds", found)
            for kind in ("bare", "same_pod", "tasks"):
                results.series[f"{kind}_per_s"] = [entry["per_s"][kind] for entry in found]
            results.figure("ratio", _median_ratio(found, "per_s", "tasks", "bare"))
            results.figure("ratio_same_pod", _median_ratio(found, "per_s", "tasks", "same_pod"))
    for kind in ("bare", "same_pod"):
        results.detail(f"cpu_to_{kind}", _median_ratio([_cpu(entry) for entry in found], "cpu", "tasks", kind))


def _median_ratio(found: list[Json], what: str, one: str, other: str) -> float:
    return round(float(statistics.median(entry[what][one] / entry[what][other] for entry in found)), 3)


def _cpu(entry: Json) -> Json:
    return {"cpu": {kind: used["all"] for kind, used in entry["cpu_ms_each"].items()}}


async def _round(kube: Kube, stage: Scene, sample: Json, number: int, count: int) -> Json:
    """Drive each kind to its end, one after the other, and return what was measured."""
    kinds: dict[str, tuple[str, Callable[[str], Json], Callable[[Json], bool]]] = {
        "bare": (load.jobs_path(NAMESPACE), load.job, load.job_done),
        "same_pod": (load.jobs_path(NAMESPACE), lambda name: load.like(sample, name), load.job_done),
        "tasks": (load.tasks_path(NAMESPACE), load.task, load.task_done),
    }
    found: Json = {"per_s": {}, "cpu_ms_each": {}}
    for kind, (path, make, done) in kinds.items():
        before, position = stage.cpu(), readings.audit_position(stage.cluster.audit_log)
        bodies = [make(f"{kind.replace('_', '-')}-{number}-{i}") for i in range(count)]
        found["per_s"][kind] = round(await load.burst(kube, path, bodies, done), 2)
        await asyncio.sleep(2)
        found["cpu_ms_each"][kind] = readings.per_task(before, stage.cpu(), count)
    writes = readings.writes_of_operator(stage.cluster.audit_log, position)
    found["writes_per_task"] = {key: round(value / count, 3) for key, value in writes.most_common()}
    return found


if __name__ == "__main__":
    sys.exit(cli.main("throughput", __doc__, run))
