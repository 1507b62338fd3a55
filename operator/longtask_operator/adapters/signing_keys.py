"""The API server's public keys, with which a worker's token is checked without asking anybody.

A key that is not known is looked up again, but not more often than every ten seconds:
anyone can send a token that names a key of their own invention.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import jwt
import structlog

from longtask_operator.adapters.errors import ApiError, Unavailable
from longtask_operator.adapters.kube import Kube

JWKS_PATH = "/openid/v1/jwks"
_LEAST_AGE = 10.0
#: Keys are read again so often at least, so that a withdrawn one stops counting.
_LARGEST_AGE = 3600.0
#: Shorter than the life of a connection, so that a worker is told to come back.
_READ_SECONDS = 3.0

log = structlog.get_logger("longtask.reports")


class KeysUnavailable(Exception):  # noqa: N818 - named like Unavailable
    """No key is known yet and the API server could not be asked."""


class SigningKeys:
    """Public keys by key id. *clock* is monotonic, in seconds."""

    def __init__(self, kube: Kube, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._kube, self._clock = kube, clock
        self._keys: dict[str, jwt.PyJWK] | None = None
        self._asked = float("-inf")
        self._refused = False
        self._lock = asyncio.Lock()

    @property
    def are_refused(self) -> bool:
        """Whether the API server does not show its keys; then signatures cannot be checked here."""
        return self._refused

    async def find(self, key_id: str) -> jwt.PyJWK | None:
        """Return the key, or None if the API server has no such key or does not show its keys.

        Raises:
            KeysUnavailable: if no key was ever read and none can be read now.
        """
        if self._is_due(key_id):
            async with self._lock:
                if self._is_due(key_id):
                    await self._read()
                    self._asked = self._clock()
        if self._keys is None and not self._refused:
            raise KeysUnavailable("the keys of the API server are not known yet")
        return (self._keys or {}).get(key_id)

    def _is_due(self, key_id: str) -> bool:
        age = self._clock() - self._asked
        unknown = self._keys is None or key_id not in self._keys
        return age >= _LARGEST_AGE or (unknown and age >= (1.0 if self._keys is None else _LEAST_AGE))

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(_READ_SECONDS):
                answer = await self._kube.get(JWKS_PATH)
        except (Unavailable, TimeoutError) as error:
            log.debug("signing keys not read", error=str(error))
            return
        except ApiError as error:
            if not self._refused:
                log.warning("signing keys are not shown to us; every new token is reviewed", error=str(error))
            self._refused, self._keys = True, None
            return
        self._refused = False
        self._keys = {key.key_id: key for key in _parse(answer.get("keys")) if key.key_id}


def _parse(entries: object) -> list[jwt.PyJWK]:
    """Return the keys of a kind that we know; others belong to algorithms that no token of ours uses."""
    keys = []
    for entry in entries if isinstance(entries, list) else []:
        try:
            keys.append(jwt.PyJWK.from_dict(entry))
        except jwt.PyJWTError as error:
            log.info("a signing key of the API server is skipped", error=str(error))
    return keys
