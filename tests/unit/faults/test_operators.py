from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.beside import beside
from tests.faults.operators import ForkServer, Replica

#: Says of each order that process 7 runs, and at the next that it has ended: numbers of processes are used again.
ONE_NUMBER = """
import sys
for count, line in enumerate(sys.stdin):
    if count:
        print('{"pid": 7, "code": %d}' % count)
    print('{"pid": 7}', flush=True)
"""
#: Answers two orders at once, each by a process whose number it writes into the log.
ANSWERS_IN_PAIRS = """
import json, subprocess, sys
lines = iter(sys.stdin)
for pair in zip(lines, lines):
    for line in pair:
        pid = subprocess.Popen(["sleep", "60"]).pid
        open(json.loads(line)["log"], "w").write(str(pid))
        print('{"pid": %d}' % pid, flush=True)
"""
ENDS_AT_ONCE = "input()\nprint('{\"pid\": 7}', flush=True)"


@contextlib.asynccontextmanager
async def serving(program: str) -> AsyncIterator[ForkServer]:
    pipe = asyncio.subprocess.PIPE
    server = ForkServer(await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdin=pipe, stdout=pipe))
    try:
        async with beside(server.listen()):
            yield server
    finally:
        await server.close()


def replica(server: ForkServer, folder: Path, name: str) -> Replica:
    return Replica(server, folder / "kubeconfig-1", folder / name, name)


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


async def test_a_number_that_was_used_before_is_another_process(tmp_path: Path) -> None:
    async with serving(ONE_NUMBER) as server, asyncio.timeout(20):
        first, second = replica(server, tmp_path, "first"), replica(server, tmp_path, "second")
        await first.start()
        assert first.runs
        await second.start()
        assert await first.ended() == 1
        assert (first.runs, second.runs) == (False, True)
        await first.start()
        assert await second.ended() == 2
        assert (first.runs, second.runs) == (True, False)


async def test_an_operator_that_nobody_waits_for_any_more_is_ended_and_is_nobody_elses(tmp_path: Path) -> None:
    async with serving(ANSWERS_IN_PAIRS) as server, asyncio.timeout(20):
        ordered = asyncio.create_task(server.fork({}, tmp_path / "first", ""))
        await asyncio.sleep(0)
        ordered.cancel()
        await asyncio.gather(ordered, return_exceptions=True)
        second = await server.fork({}, tmp_path / "second", "")
        try:
            assert second.pid == int((tmp_path / "second").read_text())
            first = int((tmp_path / "first").read_text())
            while is_alive(first):  # noqa: ASYNC110 - the kernel ends it
                await asyncio.sleep(0.01)
        finally:
            os.kill(second.pid, signal.SIGKILL)


async def test_who_waits_for_the_end_of_an_operator_hears_that_the_fork_server_is_gone(tmp_path: Path) -> None:
    waiting: list[asyncio.Task[int]] = []

    async def play() -> None:
        async with serving(ENDS_AT_ONCE) as server:
            one = replica(server, tmp_path, "one")
            await one.start()
            waiting.append(asyncio.create_task(one.ended()))
            await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="fork server ended"):
        await asyncio.wait_for(play(), 20)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(waiting[0], 20)
