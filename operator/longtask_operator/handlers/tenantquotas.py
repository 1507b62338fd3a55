"""Kopf's part: it watches TenantQuotas and hands each event on. It patches nothing and decides nothing.

Only `on.event` is used: create, update and delete handlers cost three writes and a finalizer
per object, indexes take quadratic time at start, daemons a task per object. There are few
TenantQuotas; the many LongTasks, Jobs and pods come through our informer (ADR 13).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import kopf

from longtask_operator.adapters.kube import Credentials, Kube
from longtask_operator.api.names import GROUP, TENANTQUOTA_PLURAL, VERSION

#: Called in Kopf's thread with the type (ADDED, MODIFIED, DELETED or None for listed) and the object.
OnEvent = Callable[[str | None, dict[str, Any]], None]


class NoDiff(kopf.DiffBaseStorage):
    """Keeps no last-handled state: nothing here compares old with new."""

    def build(self, **_: Any) -> Any:
        """Return nothing to compare."""
        return {}

    def fetch(self, **_: Any) -> None:
        """Return no essence."""

    def store(self, **_: Any) -> None:
        """Store nothing."""


class NoProgress(kopf.ProgressStorage):
    """Keeps no handler progress: event handlers have none."""

    def fetch(self, **_: Any) -> None:
        """Return no record."""

    def store(self, **_: Any) -> None:
        """Store nothing."""

    def purge(self, **_: Any) -> None:
        """Purge nothing."""

    def touch(self, **_: Any) -> None:
        """Touch nothing."""

    def clear(self, *, essence: Any) -> Any:
        """Return *essence* as it is."""
        return essence


def build_registry(
    on_event: OnEvent, on_watch: Callable[[], None], kube: Kube, credentials: Credentials
) -> kopf.OperatorRegistry:
    """Return the registry with our handlers."""
    registry = kopf.OperatorRegistry()

    @kopf.on.event(GROUP, VERSION, TENANTQUOTA_PLURAL, registry=registry)
    async def tenantquota_event(event: Any, **_: Any) -> None:
        on_event(event["type"], event["object"])

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> Any:
        connector = aiohttp.TCPConnector(limit=8, ssl=credentials.ssl_context or False)
        session = aiohttp.ClientSession(connector=connector, middlewares=(_bearer(kube), _telling(on_watch)))
        return kopf.AiohttpSession(server=credentials.server, aiohttp_session=session)

    return registry


def build_settings() -> kopf.OperatorSettings:
    """Return Kopf's settings: no storage, no Events, no peering, paged lists, no scanning."""
    settings = kopf.OperatorSettings()
    settings.persistence.diffbase_storage = NoDiff()
    settings.persistence.progress_storage = NoProgress()
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.watching.chunk_size = 500
    settings.watching.server_timeout = 600
    settings.watching.connect_timeout = 5
    settings.networking.request_timeout = 30
    return settings


def _bearer(kube: Kube) -> Any:
    """Return a middleware that sends the current token: projected tokens rotate, a fixed header would not."""

    async def middleware(request: aiohttp.ClientRequest, handler: Any) -> aiohttp.ClientResponse:
        if token := kube.bearer_token():
            request.headers["Authorization"] = f"Bearer {token}"
        response: aiohttp.ClientResponse = await handler(request)
        return response

    return middleware


def _telling(on_watch: Callable[[], None]) -> Any:
    """Return a middleware that calls *on_watch* at each watch of TenantQuotas, whose list has been read by then."""

    async def middleware(request: aiohttp.ClientRequest, handler: Any) -> aiohttp.ClientResponse:
        if request.url.name == TENANTQUOTA_PLURAL and "watch" in request.url.query:
            on_watch()
        response: aiohttp.ClientResponse = await handler(request)
        return response

    return middleware


async def operate(
    on_event: OnEvent, on_watch: Callable[[], None], kube: Kube, credentials: Credentials, stop: asyncio.Event
) -> None:
    """Run Kopf until *stop* is set or it ends itself. Raises what it ended with."""
    registry = build_registry(on_event, on_watch, kube, credentials)
    # An identity of our own: Kopf would look the user up, and an image need not know uid 65532.
    identity: Any = "longtask"
    await kopf.operator(
        registry=registry, settings=build_settings(), clusterwide=True, stop_flag=stop, identity=identity
    )
