"""A thousand attempts live at once under a quota of a thousand, with more that wait: none over, all finish.

    python -m bench.thousand [--scale small|full]

An attempt counts from its Job's creation to its pod's end, both ordered by resourceVersion: that order is the API
server's own, whatever the watches of the bench saw first.
"""

from __future__ import annotations

import asyncio
import sys
import time

from bench.lib import cli, load, readings
from bench.lib.results import Results
from bench.lib.scene import NAMESPACE, Scene, scene
from longtask_operator.adapters.kube import Json

#: Quota, tasks, seconds that each pod runs: longer than it takes to start a quota's worth.
SIZES = {"small": (100, 150, 15), "full": (1_000, 1_100, 60)}


class Census:
    """Counts attempts that live, in the order of the API server's writes."""

    def __init__(self) -> None:
        self._steps: list[tuple[int, int]] = []
        self._over: set[str] = set()

    def saw_job(self, event: Json, now: float) -> None:
        """Count a Job that was created."""
        if event["type"] == "ADDED":
            self._steps.append((int(event["object"]["metadata"]["resourceVersion"]), 1))

    def saw_pod(self, event: Json, now: float) -> None:
        """Count a pod that ended."""
        meta = event["object"]["metadata"]
        if load.pod_ended(event["object"]) and meta["uid"] not in self._over:
            self._over.add(meta["uid"])
            self._steps.append((int(meta["resourceVersion"]), -1))

    def most(self) -> int:
        """Return how many lived at once at most."""
        live = most = 0
        for _, step in sorted(self._steps):
            live += step
            most = max(most, live)
        return most


def run(results: Results) -> None:
    """Let them all run."""
    quota, _, _ = SIZES[results.scale]
    with scene(DEFAULT_CONCURRENCY=str(quota), COPIED_LABELS=load.RUN_FOR_LABEL) as stage:
        asyncio.run(_measure(stage, results))


async def _measure(stage: Scene, results: Results) -> None:
    quota, count, seconds = SIZES[results.scale]
    tasks = [load.task(f"task-{number:05d}", run_for=seconds) for number in range(count)]
    census, ends = Census(), load.Firsts([t["metadata"]["name"] for t in tasks], load.name_of, load.task_done)
    async with (
        stage.kube() as kube,
        load.watched(kube, load.jobs_path(NAMESPACE), census.saw_job),
        load.watched(kube, load.pods_path(NAMESPACE), census.saw_pod),
        load.watched(kube, load.tasks_path(NAMESPACE), ends.saw),
    ):
        began = time.monotonic()
        await load.create_all(kube, load.tasks_path(NAMESPACE), tasks)
        finished = await ends.as_many_as_end(240)
        took = time.monotonic() - began
        await asyncio.sleep(2)
    results.detail("most_at_once", census.most())
    results.detail("seconds", round(took, 1))
    results.detail("operator_rss_mib", readings.peak_rss_mib(stage.operator.pid))
    results.figure("over_quota", max(0, census.most() - quota))
    results.figure("unfinished", count - finished)
    if census.most() < quota:
        raise SystemExit(f"void: at most {census.most()} of {quota} lived at once; the pods must run longer")


if __name__ == "__main__":
    sys.exit(cli.main("thousand", __doc__, run))
