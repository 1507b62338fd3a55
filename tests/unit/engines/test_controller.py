"""What the controller's workers leave to others on their loop; what they decide is told by the simulation."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from longtask_operator.adapters.kube import Kube
from longtask_operator.engines.context import Clock, Context, new_caches
from longtask_operator.engines.controller import Controller, Parts
from longtask_operator.engines.postponement import Postponement
from longtask_operator.engines.workqueue import WorkQueue
from tests.builders import JOB_POLICY, POLICY, START
from tests.support.sim_operator import METRICS, SimKube


def a_controller(queue: WorkQueue, looked_at: list[str]) -> Controller:
    """Return a controller whose tasks are all gone: it looks at each and asks the API server nothing."""

    async def let_go(key: str, record: Any) -> None:
        looked_at.append(key)

    context = Context(
        kube=cast(Kube, SimKube()),
        caches=new_caches(),
        metrics=METRICS,
        clock=Clock(now=lambda: START, jitter=lambda: 0.5),
        policy=POLICY,
        job_policy=JOB_POLICY,
        unlabelled="Own",
        progress_interval=10,
    )
    parts = SimpleNamespace(departures=SimpleNamespace(let_go=let_go))
    shown = Postponement(queue.add, 1, 5)
    return Controller(context=context, queue=queue, parts=cast(Parts, parts), postponement=shown)


async def test_thousands_of_looks_that_write_nothing_keep_nobody_else_waiting() -> None:
    """After a restart every task is looked at; who is first must not wait for the last with his admission."""
    queue, stop, looked_at = WorkQueue(), asyncio.Event(), list[str]()
    for number in range(1_000):
        queue.add(f"team-a/task-{number}")
    working = asyncio.create_task(a_controller(queue, looked_at).run(4, stop))
    for _ in range(5):
        await asyncio.sleep(0)
    assert 0 < len(looked_at) < 50
    stop.set()
    await working
