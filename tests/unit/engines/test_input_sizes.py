"""How large inputs are as the operator knows it: asked once, and remembered for a while."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

from longtask_operator.adapters.object_sizes import SizeUnknown
from longtask_operator.engines.input_sizes import FRESH, MAX_ASKED, PAUSE, USABLE, InputSizes
from tests.builders import a_longtask, at

PLACES = ("s3://data/{tenant}/", "s3://shared/")
SECOND = timedelta(seconds=1)


class FakeStore:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._answers: dict[str, asyncio.Future[int]] = {}

    async def size_of(self, uri: str) -> int:
        self.asked.append(uri)
        self._answers[uri] = asyncio.get_running_loop().create_future()
        return await self._answers[uri]

    async def answers(self, uri: str, size: int | Exception) -> None:
        await asyncio.sleep(0)
        if isinstance(size, int):
            self._answers[uri].set_result(size)
        else:
            self._answers[uri].set_exception(size)
        for _ in range(3):
            await asyncio.sleep(0)


class Setup:
    def __init__(self) -> None:
        self.store, self.woken, self.now = FakeStore(), list[str](), at(0)
        self.sizes = InputSizes(self.store, PLACES, lambda: self.now, self.woken.append)

    def of(self, *uris: str, name: str = "t", tenant: str = "team-a") -> tuple[list[int | str], datetime | None]:
        inputs: list[dict[str, Any]] = [{"name": f"i{n}", "uri": uri} for n, uri in enumerate(uris)]
        task = a_longtask({"inputs": inputs}, name=name, uid=f"uid-{name}")
        sizes, asked = self.sizes.of(task, tenant)
        return [one.why if one.size is None else one.size for one in sizes], asked


WAITS = ["the store has not answered yet"]


async def test_a_size_is_asked_once_for_all_tasks_and_wakes_them() -> None:
    setup = Setup()
    assert setup.of("s3://shared/a") == (WAITS, at(0))
    setup.now += SECOND
    assert setup.of("s3://shared/a") == (WAITS, at(0))
    assert setup.of("s3://shared/a", name="u") == (WAITS, at(1))
    await setup.store.answers("s3://shared/a", 7)
    assert sorted(setup.woken) == ["team-a/t", "team-a/u"]
    assert setup.of("s3://shared/a") == ([7], None)
    assert setup.store.asked == ["s3://shared/a"]


async def test_an_answer_that_is_too_old_to_count_is_awaited_like_the_first_one() -> None:
    """Else a task that waits in the queue for hours would begin with the smallest size."""
    setup = Setup()
    setup.of("s3://shared/a")
    await setup.store.answers("s3://shared/a", 7)
    assert setup.of("s3://shared/a") == ([7], None)
    setup.now += USABLE
    assert setup.of("s3://shared/a") == (WAITS, at(0) + USABLE)


async def test_an_old_answer_is_renewed_and_stands_until_then() -> None:
    setup = Setup()
    setup.of("s3://shared/a")
    await setup.store.answers("s3://shared/a", 7)
    setup.now += FRESH
    assert setup.of("s3://shared/a") == ([7], None)
    await setup.store.answers("s3://shared/a", 7)
    assert len(setup.woken) == 1
    setup.now += FRESH
    setup.of("s3://shared/a")
    await setup.store.answers("s3://shared/a", 8)
    assert len(setup.woken) == 2
    assert setup.of("s3://shared/a") == ([8], None)
    setup.now += USABLE
    assert setup.of("s3://shared/a")[0] == WAITS


async def test_an_object_that_cannot_be_read_says_why_and_is_asked_again_later() -> None:
    setup = Setup()
    setup.of("s3://shared/a")
    await setup.store.answers("s3://shared/a", SizeUnknown("there is no such object"))
    assert setup.of("s3://shared/a") == (["there is no such object"], None)
    assert setup.of("s3://shared/b")[0] == WAITS
    setup.now += FRESH
    setup.of("s3://shared/a")
    await setup.store.answers("s3://shared/a", 7)
    assert setup.of("s3://shared/a") == ([7], None)


async def test_a_store_that_is_away_is_left_alone_and_keeps_nobody_waiting() -> None:
    setup = Setup()
    setup.of("s3://shared/a")
    await setup.store.answers("s3://shared/a", 7)
    setup.now += FRESH
    setup.of("s3://shared/a", "s3://shared/b")
    await setup.store.answers("s3://shared/b", SizeUnknown("away", of_store=True))
    await setup.store.answers("s3://shared/a", SizeUnknown("away", of_store=True))
    assert setup.of("s3://shared/a", "s3://shared/b", "s3://shared/c") == ([7, "away", "away"], None)
    assert len(setup.store.asked) == 3
    setup.now += PAUSE
    assert setup.of("s3://shared/c")[0] == WAITS


async def test_an_unexpected_fault_is_an_unknown_size() -> None:
    setup = Setup()
    setup.of("s3://shared/a")
    await setup.store.answers("s3://shared/a", RuntimeError("a bug"))
    assert setup.of("s3://shared/a") == (["the operator failed to ask"], None)


async def test_what_one_tenant_may_ask_another_may_not_though_it_is_known() -> None:
    setup = Setup()
    setup.of("s3://data/team-a/x")
    await setup.store.answers("s3://data/team-a/x", 7)
    assert setup.of("s3://data/team-a/x") == ([7], None)
    (why,), asked = setup.of("s3://data/team-a/x", tenant="team-b")
    assert "names no place" in str(why)
    assert asked is None


async def test_too_many_questions_at_once_are_not_asked() -> None:
    setup = Setup()
    for number in range(MAX_ASKED):
        setup.of(f"s3://shared/{number}")
    assert setup.of("s3://shared/one-more") == (["too many sizes are being asked for"], None)
    await asyncio.sleep(0)
    assert len(setup.store.asked) == MAX_ASKED


async def test_the_size_in_the_spec_needs_no_question() -> None:
    setup = Setup()
    task = a_longtask({"inputs": [{"name": "a", "uri": "s3://shared/a", "sizeBytes": 3}]})
    sizes, asked = setup.sizes.of(task, "team-a")
    assert ([one.size for one in sizes], asked) == ([3], None)
    assert setup.store.asked == []
