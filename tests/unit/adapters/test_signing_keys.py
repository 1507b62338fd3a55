"""The pace of asking; that the keys themselves are right is seen on a real API server in tests/integration."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from longtask_operator.adapters.errors import ApiError, Forbidden, Unavailable
from longtask_operator.adapters.kube import Kube
from longtask_operator.adapters.signing_keys import KeysUnavailable, SigningKeys

# Any public point of P-256 will do: its base point.
KEY = {
    "kty": "EC",
    "crv": "P-256",
    "alg": "ES256",
    "use": "sig",
    "x": "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY",
    "y": "T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU",
}


class Server:
    """Answers what the test says, and counts."""

    def __init__(self) -> None:
        self.asked = 0
        self.now = 1000.0
        self.answer: Callable[[], dict[str, Any]] = lambda: {"keys": [KEY | {"kid": "one"}]}

    async def get(self, path: str) -> dict[str, Any]:
        assert path == "/openid/v1/jwks"
        self.asked += 1
        await asyncio.sleep(0)
        return self.answer()

    def fail(self, error: ApiError) -> None:
        def answer() -> dict[str, Any]:
            raise error

        self.answer = answer


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def keys(server: Server) -> SigningKeys:
    return SigningKeys(cast(Kube, server), clock=lambda: server.now)


async def test_known_keys_are_asked_for_once(server: Server, keys: SigningKeys) -> None:
    assert [(await keys.find("one")) is not None for _ in range(5)] == [True] * 5
    assert server.asked == 1


async def test_who_comes_while_the_keys_are_being_read_waits_for_them(server: Server, keys: SigningKeys) -> None:
    found = await asyncio.gather(*(keys.find("one") for _ in range(5)))
    assert [key is not None for key in found] == [True] * 5
    assert server.asked == 1


async def test_invented_keys_cost_one_request_in_ten_seconds(server: Server, keys: SigningKeys) -> None:
    await keys.find("one")
    for second in range(40):
        server.now = 1000.0 + second
        assert await keys.find(f"invented-{second}") is None
    assert server.asked == 4


async def test_a_new_key_is_found_and_a_withdrawn_one_stops_counting(server: Server, keys: SigningKeys) -> None:
    await keys.find("one")
    server.answer = lambda: {"keys": [KEY | {"kid": "two"}]}
    server.now += 11
    assert await keys.find("two") is not None
    assert await keys.find("one") is None
    server.answer = lambda: {"keys": []}
    server.now += 3601
    assert await keys.find("two") is None


async def test_without_an_answer_nothing_can_be_told_and_known_keys_go_on(server: Server, keys: SigningKeys) -> None:
    good = server.answer
    server.fail(Unavailable(0, "ConnectionLost", "away"))
    with pytest.raises(KeysUnavailable):
        await keys.find("one")
    server.answer = good
    server.now += 2
    assert await keys.find("one") is not None
    server.fail(Unavailable(0, "ConnectionLost", "away"))
    server.now += 4000
    assert await keys.find("one") is not None


async def test_keys_that_are_not_shown_are_no_fault_and_may_be_shown_later(server: Server, keys: SigningKeys) -> None:
    good = server.answer
    server.fail(Forbidden(403, "Forbidden", "no"))
    assert await keys.find("one") is None
    assert keys.are_refused
    server.answer = good
    server.now += 11
    assert await keys.find("one") is not None
    assert not keys.are_refused


async def test_a_key_of_an_unknown_kind_does_not_hide_the_others(server: Server, keys: SigningKeys) -> None:
    server.answer = lambda: {"keys": [{"kty": "XYZ", "kid": "odd"}, KEY | {"kid": "one"}, KEY]}
    assert await keys.find("one") is not None
    assert await keys.find("odd") is None
