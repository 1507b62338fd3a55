"""TenantQuotas through Kopf on a real API server: what was deleted when nobody watched is known to be gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from longtask_operator.adapters.informer import Informer
from longtask_operator.adapters.kube import Kube, load_credentials, resource_path
from longtask_operator.adapters.quotas import QuotaView, observe_quota
from longtask_operator.adapters.store import Store
from longtask_operator.api.names import API_VERSION, TENANTQUOTA_PLURAL
from longtask_operator.handlers.kopf_thread import KopfThread
from tests.support import crds

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
PATH = resource_path(API_VERSION, TENANTQUOTA_PLURAL)
NAMES = ("watch-goes", "watch-stays")


@dataclass(slots=True)
class Known:
    """What an operator knows of TenantQuotas, from its list and from Kopf."""

    kube: Kube
    store: Store[QuotaView]
    informer: Informer[QuotaView]
    kopf: KopfThread

    def names(self) -> set[str]:
        return {view.name for view in self.store if view.name in NAMES}

    async def until(self, holds: Callable[[], bool], seconds: float = 90) -> None:
        async with asyncio.timeout(seconds):
            while not holds():  # noqa: ASYNC110 - the API server and a thread change it
                await asyncio.sleep(0.05)

    async def delete(self, name: str) -> None:
        view = self.store.get("", name)
        assert view
        await self.kube.delete(f"{PATH}/{name}", uid=view.uid)


@contextlib.asynccontextmanager
async def knowing(kubeconfig: Path) -> AsyncIterator[Known]:
    """Yield what an operator knows once it has listed, with Kopf not started yet."""
    credentials, loop = load_credentials({"KUBECONFIG": str(kubeconfig)}), asyncio.get_running_loop()
    store: Store[QuotaView] = Store()
    async with Kube(credentials) as kube:
        for name in NAMES:
            body = {"apiVersion": API_VERSION, "kind": "TenantQuota", "metadata": {"name": name}, "spec": {}}
            await kube.create(PATH, body)
        informer = Informer(kube, PATH, store, observe_quota, relist_seconds=600)

        def take(kind: str | None, body: dict[str, Any]) -> None:
            loop.call_soon_threadsafe(put, kind, body)

        def put(kind: str | None, body: dict[str, Any]) -> None:
            assert kind != "DELETED"
            store.put(observe_quota(body))

        kopf = KopfThread(take, kube, credentials, lambda: loop.call_soon_threadsafe(informer.nudge))
        listing = asyncio.create_task(informer.run(watch=False))
        await informer.synced.wait()
        try:
            yield Known(kube, store, informer, kopf)
        finally:
            kopf.stop()
            listing.cancel()


async def test_a_quota_that_is_deleted_between_our_list_and_that_of_kopf_is_gone(control_plane: Any) -> None:
    crds.install(control_plane)
    try:
        async with knowing(control_plane.kubeconfig) as known:
            assert known.names() == set(NAMES)
            await known.delete("watch-goes")
            known.kopf.start()
            await known.until(lambda: known.names() == {"watch-stays"})
    finally:
        control_plane.kubectl("delete", "tenantquotas", *NAMES, "--ignore-not-found")
