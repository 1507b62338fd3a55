"""Takes TLS connections, few at a time and none for long.

A connection costs some 300 KB while it lives, so their number is bounded and more wait in
the kernel's queue. One carries one request and is closed. When all places are taken, an
address that holds more than its fair share and dawdles loses some: one pod that floods
the server keeps nobody else out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import structlog
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

#: Connections at the same time.
MAX_CONNECTIONS = 128
#: A connection's whole life, from accept to close, in seconds: as long as a worker waits for its answer.
LIFE_SECONDS = 5.0
#: Connections of one address that count as fair, and how long others may take once all places are taken.
FAIR_SHARE = 8
PATIENCE_SECONDS = 2.0
_GOODBYE_SECONDS = 1.0
_BACKLOG = 4096
_MAX_FIELD_BYTES = 8190
_MAX_FIELDS = 32

#: When a connection was accepted (loop time), and from which address.
Peer = tuple[float, str]
T = TypeVar("T")
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
log = structlog.get_logger("longtask.reports")
#: A peer's broken HTTP is answered with 400; anyone could fill the log with it.
_SILENT = logging.getLogger("longtask.reports.http")
_SILENT.setLevel(logging.CRITICAL)


class Listener:
    """Serves *handler* on *port*, all addresses, with the certificate that *context* holds at the time."""

    def __init__(self, handler: Handler, context: ssl.SSLContext, *, port: int) -> None:
        self._handler, self._context = handler, context
        self.port = port  #: 0: a free one, known once ready
        self._peers: dict[asyncio.Task[None], Peer] = {}  #: oldest first
        self.ready = asyncio.Event()  #: set while connections are accepted

    @property
    def connections(self) -> int:
        """Connections open now."""
        return len(self._peers)

    async def run(self) -> None:
        """Serve until cancelled. Raises OSError if the port is taken."""
        loop, http = asyncio.get_running_loop(), _Http(self._handler)
        with _listening_socket(self.port) as server:
            self.port = server.getsockname()[1]
            self.ready.set()
            try:
                while True:
                    await self._make_room()
                    try:
                        peer, address = await _accept(server)
                    except OSError as error:  # no file descriptors left, or the peer has gone already
                        log.warning("report connection not accepted", error=str(error))
                        await asyncio.sleep(0.1)
                        continue
                    task = asyncio.create_task(self._serve(http, peer))
                    self._peers[task] = (loop.time(), address[0])
                    task.add_done_callback(self._peers.pop)
            finally:
                self.ready.clear()
                await self._close()

    async def _make_room(self) -> None:
        """Wait until a place is free; a flooding address is made to give one back."""
        while len(self._peers) >= MAX_CONNECTIONS:
            if dawdler := pick_dawdler(self._peers, asyncio.get_running_loop().time()):
                dawdler.cancel()
            await asyncio.wait(self._peers, timeout=0.1, return_when=asyncio.FIRST_COMPLETED)

    async def _serve(self, http: _Http, peer: socket.socket) -> None:
        """Serve one connection to its end. A peer's faults are its own and are not logged."""
        protocol, gone = http.expect()
        transport: asyncio.Transport | None = None
        with contextlib.suppress(OSError, TimeoutError):  # ssl.SSLError is an OSError
            try:
                async with asyncio.timeout(LIFE_SECONDS):
                    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                        lambda: protocol,
                        peer,
                        ssl=self._context,
                        ssl_handshake_timeout=LIFE_SECONDS,
                        ssl_shutdown_timeout=_GOODBYE_SECONDS,
                    )
                    await gone.wait()
            finally:
                http.forget(protocol)
                _end(transport, peer)

    async def _close(self) -> None:
        """Let open connections end by themselves for a moment, then end them."""
        if self._peers:
            await asyncio.wait(self._peers, timeout=_GOODBYE_SECONDS)
        for task in list(self._peers):
            task.cancel()
        await asyncio.gather(*self._peers, return_exceptions=True)


class _Http(web.Server):
    """The HTTP side of all connections; tells when one is over."""

    def __init__(self, handler: Handler) -> None:
        super().__init__(
            handler,
            handler_cancellation=True,
            access_log=None,
            logger=_SILENT,
            auto_decompress=False,
            keepalive_timeout=0,
            lingering_time=_GOODBYE_SECONDS,
            max_line_size=1024,
            max_field_size=_MAX_FIELD_BYTES,
            max_headers=_MAX_FIELDS,
            read_bufsize=16_384,
            tcp_keepalive=False,
        )
        self._expected: dict[RequestHandler, asyncio.Event] = {}

    def expect(self) -> tuple[RequestHandler, asyncio.Event]:
        """Return the protocol of a new connection and the event of its end."""
        protocol, gone = self(), asyncio.Event()
        self._expected[protocol] = gone
        return protocol, gone

    def forget(self, protocol: RequestHandler) -> None:
        """Drop the event of a connection's end."""
        self._expected.pop(protocol, None)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """Called by the protocol when its connection is over."""
        super().connection_lost(handler, exc)
        if gone := self._expected.get(handler):
            gone.set()


def pick_dawdler(peers: Mapping[T, Peer], now: float) -> T | None:
    """Return the oldest of *peers* (oldest first) from the address that holds most, or None if all is fair."""
    address, count = Counter(address for _, address in peers.values()).most_common(1)[0]
    if count <= FAIR_SHARE:
        return None
    oldest, since = next((key, since) for key, (since, origin) in peers.items() if origin == address)
    return oldest if now - since >= PATIENCE_SECONDS else None


def _end(transport: asyncio.Transport | None, peer: socket.socket) -> None:
    """End a connection at once, whatever state it is in.

    Python 3.11.2, which Debian 12 has, cannot abort a TLS connection that was closed twice: that is gone already, or
    ends after `_GOODBYE_SECONDS` by itself.
    """
    if transport is None:
        peer.close()  # the handshake failed; else the transport closes it
        return
    with contextlib.suppress(AttributeError):
        transport.abort()


async def _accept(server: socket.socket) -> tuple[socket.socket, Any]:
    """Return the next connection and its address. Raises OSError.

    `loop.sock_accept` logs an error, and loses the connection, where one comes while it is being cancelled.
    """
    loop = asyncio.get_running_loop()
    while True:
        try:
            peer, address = server.accept()
        except BlockingIOError:
            came = asyncio.Event()
            loop.add_reader(server, came.set)
            try:
                await came.wait()
            finally:
                loop.remove_reader(server)
        else:
            peer.setblocking(False)
            return peer, address


def _listening_socket(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        server = socket.create_server(("", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True)
    else:
        server = socket.create_server(("", port), backlog=_BACKLOG)
    server.setblocking(False)
    return server
