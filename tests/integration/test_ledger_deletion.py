"""A ledger is deleted as it was read or not at all, and made anew: on the real API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from longtask_operator.adapters.errors import Conflict, NotFound
from longtask_operator.adapters.kube import Kube, load_credentials, resource_path
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.ledger_layout import ledger_name
from longtask_operator.engines.ledgers import Ledgers
from tests.builders import SMALLEST

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
NAMESPACE = "default"
ENTRY = LedgerEntry(uid="00000000-0000-4000-8000-000000000001", attempt=1, generation=1, size=SMALLEST)
Story = Callable[[Ledgers, Ledgers, str], Coroutine[Any, Any, None]]


@asynccontextmanager
async def two(kubeconfig: str, name: str) -> AsyncIterator[tuple[Ledgers, Ledgers]]:
    """Yield what two leaders know of the ledgers, once *name* was written and is empty; delete it afterwards."""
    async with Kube(load_credentials({"KUBECONFIG": kubeconfig})) as kube:
        first, second = Ledgers(kube, NAMESPACE), Ledgers(kube, NAMESPACE)
        await first.write(name, {"gone": {ENTRY.uid: ENTRY}})
        await first.write(name, {})
        await second.load()
        try:
            yield first, second
        finally:
            body = await kube.get(path := resource_path("v1", "configmaps", NAMESPACE, name))
            await kube.delete(path, uid=body["metadata"]["uid"])


def play(control_plane: Any, story: Story) -> None:
    async def run() -> None:
        name = ledger_name("gone")
        async with two(str(control_plane.kubeconfig), name) as leaders:
            await story(*leaders, name)

    asyncio.run(run())


def test_who_knows_one_that_is_gone_is_told_so_and_makes_it_anew(control_plane: Any) -> None:
    async def story(first: Ledgers, second: Ledgers, name: str) -> None:
        await first.delete(name)
        assert first.names() == []
        with pytest.raises(NotFound):
            await second.write(name, {"gone": {ENTRY.uid: ENTRY}})
        assert await second.reload(name)
        await second.write(name, {"gone": {ENTRY.uid: ENTRY}})
        await first.load()
        assert first.entry(ENTRY.uid) == ENTRY

    play(control_plane, story)


def test_one_that_another_has_written_is_not_deleted(control_plane: Any) -> None:
    async def story(first: Ledgers, second: Ledgers, name: str) -> None:
        await second.write(name, {"gone": {ENTRY.uid: ENTRY}})
        with pytest.raises(Conflict):
            await first.delete(name)
        assert await first.reload(name)
        assert first.entry(ENTRY.uid) == ENTRY

    play(control_plane, story)


def test_one_that_was_made_anew_is_not_deleted(control_plane: Any) -> None:
    async def story(first: Ledgers, second: Ledgers, name: str) -> None:
        await second.delete(name)
        await second.write(name, {"gone": {ENTRY.uid: ENTRY}})
        with pytest.raises(Conflict):
            await first.delete(name)

    play(control_plane, story)


def test_one_that_is_gone_already_is_forgotten(control_plane: Any) -> None:
    async def story(first: Ledgers, second: Ledgers, name: str) -> None:
        await second.delete(name)
        await first.delete(name)
        assert first.names() == []
        await first.write(name, {"gone": {ENTRY.uid: ENTRY}})

    play(control_plane, story)
