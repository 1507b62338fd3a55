"""How many tasks a second, beside bare Jobs in the same run; CPU and writes of each part.

    python -m bench.throughput [--scale small|full]

In turn drives N bare Jobs, N bare Jobs with the pod of an attempt, and N LongTasks to their end; each is the first in
every third round. Pods run for a second. The first are as small as a Job can be: no variable, no volume, no security
context. The second cost what the same container costs whoever starts it. A round counts only if all N finished. Every
burst has a namespace of its own, as the controller manager looks at all pods of a namespace for each of its Jobs:
who comes later would pay for those before.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
from collections.abc import Callable, Iterable
from typing import NamedTuple

from bench.demands import LEAST
from bench.lib import cli, load, readings
from bench.lib.least import least
from bench.lib.results import Results
from bench.lib.scene import NAMESPACE, Scene, scene
from longtask_operator.adapters.kube import Json, Kube

#: Tasks a round, rounds with the operator, rounds without one.
SIZES = {"small": (150, 1, 1), "full": (1_000, 3, 2)}


class _Kind(NamedTuple):
    path: Callable[[str | None], str]
    make: Callable[[str], Json]
    done: Callable[[Json], bool]


_BARE = _Kind(load.jobs_path, load.job, load.job_done)
_TASKS = _Kind(load.tasks_path, load.task, load.task_done)
_WITHOUT = {"bare": _BARE, "least": _TASKS}
_WITH = ("bare", "same_pod", "tasks")


def run(results: Results) -> None:
    """Measure so many rounds of each; the medians of their ratios count."""
    count, rounds, without = SIZES[results.scale]
    with scene(namespaces=(NAMESPACE, *_namespaces(_WITHOUT, without)), start=False) as stage:
        asyncio.run(_measure_least(stage, results, count, without))
    with scene(namespaces=(NAMESPACE, *_namespaces(_WITH, rounds)), DEFAULT_CONCURRENCY="10000") as stage:
        asyncio.run(_measure(stage, results, count, rounds))


def _namespaces(kinds: Iterable[str], rounds: int) -> list[str]:
    return [_namespace(kind, number) for kind in kinds for number in range(rounds)]


def _namespace(kind: str, number: int) -> str:
    return f"{kind.replace('_', '-')}-{number}"


async def _measure_least(stage: Scene, results: Results, count: int, rounds: int) -> None:
    found: list[Json] = []
    async with stage.kube() as kube:
        async with least(stage):
            await _warm_up(kube, _WITHOUT, count)
        for number in range(rounds):
            found.append(await _round(kube, stage, _WITHOUT, number, count))
            print(found[-1], file=sys.stderr)
    results.detail("without_operator", found)
    results.figure(f"ratio{LEAST}", _median_ratio(found, "per_s", "least", "bare"))
    results.detail("cpu_least_to_bare", _median_ratio([_cpu(entry) for entry in found], "cpu", "least", "bare"))


async def _measure(stage: Scene, results: Results, count: int, rounds: int) -> None:
    found: list[Json] = []
    async with stage.kube() as kube:
        await _warm_up(kube, {"bare": _BARE, "tasks": _TASKS}, count)
        items = (await kube.get(load.jobs_path(NAMESPACE), limit=str(count)))["items"]
        sample = next(item for item in items if load.task_of_child(item))
        same_pod = _Kind(load.jobs_path, lambda name: load.like(sample, name), load.job_done)
        kinds = dict(zip(_WITH, (_BARE, same_pod, _TASKS), strict=True))
        for number in range(rounds):
            found.append(await _round(kube, stage, kinds, number, count))
            print(found[-1], file=sys.stderr)
            results.detail("rounds", found)
            for kind in _WITH:
                results.series[f"{kind}_per_s"] = [entry["per_s"][kind] for entry in found]
            results.figure("ratio", _median_ratio(found, "per_s", "tasks", "bare"))
            results.figure("ratio_same_pod", _median_ratio(found, "per_s", "tasks", "same_pod"))
    results.detail("same_pod_to_bare", _median_ratio(found, "per_s", "same_pod", "bare"))
    for kind in ("bare", "same_pod"):
        results.detail(f"cpu_to_{kind}", _median_ratio([_cpu(entry) for entry in found], "cpu", "tasks", kind))


async def _warm_up(kube: Kube, kinds: dict[str, _Kind], count: int) -> None:
    """Drive a few of each kind: a new API server is slow, and that is nobody's."""
    for name, kind in kinds.items():
        bodies = [kind.make(f"{name}-{i}") for i in range(max(1, count // 5))]
        await load.burst(kube, kind.path(NAMESPACE), bodies, kind.done)


def _median_ratio(found: list[Json], what: str, one: str, other: str) -> float:
    return round(float(statistics.median(entry[what][one] / entry[what][other] for entry in found)), 3)


def _cpu(entry: Json) -> Json:
    return {"cpu": {kind: used["all"] for kind, used in entry["cpu_ms_each"].items()}}


async def _round(kube: Kube, stage: Scene, kinds: dict[str, _Kind], number: int, count: int) -> Json:
    """Drive each kind to its end, one after the other, and return what was measured."""
    names = list(kinds)
    found: Json = {"per_s": {}, "cpu_ms_each": {}}
    for name in names[number % len(names) :] + names[: number % len(names)]:
        kind, namespace = kinds[name], _namespace(name, number)
        before, position = stage.cpu(), readings.audit_position(stage.cluster.audit_log)
        bodies = [kind.make(f"{namespace}-{i}") for i in range(count)]
        async with least(stage, namespace) if name == "least" else contextlib.nullcontext():
            found["per_s"][name] = round(await load.burst(kube, kind.path(namespace), bodies, kind.done), 2)
        await asyncio.sleep(2)
        found["cpu_ms_each"][name] = readings.per_task(before, stage.cpu(), count)
        if name == "tasks":
            writes = readings.writes_of_operator(stage.cluster.audit_log, position)
            found["writes_per_task"] = {key: round(value / count, 3) for key, value in writes.most_common()}
    return found


if __name__ == "__main__":
    sys.exit(cli.main("throughput", __doc__, run))
