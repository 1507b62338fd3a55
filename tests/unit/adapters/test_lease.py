"""Leadership on a virtual clock: each test executes, answers or loses the electors' requests itself."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtask_operator.adapters import lease
from longtask_operator.adapters.kube import Kube
from longtask_operator.adapters.lease import LeaseElector, LeaseLost, LeaseTimes
from tests.support.sim_api import Json, SimApi
from tests.support.sim_operator import LogTrap, SimKube, VirtualLoop

TIMES = LeaseTimes(duration=15, renew_deadline=10, retry=2)
KEY = ("leases", "longtask-system", "longtask-operator")


class Candidate:
    """One process that wants to lead."""

    def __init__(self, bench: Bench, name: str, *, run: bool = True) -> None:
        self.kube = SimKube()
        self.elector = LeaseElector(cast(Kube, self.kube), KEY[1], KEY[2], name, TIMES)
        self.begun = self.ended = 0
        self.stop = asyncio.Event()
        work = self.elector.run(self.lead) if run else self.elector.take_at_once()
        self.task: asyncio.Task[object] = bench.loop.create_task(work)
        self.task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def lead(self) -> None:
        self.begun += 1
        try:
            await self.stop.wait()
        finally:
            self.ended += 1


class Bench:
    """A Lease and those who want it; time passes when told."""

    def __init__(self) -> None:
        self.trap, self.loop = LogTrap(), VirtualLoop()
        self.api = SimApi(now=self.loop.now)
        self.candidates: list[Candidate] = []
        self._patches = pytest.MonkeyPatch()
        self._patches.setattr(lease, "time", SimpleNamespace(monotonic=self.loop.time))
        self._patches.setattr(lease, "_now", lambda: self.loop.now().isoformat(timespec="microseconds"))

    def join(self, name: str) -> Candidate:
        self.candidates.append(Candidate(self, name))
        self.loop.settle()
        return self.candidates[-1]

    def answer(self, candidate: Candidate, reply: str = "ok") -> bool:
        """Answer the candidate's request, or lose it; return whether there was one."""
        waiting = [pending for pending in candidate.kube.pending if not pending.reply.done()]
        if not waiting:
            return False
        if reply != "not sent":
            waiting[0].execute(self.api)
        if reply == "ok":
            waiting[0].deliver()
        else:
            waiting[0].lose()
        self.loop.settle()
        return True

    def run(self, seconds: float, *, reachable: tuple[Candidate, ...] = ()) -> None:
        """Let time pass; requests of *reachable* candidates are answered at once, others never."""
        end = self.loop.elapsed + seconds
        while True:
            while any(self.answer(candidate) for candidate in reachable):
                pass
            when = self.loop.next_timer()
            if when is None or when > end:
                self.loop.elapsed = end
                self.loop.settle()
                return
            self.loop.elapsed = max(when, self.loop.elapsed)
            self.loop.settle()

    @property
    def spec(self) -> Json:
        spec: Json = self.api.objects[KEY]["spec"]
        return spec

    def close(self) -> None:
        self._patches.undo()
        for candidate in self.candidates:
            candidate.task.cancel()
        self.loop.settle()
        for candidate in self.candidates:
            while self.answer(candidate, "lost"):
                pass
        self.loop.settle()
        self.loop.close()
        self.trap.close()


def test_the_first_one_leads_and_renews(bench: Bench) -> None:
    one = bench.join("one")
    bench.run(60, reachable=(one,))
    assert (one.begun, one.ended, one.elector.is_leader) == (1, 0, True)
    assert (bench.spec["holderIdentity"], bench.spec["leaseTransitions"]) == ("one", 0)


def test_it_is_held_since_it_was_taken_not_renewed(bench: Bench) -> None:
    bench.loop.elapsed = 5
    one = bench.join("one")
    assert one.elector.held_since == float("inf")
    bench.run(60, reachable=(one,))
    assert one.elector.held_since == 5


def test_who_takes_it_at_once_leads_without_taking_it_again(bench: Bench) -> None:
    early = Candidate(bench, "early", run=False)
    bench.candidates.append(early)
    bench.loop.settle()
    bench.run(1, reachable=(early,))
    assert early.task.result() is True
    assert early.elector.is_leader
    held = early.elector.held_since
    early.task = bench.loop.create_task(early.elector.run(early.lead))
    bench.loop.settle()
    bench.run(30, reachable=(early,))
    assert (early.begun, early.elector.held_since, bench.spec["leaseTransitions"]) == (1, held, 0)


def test_a_lease_that_another_holds_is_not_taken_at_once(bench: Bench) -> None:
    one = bench.join("one")
    bench.run(10, reachable=(one,))
    two = Candidate(bench, "two", run=False)
    bench.candidates.append(two)
    bench.loop.settle()
    bench.run(10, reachable=(one, two))
    assert two.task.result() is False


def test_a_second_one_waits_while_the_first_renews(bench: Bench) -> None:
    one, two = bench.join("one"), bench.join("two")
    bench.run(120, reachable=(one, two))
    assert (one.elector.is_leader, two.elector.is_leader, two.begun) == (True, False, 0)


def test_who_goes_in_order_hands_over_at_once(bench: Bench) -> None:
    one, two = bench.join("one"), bench.join("two")
    bench.run(10, reachable=(one, two))
    one.stop.set()
    bench.run(4, reachable=(one, two))
    assert one.task.done()
    assert one.task.exception() is None
    assert (two.elector.is_leader, bench.spec["leaseTransitions"]) == (True, 1)


def test_who_cannot_renew_stops_before_another_may_begin(bench: Bench) -> None:
    one, two = bench.join("one"), bench.join("two")
    bench.run(10, reachable=(one, two))
    bench.run(9, reachable=(two,))
    assert not two.elector.is_leader
    bench.run(3, reachable=(two,))
    assert (one.elector.is_leader, one.ended, two.elector.is_leader) == (False, 1, False)
    bench.run(8, reachable=(two,))
    assert two.elector.is_leader
    assert isinstance(one.task.exception(), LeaseLost)


def test_a_lease_that_its_dead_holder_renewed_lately_is_waited_for_in_full(bench: Bench) -> None:
    """Clocks of two hosts are never compared: what counts is how long the candidate saw no renewal."""
    renewed = {"holderIdentity": "dead", "leaseDurationSeconds": 15, "renewTime": "1999-01-01T00:00:00.000000Z"}
    bench.api.new("leases", KEY[1], {"metadata": {"name": KEY[2]}, "spec": renewed})
    one = bench.join("one")
    bench.run(14, reachable=(one,))
    assert not one.elector.is_leader
    bench.run(5, reachable=(one,))
    assert (one.elector.is_leader, bench.spec["leaseTransitions"]) == (True, 1)


def test_a_lease_without_a_holder_is_free(bench: Bench) -> None:
    bench.api.new("leases", KEY[1], {"metadata": {"name": KEY[2]}})
    one = bench.join("one")
    bench.run(1, reachable=(one,))
    assert one.elector.is_leader


def test_a_short_fault_is_outlived(bench: Bench) -> None:
    one = bench.join("one")
    bench.run(10, reachable=(one,))
    bench.run(6)
    bench.run(10, reachable=(one,))
    assert (one.elector.is_leader, one.begun, one.ended) == (True, 1, 0)


def test_times_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="retry < renew deadline < duration"):
        LeaseElector(cast(Kube, SimKube()), "ns", "n", "i", LeaseTimes(duration=10, renew_deadline=10, retry=2))


STEPS = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from(["ok", "ok", "ok", "lost", "not sent", "time"]), st.floats(0.1, 6)),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_two_never_lead_at_once(steps: list[tuple[int, str, float]]) -> None:
    bench = Bench()
    try:
        for name in ("one", "two"):
            bench.join(name)
        for number, reply, seconds in steps:
            if reply == "time":
                bench.run(seconds)
            else:
                bench.answer(bench.candidates[number], reply)
            assert sum(candidate.elector.is_leader for candidate in bench.candidates) <= 1
    finally:
        bench.close()
