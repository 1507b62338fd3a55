"""A proxy between operators and the API server that can end an operator at a write of its choice.

It counts what an operator writes to the cluster: every request that changes something, but Leases
(they go on for ever), Events (best effort, nobody decides by them) and reviews (they change nothing).
With a fault armed, the write of that number meets it; all else goes through as it came.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "content-encoding", "host", "keep-alive"}
_UNCOUNTED = {"leases", "events", "tokenreviews", "selfsubjectaccessreviews", "selfsubjectreviews"}
_PATH = re.compile(r"/apis?/(?:[^/]+/)?v[^/]+(?:/namespaces/(?P<namespace>[^/]+))?/(?P<rest>.+)")
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


def _name_in(body: bytes) -> str:
    """Return the name of the object that is to be created; it may be the API server's to choose."""
    return str(json.loads(body)["metadata"].get("name", "")) if body else ""


def _port_of(request: web.Request) -> int:
    return int(request.transport.get_extra_info("sockname")[1]) if request.transport else 0


class Mode(StrEnum):
    """What happens at the write: died before it, after it, told of a failure that was none, or it came late."""

    BEFORE = "before"  #: the operator is killed; the write never reaches the API server
    AFTER = "after"  #: the write is executed, the operator is killed before the answer comes
    LOST = "lost"  #: the write is executed, the connection breaks, the operator lives
    TIMEOUT = "timeout"  #: the write is executed, the answer is 504, the operator lives
    LATE = "late"  #: the operator is killed, and its write is executed when the next one leads already

    @property
    def kills(self) -> bool:
        return self in (Mode.BEFORE, Mode.AFTER, Mode.LATE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One write of an operator. *number* counts from 1 since `arm`."""

    number: int
    verb: str
    resource: str  #: with the subresource: `longtasks/status`
    namespace: str
    name: str
    operator: int  #: the port of the proxy that it came through
    at: float = field(repr=False)  #: monotonic
    code: int = 0  #: of the API server's answer; 0: not forwarded


@dataclass(slots=True)
class Fault:
    """The write to meet, how, and what to call to kill the operator; *met* once it has."""

    number: int
    mode: Mode
    kill: Callable[[], Awaitable[None]]
    next_leads: asyncio.Event = field(default_factory=asyncio.Event)  #: set by the driver, for `late`
    late_done: asyncio.Event = field(default_factory=asyncio.Event)
    met: Write | None = None


@dataclass(slots=True, eq=False)
class Interlude:
    """What happens once: before a write is done, or between its being done and its writer's hearing of that.

    It is the first write to *resource* for whose body *meets* holds; *over* is done when *act* is.
    """

    resource: str
    meets: Callable[[bytes], bool]
    act: Callable[[], Awaitable[None]]
    over: asyncio.Future[None]
    before: bool = False
    begun: bool = False

    async def play(self, write: Write, body: bytes, code: int) -> None:
        """Act, if it is time for it; *code* is the API server's answer, 0 before the write is done."""
        if self.begun or self.before != (code == 0) or code >= 300:
            return
        if write.resource != self.resource or not self.meets(body):
            return
        self.begun = True
        try:
            await self.act()
            self.over.set_result(None)
        except Exception as error:
            self.over.set_exception(error)


@dataclass(slots=True)
class FaultProxy:
    """Serves on loopback without TLS; one port for each operator that is to be told apart."""

    server: str
    ssl_context: Any
    writes: list[Write] = field(default_factory=list)  #: since `arm`
    fault: Fault | None = None
    counts: Callable[[Write], bool] = lambda write: True  #: which writes are counted at all
    interlude: Interlude | None = None  #: what is to happen, since `arm`
    last_write: float = 0.0  #: monotonic
    ledgers_read: asyncio.Event = field(default_factory=asyncio.Event)  #: whoever does leads
    held_back: dict[int, str] = field(default_factory=dict)  #: port -> the kind, in plural, that it hears nothing of
    _session: aiohttp.ClientSession | None = None
    _runners: list[web.AppRunner] = field(default_factory=list)

    async def listen(self) -> int:
        """Open one more port and return it."""
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, ssl=self.ssl_context)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        runner = web.AppRunner(web.Application(client_max_size=16 * 2**20), access_log=None, shutdown_timeout=0.1)
        runner.app.router.add_route("*", "/{path:.*}", self._handle)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self._runners.append(runner)
        return int(runner.addresses[0][1])

    async def close(self) -> None:
        for runner in self._runners:
            await runner.cleanup()
        if self._session:
            await self._session.close()

    def arm(self, fault: Fault | None = None, counts: Callable[[Write], bool] = lambda _: True) -> None:
        """Count from 1 again, only writes for which *counts* holds; with *fault*, let its write meet it."""
        self.writes, self.fault, self.counts, self.interlude = [], fault, counts, None

    async def _when_heard(self, request: web.Request) -> None:
        """Wait while what *request* lists or watches is held back; a single object is always told."""
        while request.path.rpartition("/")[2] == self.held_back.get(_port_of(request)):  # noqa: ASYNC110 - set outside
            await asyncio.sleep(0.05)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        write = self._count(request, body)
        if write is None:
            await self._when_heard(request)
            answer = await self._forward(request, body)
            if request.method == "GET" and request.path.endswith("/configmaps"):
                self.ledgers_read.set()
                self.last_write = time.monotonic()  # what a new leader has to write comes now
            return answer
        await self._play(write, body, 0)
        fault = self.fault
        if fault is None or fault.met or write.number != fault.number:
            answer = await self._forward(request, body, write)
            await self._play(write, body, answer.status)
            return answer
        return await self._meet(fault, request, body, write)

    async def _meet(self, fault: Fault, request: web.Request, body: bytes, write: Write) -> web.StreamResponse:
        fault.met = write
        if fault.mode in (Mode.BEFORE, Mode.LATE):
            await fault.kill()
        if fault.mode is Mode.LATE:
            await fault.next_leads.wait()
        if fault.mode is not Mode.BEFORE:
            write = await self._execute(request, body, write)
            fault.met = write
            await self._play(write, body, write.code)
        if fault.mode is Mode.AFTER:
            await fault.kill()
        fault.late_done.set()
        if fault.mode is Mode.TIMEOUT:
            return web.json_response({"kind": "Status", "code": 504, "reason": "Timeout"}, status=504)
        if request.transport:
            request.transport.abort()
        return web.Response(status=500)  # nobody hears it

    async def _play(self, write: Write, body: bytes, code: int) -> None:
        if self.interlude:
            await self.interlude.play(write, body, code)

    async def _execute(self, request: web.Request, body: bytes, write: Write) -> Write:
        """Send a write on and return it with the answer's code, which nobody else gets."""
        async with self._send(request, body) as answer:
            await answer.read()
            return self._answered(write, answer.status)

    async def _forward(self, request: web.Request, body: bytes, write: Write | None = None) -> web.StreamResponse:
        try:
            async with self._send(request, body) as answer:
                if write:
                    self._answered(write, answer.status)
                headers = {
                    k: v for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP - {"content-encoding"}
                }
                if request.query.get("watch"):
                    return await self._stream(request, answer, headers)
                return web.Response(status=answer.status, headers=headers, body=await answer.read())
        except aiohttp.ClientError as error:
            return web.json_response({"kind": "Status", "code": 502, "message": str(error)}, status=502)

    async def _stream(
        self, request: web.Request, answer: aiohttp.ClientResponse, headers: dict[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=headers)
        await response.prepare(request)
        async for chunk in answer.content.iter_any():
            await self._when_heard(request)
            await response.write(chunk)
        return response

    def _send(self, request: web.Request, body: bytes) -> Any:
        assert self._session is not None
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP}
        limits = aiohttp.ClientTimeout(total=None)
        url = self.server + request.raw_path
        return self._session.request(
            request.method,
            URL(url, encoded=True),
            data=body or None,
            headers=headers,
            timeout=limits,
            allow_redirects=False,
        )

    def _count(self, request: web.Request, body: bytes) -> Write | None:
        """Return the request as a counted write, or None where it is none."""
        match = _PATH.fullmatch(request.path)
        if request.method not in _VERBS or match is None:
            return None
        parts = match["rest"].split("/")
        if parts[0] in _UNCOUNTED:
            return None
        operator, at = _port_of(request), time.monotonic()
        if parts[0] != self.held_back.get(operator):  # who does not see what it wrote writes it for ever
            self.last_write = at
        write = Write(
            number=len(self.writes) + 1,
            verb=_VERBS[request.method],
            resource="/".join((parts[0], *parts[2:])),
            namespace=match["namespace"] or "",
            name=parts[1] if len(parts) > 1 else _name_in(body),
            operator=operator,
            at=at,
        )
        if not self.counts(write):
            return None
        self.writes.append(write)
        return write

    def _answered(self, write: Write, code: int) -> Write:
        answered = replace(write, code=code)
        if write.number <= len(self.writes) and self.writes[write.number - 1] is write:
            self.writes[write.number - 1] = answered
        return answered
