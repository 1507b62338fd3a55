"""The report server's certificate, kept in one Secret and renewed in place.

The Secret is written with the version that was read, so two replicas never end up with
two authorities. The TLS context stays the same object for ever: a renewed certificate
is loaded into it and counts from the next connection on.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from longtask_operator.adapters.authority import Keyring, dump_keyring, parse_keyring, renewed
from longtask_operator.adapters.errors import AlreadyExists, ApiError, Conflict, NotFound
from longtask_operator.adapters.kube import Json, Kube, resource_path
from longtask_operator.api.names import LABEL_MANAGED_BY, MANAGED_BY
from longtask_operator.api.times import format_time

SECRET = "longtask-report-ca"
_CHECK_SECONDS = 600.0
_RETRY_SECONDS = 5.0
_TRIES = 5

log = structlog.get_logger("longtask.certificates")


def _utc_now() -> datetime:
    return datetime.now(UTC)


class ServingCertificate:
    """Certificate for *host*, in the Secret of *namespace*, for *days* days."""

    def __init__(
        self, kube: Kube, *, namespace: str, host: str, days: int, now: Callable[[], datetime] = _utc_now
    ) -> None:
        self._kube, self._host, self._days, self._now = kube, host, days, now
        self.on_use: Callable[[datetime], None] = lambda end: None  #: told when the certificate in use ends
        self._collection = resource_path("v1", "secrets", namespace)
        self._keyring: Keyring | None = None
        self.context = _server_context()

    @property
    def is_loaded(self) -> bool:
        """Whether there is a certificate to serve with."""
        return self._keyring is not None

    def ca_bundle(self) -> str:
        """Return the authorities that workers are to trust, PEM. Raises RuntimeError before the first load."""
        if self._keyring is None:
            raise RuntimeError("the certificate of the report server is not loaded yet")
        return self._keyring.bundle

    async def load(self) -> bool:
        """Take in what the Secret holds; return False if there is none or it is unusable. Raises ApiError."""
        _, keyring = await self._read()
        if keyring:
            self._use(keyring)
        return keyring is not None

    async def ensure(self) -> None:
        """Read the Secret, renew what is due, write it back and take it in. For the leader. Raises ApiError."""
        for _ in range(_TRIES):
            secret, stored = await self._read()
            keyring = renewed(stored, host=self._host, serving_days=self._days, now=self._now())
            if keyring is stored or await self._write(secret, keyring):
                self._use(keyring)
                return
        raise Conflict(409, "Conflict", f"Secret {SECRET} changes faster than it can be renewed")

    async def run(self, is_leading: Callable[[], bool]) -> None:
        """Keep the certificate fresh until cancelled: the leader renews, everyone else follows."""
        while True:
            delay = _CHECK_SECONDS
            try:
                await (self.ensure() if is_leading() else self.load())
            except ApiError as error:
                log.warning("report certificate not checked; trying again", error=str(error))
                delay = _RETRY_SECONDS
            await asyncio.sleep(delay if self.is_loaded else _RETRY_SECONDS)

    async def _read(self) -> tuple[Json | None, Keyring | None]:
        try:
            secret = await self._kube.get(f"{self._collection}/{SECRET}")
        except NotFound:
            return None, None
        try:
            data = {name: base64.b64decode(value) for name, value in (secret.get("data") or {}).items()}
            return secret, parse_keyring(data)
        except (ValueError, binascii.Error) as error:
            log.error("Secret is unusable and will be made anew", secret=SECRET, error=str(error))
            return secret, None

    async def _write(self, secret: Json | None, keyring: Keyring) -> bool:
        """Create or replace the Secret; False if somebody else wrote it since it was read."""
        data = {name: base64.b64encode(value).decode() for name, value in dump_keyring(keyring).items()}
        try:
            if secret is None:
                metadata = {"name": SECRET, "labels": {LABEL_MANAGED_BY: MANAGED_BY}}
                body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}
                await self._kube.create(self._collection, body)
            else:
                await self._kube.replace(f"{self._collection}/{SECRET}", secret | {"data": data})
        except (AlreadyExists, Conflict, NotFound):
            return False
        log.info(
            "report certificate renewed", serving_until=format_time(keyring.serving.certificate.not_valid_after_utc)
        )
        return True

    def _use(self, keyring: Keyring) -> None:
        if self._keyring is not None and self._keyring.serving.certificate == keyring.serving.certificate:
            self._keyring = keyring
            return
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            file.write(keyring.serving.chain_pem)
            file.flush()
            self.context.load_cert_chain(file.name)
        self._keyring = keyring
        self.on_use(keyring.serving.certificate.not_valid_after_utc)


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Each worker connects once per report from a fresh context, so a ticket would never be used.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    return context
