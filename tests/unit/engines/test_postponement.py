from __future__ import annotations

import pytest

from longtask_operator.engines.postponement import Postponement
from tests.support.sim_operator import VirtualLoop

AT_ONCE, AFTER = 2, 3.0


class Bench:
    """A postponement on a loop whose time only passes when told; a write takes as long as *write* is told."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.woken: list[str] = []
        self.shown = Postponement(self.woken.append, AT_ONCE, AFTER, self.loop.time)

    def may(self, *keys: str) -> list[bool]:
        async def inside() -> list[bool]:
            return [self.shown.may(key) for key in keys]

        return self.loop.run_until_complete(inside())

    def wait(self, seconds: float) -> list[str]:
        """Let time pass; return the keys woken meanwhile."""
        self.woken.clear()
        until = self.loop.elapsed + seconds
        while (when := self.loop.next_timer()) is not None and when <= until:
            self.loop.elapsed = max(self.loop.elapsed, when)
            self.loop.settle()
        self.loop.elapsed = until
        return list(self.woken)

    def rests(self, count: int, seconds: float) -> list[float]:
        """Let the next *count* writes take *seconds*; return how long each was waited for."""
        found: list[float] = []
        while len(found) < count:
            began, when = self.loop.elapsed, self.loop.next_timer()
            assert when is not None
            (key,) = self.wait(when - began)
            assert self.may(key) == [True]
            found.append(when - began)
            self.write(key, seconds)
        return found

    def write(self, key: str, seconds: float = 0.0) -> None:
        """Work on *key*, which takes *seconds*."""

        async def inside() -> None:
            self.shown.worked(key)

        self.loop.elapsed += seconds
        self.loop.run_until_complete(inside())

    def drain(self, most: int, seconds: float) -> list[str]:
        """Let each write that is woken take *seconds*; return the keys in their order."""
        found: list[str] = []
        while len(found) < most and (woken := self.wait(60)):
            assert len(woken) == 1, "one after the other"
            assert self.may(woken[0]) == [True]
            self.write(woken[0], seconds)
            found += woken
        return found

    def close(self) -> None:
        self.loop.close()


def test_few_are_shown_at_once_the_others_later(bench: Bench) -> None:
    assert bench.may("n/a", "n/b", "n/c") == [True, True, False]
    assert bench.wait(AFTER - 0.1) == []
    assert bench.wait(0.1) == ["n/c"]
    bench.may("n/d", "n/e")
    assert bench.may("n/f", "n/c") == [False, True], "it is the turn of c, budget or not"


def test_the_next_waits_half_as_long_as_the_last_took(bench: Bench) -> None:
    bench.may(*(f"n/{number}" for number in range(6)))
    assert bench.wait(AFTER) == ["n/2"]
    bench.write("n/2", 0.5)
    assert bench.wait(0.24) == []
    assert bench.wait(0.01) == ["n/3"]
    assert bench.wait(60) == [], "none while another is written"
    bench.write("n/3")
    assert bench.wait(4.9) == []
    assert bench.wait(0.1) == ["n/4"], "a rest has a bound"


def test_the_rest_grows_with_the_slowdown(bench: Bench) -> None:
    bench.may(*(f"n/{number}" for number in range(6)))
    bench.rests(1, 0.1)
    assert bench.rests(2, 0.4) == pytest.approx([0.05, 1.2], rel=0.05), "four times as long: three times the write"


def test_what_stays_slow_is_taken_for_what_can_be_had(bench: Bench) -> None:
    bench.may(*(f"n/{number}" for number in range(400)))
    bench.rests(1, 0.1)
    assert bench.rests(200, 0.4)[1:3] == pytest.approx([1.2, 1.2], rel=0.05)
    assert bench.rests(100, 0.4) == pytest.approx([0.2] * 100)


def test_a_turn_without_a_write_is_no_measure_of_the_others(bench: Bench) -> None:
    bench.may(*(f"n/{number}" for number in range(6)))
    bench.wait(AFTER)
    bench.write("n/2", 0.001)  # nothing was written, nobody asked whether it may
    assert bench.rests(2, 0.1) == pytest.approx([0.005, 0.05])


def test_a_timer_that_fires_a_moment_early_is_in_time(bench: Bench) -> None:
    bench.loop.elapsed = 4.3
    bench.may("n/a", "n/b", "n/c")
    bench.loop.elapsed = 4.3 + AFTER - 1e-10  # asyncio fires timers up to its clock's resolution early
    bench.loop.settle()
    assert bench.woken == ["n/c"]


def test_namespaces_take_turns(bench: Bench) -> None:
    bench.may("n/at-once", "n/too", *(f"flood/{number}" for number in range(50)), "quiet/a")
    assert bench.drain(3, 0.01) == ["flood/0", "quiet/a", "flood/1"]


def test_what_was_written_otherwise_is_not_woken(bench: Bench) -> None:
    bench.may("n/a", "n/b", "n/c", "n/d")
    bench.shown.over("n/c")
    assert bench.drain(5, 0.01) == ["n/d"]


def test_a_turn_that_was_not_used_is_over(bench: Bench) -> None:
    bench.may("n/a", "n/b", "n/c", "n/d")
    assert bench.wait(AFTER) == ["n/c"]
    bench.write("n/c")  # it failed, or was about something else
    bench.may("n/e", "n/f")
    assert bench.may("n/c") == [False], "it stands in line anew"
    assert bench.drain(5, 0.01) == ["n/d", "n/c"]
