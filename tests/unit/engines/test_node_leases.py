from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, cast

import pytest

from longtask_operator.adapters.errors import NoPermission, NotFound, Unavailable
from longtask_operator.adapters.kube import Kube
from longtask_operator.api.times import format_time
from longtask_operator.engines.node_leases import NodeLeases
from tests.builders import at


class Nodes:
    """Stands for the client: kubelets that renew every 10 s, while they live."""

    def __init__(self) -> None:
        self.second, self.reads, self.dead_since = 0.0, 0, float("inf")
        self.fault: Exception | None = None
        self.leases = NodeLeases(cast(Kube, self), self.now)

    def now(self) -> datetime:
        return at(self.second)

    async def get(self, path: str) -> dict[str, Any]:
        assert path == "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-1"
        self.reads += 1
        await asyncio.sleep(0)
        if self.fault:
            raise self.fault
        renewed = at(min(self.second, self.dead_since) // 10 * 10)
        return {"spec": {"renewTime": format_time(renewed)}}

    async def asked(self, since: float, *, first: int, last: int) -> list[float]:
        """Return when the answer was that the node lived through it, asked again as often as may be."""
        found = []
        for second in range(first, last, 2):
            self.second = second
            if await self.leases.lived_through("node-1", at(since)):
                found.append(self.second)
        return found


async def test_a_node_that_lives_says_so_with_its_next_renewal() -> None:
    assert await Nodes().asked(15, first=15, last=40) == [21, 23, 25, 27, 29, 31, 33, 35, 37, 39]


async def test_one_that_died_never_does() -> None:
    nodes = Nodes()
    nodes.dead_since = 12
    assert await nodes.asked(15, first=15, last=90) == []


async def test_one_that_comes_back_is_seen_to_have_been_away() -> None:
    nodes = Nodes()
    nodes.dead_since = 12
    await nodes.asked(15, first=15, last=45)
    nodes.dead_since = float("inf")
    assert await nodes.asked(15, first=45, last=60) == []
    assert nodes.leases.back_at("node-1") == at(45)
    assert nodes.leases.back_at("node-2") is None


async def test_all_tasks_of_a_node_share_an_answer() -> None:
    nodes = Nodes()
    await asyncio.gather(*(nodes.leases.lived_through("node-1", at(0)) for _ in range(100)))
    assert nodes.reads == 1


@pytest.mark.parametrize("fault", [NotFound(404, "NotFound", ""), NoPermission(403, "Forbidden", "")])
async def test_where_no_lease_can_be_seen_silence_counts_as_ever(fault: Exception) -> None:
    nodes = Nodes()
    nodes.fault = fault
    assert await nodes.leases.lived_through("node-1", at(0))


async def test_no_answer_is_none() -> None:
    nodes = Nodes()
    nodes.fault = Unavailable(0, "ConnectionLost", "")
    with pytest.raises(Unavailable):
        await nodes.leases.lived_through("node-1", at(0))
