"""Peers that dawdle, flood or break off: their number, their time and what they may cost."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from longtask_operator.engines import report_listener
from longtask_operator.engines.report_listener import LIFE_SECONDS, MAX_CONNECTIONS, Listener
from tests.integration.reports_support import World, a_world

pytestmark = pytest.mark.integration

#: How much later than it should a busy machine may do anything.
BUSY_SECONDS = 30

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def world(control_plane: Any) -> AsyncIterator[World]:
    """A report server; it must not leave a fault to the event loop, where nobody but the log hears of it."""
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
    async with a_world(control_plane.kubeconfig) as world:
        yield world
    gc.collect()  # a task that failed tells so when it goes
    assert faults == []


@pytest.fixture
def long_lives(monkeypatch: pytest.MonkeyPatch) -> float:
    """Let connections live so many seconds that a busy machine cuts none off before its time."""
    monkeypatch.setattr(report_listener, "LIFE_SECONDS", 60.0)
    return report_listener.LIFE_SECONDS


async def connect(world: World, *, tls: bool = True, source: str = "127.0.0.1") -> Streams:
    trust = world.trust if tls else None
    return await asyncio.open_connection("127.0.0.1", world.port, ssl=trust, local_addr=(source, 0))


async def raw(world: World, request: bytes) -> bytes:
    """Return all that the server answers to *request* until it closes the connection."""
    reader, writer = await connect(world)
    writer.write(request)
    answer = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        async with asyncio.timeout(LIFE_SECONDS + BUSY_SECONDS):
            answer = await reader.read()
    writer.close()
    return answer


async def quiet(world: World) -> None:
    """Wait until no connection is open."""
    async with asyncio.timeout(LIFE_SECONDS + BUSY_SECONDS):
        while world.server.listener.connections:  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.05)


async def test_a_silent_peer_is_sent_away_whatever_it_has_said(world: World) -> None:
    async def wait(sent: bytes | None) -> bytes:
        reader, writer = await connect(world, tls=sent is not None)
        writer.write(sent or b"")
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            return await reader.read()
        return b""

    started = time.monotonic()
    peers = [None, b"", b"POST /v1/namesp", b"POST / HTTP/1.1\r\nHost: x\r\nX-A: "]
    async with asyncio.timeout(LIFE_SECONDS + BUSY_SECONDS):
        assert await asyncio.gather(*(wait(sent) for sent in peers)) == [b""] * len(peers)
    assert time.monotonic() - started > LIFE_SECONDS - 1
    await quiet(world)


async def test_a_slow_body_is_not_waited_for(world: World) -> None:
    token = await world.token(await world.a_pod())
    head = f"POST {world.url().partition(str(world.port))[2]} HTTP/1.1\r\nHost: localhost\r\n"
    head += f"Authorization: Bearer {token}\r\nContent-Length: 100\r\n\r\n"
    assert b" 408 " in await raw(world, head.encode() + b'{"seq')
    await quiet(world)


async def test_one_connection_carries_one_request(world: World) -> None:
    answer = await raw(world, b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n" * 3)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b" 404 " in answer
    await quiet(world)


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(b"\x00\x01\x02\r\n\r\n", id="binary"),
        pytest.param(b"POST / HTTP/9.9\r\n\r\n", id="version"),
        pytest.param(b"GET " + b"/a" * 5000 + b" HTTP/1.1\r\n\r\n", id="long-line"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 10_000 + b"\r\n", id="ten-thousand-fields"),
        pytest.param(b"GET / HTTP/1.1\r\nA: " + b"b" * 100_000 + b"\r\n\r\n", id="long-field"),
        pytest.param(b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", id="length"),
        pytest.param(b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", id="two-lengths"),
    ],
)
async def test_broken_http_is_refused_without_a_word_in_the_log(
    world: World, request_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await raw(world, request_)
    assert b" 400 " in answer or answer == b""
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []
    await quiet(world)
    assert (await world.post(await world.token(await world.a_pod()))).status == 200


async def test_a_length_beyond_the_limit_is_refused_before_anything_is_read(world: World) -> None:
    path = world.url().partition(str(world.port))[2]
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {10**9}\r\n\r\n"
    assert b" 413 " in await raw(world, head.encode())


async def test_a_pod_that_takes_all_places_keeps_nobody_out(world: World, long_lives: float) -> None:
    token = await world.token(await world.a_pod())
    idle = [await connect(world, tls=index % 2 == 0, source="127.0.0.9") for index in range(2 * MAX_CONNECTIONS)]
    try:
        assert world.server.listener.connections <= MAX_CONNECTIONS
        started = time.monotonic()
        assert (await world.post(token)).status == 200
        assert time.monotonic() - started < long_lives
        assert world.server.listener.connections <= MAX_CONNECTIONS
    finally:
        for _, writer in idle:
            writer.close()
    await quiet(world)


@pytest.mark.usefixtures("long_lives")
async def test_a_burst_of_reports_is_taken_whole(world: World) -> None:
    pods = [await world.a_pod() for _ in range(40)]
    senders = {await world.token(pod): f"127.0.1.{number}" for number, pod in enumerate(pods, 1)}
    for token in senders:
        assert (await world.post(token, data=b'{"sequence": 0}')).status == 200
    bodies = [b'{"sequence": %d, "done": %d}' % (n, n) for n in range(1, 6)]
    answers = await asyncio.gather(
        *(world.post(token, data=body, source=source) for token, source in senders.items() for body in bodies)
    )
    assert len(answers) > MAX_CONNECTIONS
    assert [answer.body for answer in answers if answer.status != 200] == []
    known = [world.book.latest(pod.uid) for pod in pods]
    assert [latest[0].done for latest in known if latest] == [5] * len(pods)
    await quiet(world)


async def test_a_connection_at_the_moment_of_the_end_is_no_fault() -> None:
    """One that comes between the cancellation and what it does: `loop.sock_accept` complains of that."""
    loop, said = asyncio.get_running_loop(), list[str]()

    async def refuse(request: web.BaseRequest) -> web.Response:
        raise AssertionError(request)

    listener = Listener(refuse, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), port=0)
    task = asyncio.create_task(listener.run())
    await listener.ready.wait()
    await asyncio.sleep(0)

    def connect_and_end() -> None:
        peer.connect(("127.0.0.1", listener.port))
        loop.call_soon(task.cancel)

    loop.set_exception_handler(lambda _, context: said.append(context["message"]))
    with socket.socket() as peer:
        loop.call_soon(connect_and_end)
        await asyncio.wait([task])
        await asyncio.sleep(0.05)
    assert said == []
