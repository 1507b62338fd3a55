"""10,000 tasks that wait: their cost at rest, the memory they take, and how fast the operator is back after a kill.

    python -m bench.rest [--scale small|full]

Their quota is spent by tasks that run for an hour. Another tenant's task, created while the operator is dead,
is the one whose admission is waited for; an operator killed by SIGKILL is started again at once, as a kubelet does.
"""

from __future__ import annotations

import asyncio
import sys
import time

from bench.lib import cli, load, readings
from bench.lib.results import Results
from bench.lib.scene import NAMESPACE, Scene, scene
from longtask_operator.adapters.kube import Kube

#: Tasks that wait, seconds of rest that are measured, and how often the operator is killed.
SIZES = {"small": (1_000, 20.0, 2), "full": (10_000, 60.0, 3)}
#: No write for so long: they have come to rest.
_QUIET_SECONDS, _LONGEST_SECONDS = 10.0, 300.0


def run(results: Results) -> None:
    """Let the tasks come to rest, then measure; each figure is written when it is there."""
    with scene(namespaces=(NAMESPACE, "other"), DEFAULT_CONCURRENCY="5", COPIED_LABELS=load.RUN_FOR_LABEL) as stage:
        asyncio.run(_measure(stage, results))


async def _measure(stage: Scene, results: Results) -> None:
    waiting, seconds, kills = SIZES[results.scale]
    async with stage.kube() as kube:
        tasks = [load.task(f"task-{number:05d}", run_for=3600) for number in range(waiting)]
        began = time.monotonic()
        await load.create_all(kube, load.tasks_path(NAMESPACE), tasks)
        results.detail("created_after_s", round(time.monotonic() - began, 1))
        await load.until_queued(kube, [NAMESPACE], waiting - 5)
        results.detail("all_told_after_s", round(time.monotonic() - began, 1))
        results.detail("at_rest_after_s", round(await _until_quiet(stage) - began, 1))
        results.detail("peak_rss_mib", readings.peak_rss_mib(stage.operator.pid))
        results.figure("rss_mib", stage.operator.rss)
        await _rest(stage, results, seconds)
        times, writes = [], 0
        for number in range(kills):
            took, wrote = await _kill(kube, stage, number)
            times.append(took)
            writes += wrote
            results.detail("restarts_s", times)
            results.figure("restart_s", sorted(times)[len(times) // 2])
            results.figure("restart_writes", writes)
        results.detail("rss_after_restart_mib", stage.operator.rss)


async def _until_quiet(stage: Scene) -> float:
    """Wait until the operator has written nothing for a while; return since when. Raises SystemExit if it goes on."""
    until, log = time.monotonic() + _LONGEST_SECONDS, stage.cluster.audit_log
    while time.monotonic() < until:
        position, began = readings.audit_position(log), time.monotonic()
        await asyncio.sleep(_QUIET_SECONDS)
        if not readings.writes_of_operator(log, position):
            return began
    raise SystemExit(f"the operator still wrote after {_LONGEST_SECONDS:.0f} s")


async def _rest(stage: Scene, results: Results, seconds: float) -> None:
    position, before = readings.audit_position(stage.cluster.audit_log), readings.cpu_seconds(stage.operator.pid)
    await asyncio.sleep(seconds)
    used = readings.cpu_seconds(stage.operator.pid) - before
    writes = readings.writes_of_operator(stage.cluster.audit_log, position)
    results.detail("writes_at_rest", dict(writes))
    results.figure("writes", sum(writes.values()))
    results.figure("cpu_percent", used / seconds * 100)


async def _kill(kube: Kube, stage: Scene, number: int) -> tuple[float, int]:
    """Kill the operator; return the seconds until the next Job, and writes to tasks other than the admitted one."""
    name = f"next-{number}"
    jobs = load.Firsts([name], load.task_of_child, lambda body: True)
    position = readings.audit_position(stage.cluster.audit_log)
    async with load.watched(kube, load.jobs_path("other"), jobs.saw):
        killed = time.monotonic()
        stage.operator.kill()
        stage.operator.start()
        await kube.create(load.tasks_path("other"), load.task(name, run_for=3600))
        await jobs.until_all(60)
    await asyncio.sleep(10)
    wrote = readings.operator_requests(stage.cluster.audit_log, position)
    return round(jobs.at[name] - killed, 2), sum(_touches_others(event, name) for event in wrote)


def _touches_others(event: readings.Json, name: str) -> bool:
    """Whether a write changes a task, Job or pod that nothing had happened to."""
    reference = event.get("objectRef") or {}
    ours = reference.get("resource") in ("longtasks", "jobs", "pods")
    return ours and not str(reference.get("name") or name).startswith(name)


if __name__ == "__main__":
    sys.exit(cli.main("rest", __doc__, run))
