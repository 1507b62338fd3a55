"""What fails beside the work of a test ends the test, with its own error."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.faults.beside import LoopThread, beside


class BrokenError(Exception):
    """What happened."""


async def fails() -> None:
    raise BrokenError


async def for_ever() -> None:
    await asyncio.Event().wait()


async def test_what_fails_beside_a_block_ends_it_at_once() -> None:
    with pytest.raises(BrokenError):
        async with asyncio.timeout(10), beside(for_ever(), fails()):
            await for_ever()


async def test_the_blocks_own_error_is_raised_as_it_is() -> None:
    with pytest.raises(BrokenError):
        async with beside(for_ever()):
            raise BrokenError


async def test_a_block_that_ends_ends_what_goes_on_beside_it() -> None:
    running = asyncio.Event()

    async def work() -> None:
        running.set()
        await for_ever()

    async with asyncio.timeout(10), beside(work()):
        await running.wait()


@contextlib.asynccontextmanager
async def ground(breaks: asyncio.Event | None = None) -> AsyncIterator[int]:
    async def break_down() -> None:
        await (breaks or asyncio.Event()).wait()
        raise BrokenError

    async with beside(break_down()):
        yield 1


def test_a_thread_runs_work_in_its_loop() -> None:
    with LoopThread(ground) as thread:
        assert thread.value == 1
        assert thread.run(asyncio.sleep(0, "done")) == "done"
        with pytest.raises(BrokenError):
            thread.run(fails())
        assert thread.run(asyncio.sleep(0, "still there")) == "still there"


def test_what_ends_the_ground_ends_the_work_on_it() -> None:
    breaks = asyncio.Event()

    async def work() -> None:
        breaks.set()
        await for_ever()

    thread = LoopThread(lambda: ground(breaks=breaks)).__enter__()
    for _ in range(2):
        with pytest.raises(BrokenError):
            thread.run(work())
    with pytest.raises(BrokenError):
        thread.__exit__(None)


def test_a_ground_that_cannot_be_had_says_why() -> None:
    @contextlib.asynccontextmanager
    async def none() -> AsyncIterator[int]:
        raise BrokenError
        yield 1

    with pytest.raises(BrokenError), LoopThread(none):
        pass
