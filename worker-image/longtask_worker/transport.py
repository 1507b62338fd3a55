"""One report over one new TLS connection: send, read the answer, close.

No connection is kept: thousands of idle ones would cost the operator its memory. The token
and the CA are read again each time, because both rotate.
"""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from longtask_worker.wire import Answer, parse_answer

MAX_ANSWER = 65_536


class TransportError(Exception):
    """No answer came: not reachable, too slow, not trusted, or not HTTP."""


class Channel:
    """Where and as whom to report."""

    def __init__(self, url: str, token_file: str, ca_file: str) -> None:
        """Raise ValueError unless *url* is https: the token must not travel in the clear."""
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname or not (token_file and ca_file):
            raise ValueError(f"not an https URL with a token and a CA file: {url!r}")
        self._host, self._port, self._path = parts.hostname, parts.port, parts.path or "/"
        self._token_file = Path(token_file)
        self._ca_file = ca_file

    def post(self, body: bytes, timeout: float) -> Answer:
        """Return the answer to *body*; TransportError when none comes. *timeout* bounds each step, in seconds."""
        try:
            return self._exchange(body, timeout)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise TransportError(f"{type(error).__name__}: {error}") from error

    def _exchange(self, body: bytes, timeout: float) -> Answer:
        token = self._token_file.read_text(encoding="ascii").strip()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Connection": "close"}
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks the certificate and the host name
        context.load_verify_locations(cafile=self._ca_file)
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=context)
        try:
            connection.request("POST", self._path, body, headers)
            response = connection.getresponse()
            known = {key.lower(): value for key, value in response.getheaders()}
            return parse_answer(response.status, known, response.read(MAX_ANSWER))
        finally:
            connection.close()
