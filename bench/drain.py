"""Whether one deep queue drains as fast as 50 shallow ones.

    python -m bench.drain [--scale small|full]

As many tasks wait behind stopPolicy Hold: in one tenant's queue, or spread over 50 tenants. Then the hold is taken
away. The same number of attempts may live at a time in both, one cohort shares it: who has no part in a round has no
room in it that others could borrow. Rounds in turn, A B B A.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Sequence

from bench.lib import cli, load
from bench.lib.results import Results
from bench.lib.scene import Scene, scene
from longtask_operator.adapters.kube import Json, Kube

SHALLOW = 50
#: Tasks in all, attempts at a time in all, pairs of rounds, as many in each order.
SIZES = {"small": (200, 100, 2), "full": (1_000, 200, 2)}
NAMESPACES = ("deep", *(f"shallow-{number:02d}" for number in range(SHALLOW)))


def run(results: Results) -> None:
    """Measure in turn, each first in every other pair; the geometric mean of the ratios counts."""
    with scene(namespaces=NAMESPACES, DEFAULT_CONCURRENCY="0") as stage:
        asyncio.run(_measure(stage, results))


async def _measure(stage: Scene, results: Results) -> None:
    tasks, concurrency, pairs = SIZES[results.scale]
    deep, shallow = list[float](), list[float]()
    both = [(deep, NAMESPACES[:1]), (shallow, NAMESPACES[1:])]
    async with stage.kube() as kube:
        await _drain(kube, NAMESPACES, tasks // 5, concurrency, pairs)  # a new API server is slow: that is nobody's
        for number in range(pairs):
            for found, tenants in both if number % 2 == 0 else reversed(both):
                found.append(await _drain(kube, tenants, tasks, concurrency, number))
            results.series["deep_per_s"], results.series["shallow_per_s"] = deep, shallow
            results.detail(
                "rounds", [{"deep_per_s": a, "shallow_per_s": b} for a, b in zip(deep, shallow, strict=True)]
            )
            results.figure("ratio", statistics.geometric_mean(a / b for a, b in zip(deep, shallow, strict=True)))


async def _drain(kube: Kube, tenants: Sequence[str], tasks: int, concurrency: int, number: int) -> float:
    """Return tasks finished a second, from the end of the hold to the last one's end."""
    each = concurrency // len(tenants)
    for tenant in NAMESPACES:
        await _set_quota(kube, tenant, each if tenant in tenants else 0, "Hold")
    names = [f"drain-{number}-{len(tenants)}-{i:05d}" for i in range(tasks)]
    spread = [(tenants[i % len(tenants)], name) for i, name in enumerate(names)]
    ends = load.Firsts(names, load.name_of, load.task_done)
    async with load.watched(kube, load.tasks_path(None), ends.saw):
        await load.create_spread(kube, [(load.tasks_path(tenant), load.task(name)) for tenant, name in spread])
        await load.until_queued(kube, tenants, tasks)
        began = time.monotonic()
        for tenant in tenants:
            await _set_quota(kube, tenant, each, "None")
        await ends.until_all(240)
    return round(tasks / (max(ends.at.values()) - began), 2)


async def _set_quota(kube: Kube, tenant: str, concurrency: int, stop_policy: str) -> None:
    body: Json = load.quota(tenant, concurrency, cohort="all", stopPolicy=stop_policy)
    await load.put(kube, load.quotas_path(), body)


if __name__ == "__main__":
    sys.exit(cli.main("drain", __doc__, run))
