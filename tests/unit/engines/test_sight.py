"""What probes and silence make of the times that judgements rest on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

from longtask_operator.api.report import parse_report
from longtask_operator.engines import sight as module
from longtask_operator.engines.context import Clock, new_caches
from longtask_operator.engines.report_book import ReportBook
from longtask_operator.engines.sight import Sight
from tests.builders import a_running_pod, at
from tests.support.contexts import context_on
from tests.support.sim_operator import METRICS


class World:
    """A leader that listens; probes fail while `broken` says why."""

    def __init__(self) -> None:
        self.second, self.broken, self.probes = 0.0, "", 0
        clock = Clock(now=lambda: at(self.second), jitter=lambda: 0.0)
        self.context = replace(context_on(new_caches()), metrics=METRICS, clock=clock)
        self.book = ReportBook()
        self.sight = Sight(self.context, cast(Any, self), self.book)
        self.sight.probe = self._probe
        self.recoveries: list[float] = []
        self.sight.on_recovery = lambda: self.recoveries.append(self.second)
        self.sight.listens()

    def uids(self) -> list[str]:
        return []

    async def _probe(self) -> str:
        self.probes += 1
        return self.broken

    def report(self, pod_uid: str) -> None:
        self.book.record(pod_uid, parse_report(b'{"sequence": 1}'), at(self.second))

    async def probed(self, second: float, broken: str = "") -> datetime | None:
        """Return since when reports are heard, after a probe at *second*."""
        self.second, self.broken = second, broken
        await self.sight._probe(0)
        return self.sight.hearing_since


def metric() -> float:
    return cast(float, METRICS.registry.get_sample_value("longtask_reports_deaf"))


async def test_a_broken_channel_is_noticed_by_a_probe_for_a_single_reporter_too() -> None:
    world = World()
    world.context.caches.pods.put(a_running_pod())
    world.report("pod-1")
    assert await world.probed(5) == at(0)
    assert await world.probed(10, "refused") is None
    assert metric() == 1
    assert await world.probed(40, "refused") is None
    assert await world.probed(42) == at(42)
    assert (metric(), world.recoveries) == (0, [0, 42])


async def test_who_was_looked_at_before_anybody_could_be_heard_is_looked_at_again() -> None:
    assert World().recoveries == [0]


async def test_an_end_is_confirmed_by_a_probe_of_now() -> None:
    world = World()
    world.second = 30
    assert await world.sight.still_hears()
    world.broken = "refused"
    world.sight._probed = float("-inf")
    assert not await world.sight.still_hears()
    world.broken = ""
    world.sight._probed = float("-inf")
    assert not await world.sight.still_hears(), "there was a gap"
    assert await world.sight.still_hears()


async def test_one_probe_serves_all_who_ask_at_once() -> None:
    world = World()
    assert all(await asyncio.gather(*(world.sight.still_hears() for _ in range(50))))
    assert world.probes == 1


async def test_where_probes_cannot_come_through_reports_are_enough() -> None:
    """Some networks do not let a pod reach itself through its Service."""
    world = World()
    world.context.caches.pods.put(a_running_pod())
    for second in range(0, 30, 5):
        world.second = second
        world.report("pod-1")
        heard = await world.probed(second + 1, "timed out")
    assert heard is not None
    assert await world.probed(600, "timed out") == heard, "a single one that falls silent is judged"
    assert await world.sight.still_hears()


async def test_the_silence_of_all_withholds_judgement_for_a_while_only() -> None:
    world = World()
    for number in (1, 2):
        world.context.caches.pods.put(a_running_pod(name=f"pod-{number}", uid=f"pod-{number}"))
        world.report(f"pod-{number}")
    assert await world.probed(31) is None
    assert await world.probed(630) is None
    assert await world.probed(631) == at(631)
    assert await world.probed(10_000) == at(631), "nobody takes that back"


async def test_the_pace_follows_what_there_is_to_judge() -> None:
    world = World()
    await world.probed(5, "refused")
    assert world.sight._pace() == module.PROBE_IDLE_SECONDS
    world.context.caches.pods.put(a_running_pod())
    assert world.sight._pace() == module.PROBE_AGAIN_SECONDS
    await world.probed(7)
    assert world.sight._pace() == module.PROBE_SECONDS


async def test_a_gap_of_the_process_starts_the_clocks_anew() -> None:
    world = World()
    world.second = timedelta(minutes=1).total_seconds()
    world.sight.missed(20)
    assert world.sight.hearing_since == world.sight.watching_since == at(60)
