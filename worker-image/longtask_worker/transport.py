"""One report over one new TLS connection: send, read the answer, close.

No connection is kept: thousands of idle ones would cost the operator its memory. The token
and the CA are read again each time, because both rotate. Written on sockets, not on
http.client, which alone would double what the sidecar needs to start.
"""

from __future__ import annotations

import socket
import ssl
import time

from longtask_worker.wire import Answer, parse_answer

MAX_ANSWER = 65_536


class TransportError(Exception):
    """No answer came: not reachable, too slow, not trusted, or not HTTP."""


class Channel:
    """Where and as whom to report."""

    __slots__ = ("_ca_file", "_host", "_path", "_port", "_token_file")

    def __init__(self, url: str, token_file: str, ca_file: str) -> None:
        """Raise ValueError unless *url* is https://host[:port]/path: the token must not travel in the clear."""
        self._host, self._port, self._path = split_url(url)
        self._token_file = token_file
        self._ca_file = ca_file

    def post(self, body: bytes, timeout: float) -> Answer:
        """Return the answer to *body*; TransportError when none came within *timeout* seconds in all."""
        until = time.monotonic() + timeout
        try:
            request = self._request(body)
            with self._connect(until) as connection:
                connection.sendall(request)
                raw = _read(connection, until)
        except (OSError, ValueError) as error:
            raise TransportError(f"{type(error).__name__}: {error}") from error
        return parse_response(raw)

    def _connect(self, until: float) -> ssl.SSLSocket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks certificate and host name
        context.load_verify_locations(cafile=self._ca_file)
        raw = socket.create_connection((self._host, self._port), timeout=_left(until))
        try:
            raw.settimeout(_left(until))
            return context.wrap_socket(raw, server_hostname=self._host)
        except BaseException:
            raw.close()
            raise

    def _request(self, body: bytes) -> bytes:
        with open(self._token_file, encoding="ascii") as file:
            token = file.read().strip()
        host = f"[{self._host}]" if ":" in self._host else self._host
        head = (
            f"POST {self._path} HTTP/1.1\r\n"
            f"Host: {host}:{self._port}\r\n"
            f"Authorization: Bearer {token}\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n"
        )
        return head.encode("ascii") + body


def split_url(url: str) -> tuple[str, int, str]:
    """Return host, port and path of an https URL; ValueError for any other."""
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    if authority.startswith("["):
        host, _, port = authority[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = authority.partition(":")
    if scheme != "https" or not host or not slash or any(ch.isspace() for ch in url):
        raise ValueError(f"not an https URL with a path: {url!r}")
    return host, int(port or 443), f"/{path}"


def parse_response(raw: bytes) -> Answer:
    """Return the answer in a whole HTTP/1.1 response; TransportError if it is none."""
    head, found, body = raw.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    if not found or not version.startswith("HTTP/1.") or not rest[:3].isdigit():
        raise TransportError("the answer is not HTTP")
    headers = {key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in lines[1:])}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = _unchunk(body)
    return parse_answer(int(rest[:3]), headers, body)


def _unchunk(body: bytes) -> bytes:
    """Join the chunks; what is malformed ends the body."""
    joined = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        try:
            length = int(size.partition(b";")[0], 16)
        except ValueError:
            return joined
        joined += rest[:length]
        body = rest[length + 2 :] if length else b""
    return joined


def _read(connection: ssl.SSLSocket, until: float) -> bytes:
    """Read to the end of the stream, which `Connection: close` asks for, within *until* and MAX_ANSWER."""
    raw = b""
    while len(raw) < MAX_ANSWER and not _is_complete(raw):
        connection.settimeout(_left(until))
        try:
            part = connection.recv(16_384)
        except ssl.SSLEOFError:  # closed without a TLS goodbye: what came counts
            part = b""
        if not part:
            break
        raw += part
    return raw


def _is_complete(raw: bytes) -> bool:
    """Say whether the announced length is there: the server may be slow to close."""
    head, found, body = raw.partition(b"\r\n\r\n")
    _, announced, length = head.lower().partition(b"content-length:")
    digits = length.partition(b"\r\n")[0].strip()
    return bool(found and announced and digits.isdigit() and len(body) >= int(digits))


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left
