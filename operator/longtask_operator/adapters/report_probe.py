"""Asks our own report server whether workers can reach it: by its name, through its Service, over TLS."""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress

from longtask_operator.api.report import PROBE_PATH

#: As long as a worker waits for the answer to a report.
TIMEOUT_SECONDS = 5.0
_MAX_ANSWER = 1024


class ReportProbe:
    """Probes *host*:*port*, trusting what *ca_bundle* returns, PEM; the answer must name *server*.

    Another replica that answers is not the one that workers must reach.
    """

    def __init__(self, host: str, port: int, ca_bundle: Callable[[], str], server: str) -> None:
        self._host, self._port, self._ca_bundle, self._server = host, port, ca_bundle, server
        self._is_out = False  #: a probe is under way

    async def __call__(self) -> str:
        """Return why the probe did not come through, empty if it did; never raises.

        It has a thread of its own: names are looked up without a time-out, and nobody waits for that at the end.
        """
        if self._is_out:
            return "the last probe has no answer yet"
        loop, answer = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

        def take(said: str) -> None:
            if not answer.done():
                answer.set_result(said)

        def work() -> None:
            said, self._is_out = self._ask(), False
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(take, said)

        self._is_out = True
        threading.Thread(target=work, name="report-probe", daemon=True).start()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS + 1):
                return str(await answer)
        except TimeoutError:
            return f"no answer within {TIMEOUT_SECONDS:.0f} s"

    def _ask(self) -> str:
        try:
            context = ssl.create_default_context(cadata=self._ca_bundle())
            connection = http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT_SECONDS, context=context)
            try:
                connection.request("GET", PROBE_PATH, headers={"Connection": "close"})
                response = connection.getresponse()
                code, body = response.status, response.read(_MAX_ANSWER)
            finally:
                connection.close()
            if code != http.client.OK:
                return f"HTTP {code}"
            return "" if json.loads(body).get("server") == self._server else "another server answers"
        except (OSError, ValueError, AttributeError, http.client.HTTPException) as error:
            return f"{type(error).__name__}: {error}"
