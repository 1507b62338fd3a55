"""Stands before a real S3 server: some requests it lets through late, not at all, or with a signature that is wrong.

What becomes of a request the last part of its object's name says: `silent-…`, `slow-…`, `refused-…`. All others pass.
"""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.support.s3 import S3Server

#: How late what is slow comes: so that one notices, and well within what the operator waits for.
SLOW_SECONDS = 1.5
_SIGNATURE = re.compile(rb"(Signature=)[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Front:
    """Where it listens. After `leave` nobody does."""

    endpoint: str
    _server: _Server

    def leave(self) -> None:
        self._server.over.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: str, store: tuple[str, int]) -> None:
        super().__init__((address, 0), _Visitor)
        self.store, self.over = store, threading.Event()


class _Visitor(socketserver.StreamRequestHandler):
    """One connection, of which the first request is taken; it has no body."""

    server: _Server

    def handle(self) -> None:
        head = b"".join(iter(self.rfile.readline, b"\r\n"))
        name = head.split(b" ", 2)[1].partition(b"?")[0].rpartition(b"/")[2]
        if name.startswith(b"silent") and self.server.over.wait():
            return
        if name.startswith(b"slow"):
            self.server.over.wait(SLOW_SECONDS)
        if name.startswith(b"refused"):
            head = _SIGNATURE.sub(rb"\g<1>00000000", head)
        with socket.create_connection(self.server.store) as store:
            store.sendall(head + b"Connection: close\r\n\r\n")
            while data := store.recv(65536):
                self.wfile.write(data)


@contextmanager
def stand_before(store: S3Server, *, address: str) -> Iterator[Front]:
    """Listen on a free port of *address* for clients of *store*."""
    real = urlsplit(store.endpoint)
    server = _Server(address, (str(real.hostname), int(real.port or 80)))
    threading.Thread(target=server.serve_forever, name="store front", daemon=True).start()
    front = Front(f"http://{address}:{server.server_address[1]}", server)
    try:
        yield front
    finally:
        front.leave()
