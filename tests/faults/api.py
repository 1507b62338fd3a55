"""Requests of the tests' own side: the administrator's, and those of the kubelet of the tests."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

Json = dict[str, Any]
MERGE = "application/merge-patch+json"


class ApiFault(Exception):  # noqa: N818 - one word with what the operator calls it
    """The API server refused, with *code*; 0: it did not answer."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Api:
    """Use as a context manager."""

    def __init__(self, server: str, token: str, ca_file: str) -> None:
        self._server, self._token = server, token
        self.ssl_context = ssl.create_default_context(cafile=ca_file)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Api:
        connector = aiohttp.TCPConnector(limit=0, ssl=self.ssl_context)
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        self._session = aiohttp.ClientSession(connector=connector, headers=headers)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._session:
            await self._session.close()

    async def request(self, method: str, path: str, body: Any = None, *, user: str = "", **query: str) -> Json:
        """Return the answer's object; a PATCH is a merge patch. *user* is impersonated. Raises ApiFault."""
        assert self._session is not None
        form = MERGE if method == "PATCH" else "application/json"
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": form, **({"Impersonate-User": user} if user else {})}
        arguments = {"data": data, "params": query, "headers": headers}
        try:
            async with self._session.request(method, self._server + path, **arguments) as answer:  # type: ignore[arg-type]
                text = await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ApiFault(0, f"{method} {path}: {error!r}") from error
        found: Json = json.loads(text) if text.startswith(b"{") else {}
        if answer.status >= 300:
            raise ApiFault(answer.status, str(found.get("message", text[:300])))
        return found

    async def find(self, path: str) -> Json | None:
        """Return the object at *path*, or None if there is none."""
        try:
            return await self.request("GET", path)
        except ApiFault as fault:
            if fault.code == 404:
                return None
            raise

    async def items(self, path: str, **query: str) -> list[Json]:
        found: list[Json] = (await self.request("GET", path, **query))["items"]
        return found

    async def delete(self, path: str, **options: Any) -> None:
        """Delete what is at *path*; that it is gone already is fine."""
        try:
            await self.request("DELETE", path, options or None)
        except ApiFault as fault:
            if fault.code != 404:
                raise

    async def changes(self, path: str, **query: str) -> AsyncIterator[Json]:
        """Yield every object as it is now and whenever it changes, for ever: `{type, object}`."""
        while True:
            async for event in self._watch_once(path, query):
                yield event
            await asyncio.sleep(0.05)

    async def _watch_once(self, path: str, query: dict[str, str]) -> AsyncIterator[Json]:
        assert self._session is not None
        limits = aiohttp.ClientTimeout(total=None)
        try:
            async with self._session.get(
                self._server + path, params={**query, "watch": "1"}, timeout=limits, read_bufsize=2**22
            ) as answer:
                async for line in answer.content:
                    event: Json = json.loads(line)
                    if event["type"] != "ERROR":
                        yield event
        except (aiohttp.ClientError, OSError, TimeoutError):
            return
