"""The size of an object from a real S3 server, and what is said when there is no answer."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from longtask_operator.adapters.object_sizes import CONNECTIONS, S3Sizes, SizeUnknown
from tests.support.ports import free_port
from tests.support.s3 import S3Server

pytestmark = pytest.mark.integration
#: Seconds after which stores are given up here: more than a busy machine needs for an answer.
GIVEN_UP = 4.0


@pytest.fixture(autouse=True)
def environment(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


async def trouble(uri: str, sizes: S3Sizes | None = None) -> tuple[str, bool]:
    with pytest.raises(SizeUnknown) as caught:
        await (sizes or S3Sizes()).size_of(uri)
    return str(caught.value), caught.value.of_store


async def test_objects_have_the_size_that_was_stored(s3: S3Server) -> None:
    sizes = S3Sizes()
    uris = [s3.put(f"sizes/{size} ü+%2F", b"x" * size) for size in (0, 1, 1_000_000)]
    assert [await sizes.size_of(uri) for uri in uris] == [0, 1, 1_000_000]
    assert await asyncio.gather(*(sizes.size_of(uris[2]) for _ in range(50))) == [1_000_000] * 50


async def test_what_is_not_there_is_told_of_the_object_alone(s3: S3Server) -> None:
    assert await trouble(s3.uri("none")) == ("there is no such object", False)
    assert await trouble("s3://no-such-bucket/a") == ("there is no such object", False)
    assert await trouble("s3://a?b/a") == ("its name is none that S3 knows", False)
    assert await trouble(f"s3://{s3.bucket}/") == ("its name is none that S3 knows", False)


async def test_wrong_credentials_may_not_read(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = s3.put("secret", b"x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert await trouble(uri) == ("the operator may not read it", False)


async def test_no_credentials_are_a_trouble_of_the_store(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    assert await trouble(s3.uri("a")) == ("the operator cannot ask the store (NoCredentialsError)", True)


async def test_nobody_listening_is_a_trouble_of_the_store(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    assert await trouble(s3.uri("a")) == ("the operator cannot ask the store (EndpointConnectionError)", True)


@contextmanager
def silent_server() -> Iterator[str]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(50)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


async def test_a_silent_store_is_given_up_in_time_and_holds_nothing_up(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with silent_server() as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        sizes, ticks, longest = S3Sizes(seconds=GIVEN_UP), 0, 0.0
        sizes._load()
        asked = asyncio.gather(*(trouble(s3.uri(str(n)), sizes) for n in range(20)))
        began = last = time.monotonic()
        while not asked.done():
            await asyncio.sleep(0.01)
            now = time.monotonic()
            ticks, longest, last = ticks + 1, max(longest, now - last), now
        assert time.monotonic() - began < 5 * GIVEN_UP
        assert {of_store for _, of_store in asked.result()} == {True}
        assert ticks > 20
        assert longest < GIVEN_UP  # the loop went on meanwhile


class TricklingStore:
    """A store that sends its answers byte by byte, each in time, until it is *well*; those it began never end."""

    def __init__(self) -> None:
        self.well, self.asked = False, 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 7")
            while not self.well or self.asked <= CONNECTIONS:
                await asyncio.sleep(0.05)
                writer.write(b"7")
                await writer.drain()
            writer.write(b"\r\nConnection: close\r\n\r\n")
            await writer.drain()
        writer.close()


async def test_a_store_that_answers_byte_by_byte_is_given_up_and_asked_again(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those it holds up are let go of, so that it is asked again as soon as it is well."""
    store = TricklingStore()
    async with await asyncio.start_server(store.answer, "127.0.0.1") as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        sizes = S3Sizes(seconds=GIVEN_UP)
        sizes._load()
        asked = await asyncio.gather(*(trouble(s3.uri(str(n)), sizes) for n in range(CONNECTIONS)))
        assert {of_store for _, of_store in asked} == {True}
        store.well = True
        assert await sizes.size_of(s3.uri("a")) == 7
