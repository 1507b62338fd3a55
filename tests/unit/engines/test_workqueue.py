from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from longtask_operator.engines.workqueue import WorkQueue
from tests.support.sim_operator import VirtualLoop


class Bench:
    """A queue on a loop whose time only passes when told."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.queue = WorkQueue()

    def do(self, *calls: tuple[Any, ...]) -> list[Any]:
        """Call each function with its arguments inside the loop; return what they returned."""

        async def inside() -> list[Any]:
            return [function(*arguments) for function, *arguments in calls]

        return self.loop.run_until_complete(inside())

    def get(self) -> asyncio.Task[str | None]:
        task = self.loop.create_task(self.queue.get())
        self.loop.settle()
        return task

    def take(self) -> str | None:
        """Return the next key, None if none is ready."""
        task = self.get()
        if task.done():
            return task.result()
        task.cancel()
        self.loop.settle()
        return None

    def wait(self, seconds: float) -> None:
        self.loop.elapsed += seconds
        self.loop.settle()

    def close(self) -> None:
        self.loop.close()


def test_namespaces_take_turns(bench: Bench) -> None:
    for key in ("flood/1", "flood/2", "flood/3", "quiet/1"):
        bench.queue.add(key)
    assert [bench.take(), bench.take(), bench.take()] == ["flood/1", "quiet/1", "flood/2"]


def test_keys_come_in_the_order_of_their_first_add_and_once(bench: Bench) -> None:
    for key in "abab":
        bench.queue.add(key)
    assert len(bench.queue) == 2
    assert [bench.take(), bench.take(), bench.take()] == ["a", "b", None]


def test_keys_that_are_arranged_come_first_and_in_that_order(bench: Bench) -> None:
    for key in ("team/late", "team/other", "team/early"):
        bench.queue.add(key)
    bench.queue.arrange(["team/early", "team/new", "team/late"])
    assert [bench.take() for _ in range(5)] == ["team/early", "team/new", "team/late", "team/other", None]


def test_arranging_leaves_what_is_being_processed_to_its_worker(bench: Bench) -> None:
    bench.queue.add("team/busy")
    assert bench.take() == "team/busy"
    bench.queue.arrange(["team/busy", "team/next"])
    assert [bench.take(), bench.take()] == ["team/next", None]
    bench.queue.done("team/busy")
    assert bench.take() == "team/busy"


def test_a_key_is_worked_on_by_one_worker_at_a_time(bench: Bench) -> None:
    bench.queue.add("a")
    assert bench.take() == "a"
    bench.queue.add("a")
    bench.queue.add("a")
    assert bench.take() is None
    bench.queue.done("a")
    assert bench.take() == "a"
    bench.queue.done("a")
    assert bench.take() is None


def test_who_waits_gets_the_next_key(bench: Bench) -> None:
    first, second = bench.get(), bench.get()
    bench.queue.add("a")
    bench.loop.settle()
    bench.queue.add("b")
    bench.loop.settle()
    assert {first.result(), second.result()} == {"a", "b"}


def test_a_key_added_by_done_wakes_who_waits(bench: Bench) -> None:
    bench.queue.add("a")
    bench.take()
    bench.queue.add("a")
    waiting = bench.get()
    assert not waiting.done()
    bench.queue.done("a")
    bench.loop.settle()
    assert waiting.result() == "a"


def test_a_delay_is_waited_for(bench: Bench) -> None:
    bench.do((bench.queue.add_after, "a", 5))
    bench.wait(4.9)
    assert bench.take() is None
    bench.wait(0.1)
    assert bench.take() == "a"


def test_no_delay_is_none(bench: Bench) -> None:
    bench.do((bench.queue.add_after, "a", 0), (bench.queue.add, "a"))
    assert bench.take() == "a"
    bench.queue.done("a")
    bench.loop.settle()
    assert bench.take() is None


def test_the_earliest_of_several_delays_counts_and_only_that(bench: Bench) -> None:
    bench.do((bench.queue.add_after, "a", 5), (bench.queue.add_after, "a", 2), (bench.queue.add_after, "a", 9))
    bench.wait(2)
    assert bench.take() == "a"
    bench.queue.done("a")
    bench.wait(20)
    assert bench.take() is None


def test_after_a_delay_has_passed_a_later_one_counts_again(bench: Bench) -> None:
    bench.do((bench.queue.add_after, "a", 1))
    bench.wait(1)
    bench.take()
    bench.queue.done("a")
    bench.do((bench.queue.add_after, "a", 3))
    bench.wait(3)
    assert bench.take() == "a"


def test_delays_of_many_keys(bench: Bench) -> None:
    bench.do(*((bench.queue.add_after, key, delay) for key, delay in (("c", 3), ("a", 1), ("b", 2), ("now", -1))))
    bench.loop.settle()
    assert bench.take() == "now"
    bench.wait(2)
    assert [bench.take(), bench.take(), bench.take()] == ["a", "b", None]
    bench.wait(1)
    assert bench.take() == "c"


def test_a_crowd_that_has_gone_takes_no_room(bench: Bench) -> None:
    keys = [f"team-a/{number}" for number in range(5_000)]
    bench.do(*((bench.queue.add_after, key, 1) for key in keys))
    bench.wait(1)

    async def work() -> None:
        for _ in keys:
            bench.queue.done(await bench.queue.get() or "")

    bench.loop.run_until_complete(work())
    assert sys.getsizeof(bench.queue._dirty) + sys.getsizeof(bench.queue._due) < 1_000
    bench.do((bench.queue.add_after, "a", 1))
    bench.wait(1)
    assert bench.take() == "a"


def test_times_that_earlier_ones_replaced_take_no_room(bench: Bench) -> None:
    """Their own time may be days away, and each change of a child replaces one."""
    week = 7 * 86_400
    for _ in range(2_000):
        bench.do((bench.queue.add_after, "a", week), (bench.queue.add_after, "a", 0.1))
        bench.wait(0.1)
        assert bench.take() == "a"
        bench.queue.done("a")
    assert len(bench.queue._heap) < 100


def test_times_that_are_still_to_come_stand_while_others_are_replaced(bench: Bench) -> None:
    keys = [f"team-a/{number:04d}" for number in range(200)]
    bench.do(*((bench.queue.add_after, key, 1_000 + number) for number, key in enumerate(keys)))
    for earlier in range(1, 6):
        bench.do(*((bench.queue.add_after, key, 1_000 + n - earlier / 10) for n, key in enumerate(keys) if n % 2))
    assert len(bench.queue._heap) < 500
    came = []
    for _ in range(2 * 1_200):
        bench.wait(0.5)
        if (key := bench.take()) is not None:
            came.append((bench.loop.elapsed, key))
            bench.queue.done(key)
    assert came == [(1_000 + n - 0.5 * (n % 2), key) for n, key in enumerate(keys)]


def test_retries_wait_longer_with_each_failure_up_to_a_minute(bench: Bench) -> None:
    waits = []
    for _ in range(30):
        waits += bench.do((bench.queue.retry, "a"))
        bench.wait(waits[-1])
    assert all(0.75 * 0.05 * 2**n <= wait <= 0.05 * 2**n for n, wait in enumerate(waits[:10]))
    assert all(45 <= wait <= 60 for wait in waits[12:])


def test_success_forgets_failures_and_keys_fail_apart(bench: Bench) -> None:
    for _ in range(8):
        bench.wait(*bench.do((bench.queue.retry, "a")))
    assert bench.do((bench.queue.retry, "b"))[0] < 0.07
    bench.queue.succeeded("a")
    assert bench.do((bench.queue.retry, "a"))[0] < 0.07


def test_a_retry_that_was_asked_for_comes(bench: Bench) -> None:
    (wait,) = bench.do((bench.queue.retry, "a"))
    bench.wait(wait)
    assert bench.take() == "a"


def test_failures_before_the_wait_is_over_count_as_one(bench: Bench) -> None:
    (wait,) = bench.do((bench.queue.retry, "a"))
    bench.wait(wait / 2)
    assert bench.do((bench.queue.retry, "a")) == [pytest.approx(wait / 2)]


def test_a_failure_at_an_earlier_time_does_not_lose_the_retry(bench: Bench) -> None:
    bench.do((bench.queue.add_after, "a", 0.01))
    (wait,) = bench.do((bench.queue.retry, "a"))  # later than the time that the key has already
    bench.wait(0.01)
    assert bench.take() == "a"
    bench.do((bench.queue.retry, "a"))
    bench.queue.done("a")
    bench.wait(wait)
    assert bench.take() == "a"


def test_a_closed_queue_lets_everyone_go(bench: Bench) -> None:
    waiting = [bench.get() for _ in range(3)]
    bench.queue.close()
    bench.loop.settle()
    assert [task.result() for task in waiting] == [None] * 3
    bench.queue.add("a")
    assert bench.take() is None


def test_a_wait_too_short_to_see_lets_time_pass() -> None:
    """Who comes back that much too early, and says so, is not asked again before time has passed."""
    loop = VirtualLoop()
    queue = WorkQueue()
    loop.elapsed = 12.999999999999998
    loop.call_soon(queue.add_after, "a", 13 - loop.elapsed)
    loop.settle()
    loop.settle()  # asyncio itself fires timers some nanoseconds early
    assert len(queue) == 0
    loop.elapsed = loop.next_timer() or 0.0
    loop.settle()
    assert len(queue) == 1
    loop.close()
