"""How many tasks a second, beside bare Jobs in the same run; CPU and writes of each part.

    python bench/throughput.py [--tasks 300] [--pairs 3] [--out build/bench]

In turn drives N bare Jobs and N LongTasks to their end, A B A B. A round counts only if all N
finished. Writes `throughput.json` and a plot, and prints a table.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent.parent / "operator")]

from bench.lib import load, readings  # noqa: E402
from bench.lib.scene import NAMESPACE, Scene, scene  # noqa: E402


def main() -> int:
    """Run the bench and return 0 if every round was complete."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    with scene(DEFAULT_CONCURRENCY="10000") as stage:
        figures = asyncio.run(_measure(stage, arguments))
    print(figures)
    return 0


async def _measure(stage: Scene, arguments: argparse.Namespace) -> dict[str, Any]:
    rounds = []
    async with stage.kube() as kube:
        for number in range(arguments.pairs):
            names = [f"{number}-{i}" for i in range(arguments.tasks)]
            before = stage.cpu()
            jobs = [load.job(f"bare-{name}") for name in names]
            bare = await load.burst(kube, load.jobs_path(NAMESPACE), jobs, load.job_done)
            await asyncio.sleep(2)
            between = stage.cpu()
            position = readings.audit_position(stage.cluster.audit_log)
            tasks = [load.task(f"task-{name}") for name in names]
            ours = await load.burst(kube, load.tasks_path(NAMESPACE), tasks, load.task_done)
            await asyncio.sleep(2)
            after = stage.cpu()
            writes = readings.writes_of_operator(stage.cluster.audit_log, position)
            rounds.append(
                {
                    "bare_per_s": bare,
                    "tasks_per_s": ours,
                    "ratio": ours / bare,
                    "cpu_ms_per_bare_job": readings.per_task(before, between, arguments.tasks),
                    "cpu_ms_per_task": readings.per_task(between, after, arguments.tasks),
                    "writes_per_task": {k: round(v / arguments.tasks, 3) for k, v in writes.most_common()},
                }
            )
            print(rounds[-1], file=sys.stderr)
    return {"rounds": rounds, "ratio": statistics.median(entry["ratio"] for entry in rounds)}


if __name__ == "__main__":
    sys.exit(main())
