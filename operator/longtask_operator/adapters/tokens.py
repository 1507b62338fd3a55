"""Who sends a report: the pod that a projected ServiceAccount token is bound to.

Cheapest check first. A token seen before is found by its hash; a new one needs a valid
signature (checked here, so garbage costs no request), our audience and a life, and only
then one TokenReview. While the API server is away known tokens go on, new ones wait:
a fault of the API server never makes a token a bad one.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from longtask_operator.adapters.errors import ApiError
from longtask_operator.adapters.kube import Kube, resource_path
from longtask_operator.adapters.signing_keys import KeysUnavailable, SigningKeys
from longtask_operator.api.names import TOKEN_AUDIENCE

#: What the API server can sign with (`--service-account-signing-key-file`).
_ALGORITHMS = ["RS256", "ES256", "ES384", "ES512"]
_MAX_TOKEN_BYTES = 8192
_MAX_KNOWN = 20_000
#: How long a token refused by the API server is not asked about again, in seconds.
_REFUSAL_SECONDS = 30.0
_REVIEW_SECONDS = 3.0
#: TokenReviews at the same time; who waits for a turn is bounded by the server's connections.
_REVIEWS = 8
_CLOCK_SKEW_SECONDS = 30
_EXTRA = "authentication.kubernetes.io/"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodIdentity:
    """The pod that a token belongs to."""

    namespace: str
    pod_name: str
    pod_uid: str


class TokenRejected(Exception):  # noqa: N818 - an answer more than an error
    """The token is no good. *identity* is there where only the API server refused a token it had signed."""

    def __init__(self, message: str, identity: PodIdentity | None = None) -> None:
        super().__init__(message)
        self.identity = identity


class TokenUnavailable(Exception):  # noqa: N818
    """Whether the token is good cannot be told now; try again after *retry_after* seconds."""

    def __init__(self, message: str, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    identity: PodIdentity
    accepted: bool
    until: float  #: Unix time


class TokenVerifier:
    """Checks tokens of our audience. *now* is Unix time."""

    def __init__(self, kube: Kube, *, audience: str = TOKEN_AUDIENCE, now: Callable[[], float] = time.time) -> None:
        self._kube, self._audience, self._now = kube, audience, now
        self._keys = SigningKeys(kube)
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._reviews = asyncio.Semaphore(_REVIEWS)

    async def verify(self, token: str) -> PodIdentity:
        """Return the pod that *token* belongs to.

        The pod may be gone since: compare its uid with the live pods at every use.

        Raises:
            TokenRejected: if the token is not one of ours. TokenUnavailable: if that cannot be told now.
        """
        if not token.isascii() or len(token) > _MAX_TOKEN_BYTES:
            raise TokenRejected("this is no token")
        digest = hashlib.sha256(token.encode()).digest()
        known = self._recall(digest)
        if known is None:
            identity, expires = await self._read(token)
            known = await self._review(token, identity, expires)
            self._remember(digest, known)
        if not known.accepted:
            raise TokenRejected("the API server refuses the token", known.identity)
        return known.identity

    def _recall(self, digest: bytes) -> _Known | None:
        known = self._known.get(digest)
        if known is None or known.until <= self._now():
            self._known.pop(digest, None)
            return None
        self._known.move_to_end(digest)
        return known

    def _remember(self, digest: bytes, known: _Known) -> None:
        self._known[digest] = known
        while len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)

    async def _read(self, token: str) -> tuple[PodIdentity, float]:
        """Return what the token claims, its signature checked unless the API server does not show its keys."""
        try:
            key = await self._keys.find(str(jwt.get_unverified_header(token).get("kid")))
            if key is None and not self._keys.are_refused:
                raise TokenRejected("signed with an unknown key")
            claims = self._decode(token, key)
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise TokenRejected(str(error) or type(error).__name__) from None
        except KeysUnavailable as error:
            raise TokenUnavailable(str(error)) from None
        return identity_of(claims), float(claims["exp"])

    def _decode(self, token: str, key: jwt.PyJWK | None) -> dict[str, Any]:
        # The issuer is not compared: the key says whose token it is, and the TokenReview knows all issuers.
        options: Any = {"require": ["exp", "aud"], "verify_signature": key is not None, "verify_iss": False}
        if key is None:
            options |= {"verify_exp": True, "verify_aud": True, "verify_nbf": True}
        return jwt.decode(
            token,
            key=key,  # type: ignore[arg-type]
            algorithms=_ALGORITHMS,
            audience=self._audience,
            leeway=_CLOCK_SKEW_SECONDS,
            options=options,
        )

    async def _review(self, token: str, claimed: PodIdentity, expires: float) -> _Known:
        try:
            async with asyncio.timeout(_REVIEW_SECONDS), self._reviews:
                status = await self._ask(token)
        except TimeoutError:
            raise TokenUnavailable("the API server did not review the token in time") from None
        except ApiError as error:
            raise TokenUnavailable(f"the token cannot be reviewed: {error}") from None
        if is_accepted(status, self._audience, claimed):
            return _Known(identity=claimed, accepted=True, until=expires)
        return _Known(identity=claimed, accepted=False, until=self._now() + _REFUSAL_SECONDS)

    async def _ask(self, token: str) -> Mapping[str, Any]:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [self._audience]},
        }
        review = await self._kube.create(resource_path("authentication.k8s.io/v1", "tokenreviews"), body)
        return review.get("status") or {}


def identity_of(claims: Mapping[str, Any]) -> PodIdentity:
    """Return the pod in the claims of a bound token. Raises TokenRejected if it is bound to none."""
    bound = claims.get("kubernetes.io")
    pod = bound.get("pod") if isinstance(bound, Mapping) else None
    if not isinstance(bound, Mapping) or not isinstance(pod, Mapping):
        raise TokenRejected("the token is not bound to a pod")
    parts = bound.get("namespace"), pod.get("name"), pod.get("uid")
    if not all(isinstance(part, str) and part for part in parts):
        raise TokenRejected("the token does not name its pod")
    return PodIdentity(namespace=str(parts[0]), pod_name=str(parts[1]), pod_uid=str(parts[2]))


def is_accepted(status: Mapping[str, Any], audience: str, claimed: PodIdentity) -> bool:
    """Return whether a TokenReview's *status* says that the token is good, for *audience*, and of that pod."""
    user = status.get("user") or {}
    extra = user.get("extra") or {}
    return (
        status.get("authenticated") is True
        and audience in (status.get("audiences") or ())
        and str(user.get("username")).startswith(f"system:serviceaccount:{claimed.namespace}:")
        and extra.get(f"{_EXTRA}pod-uid") == [claimed.pod_uid]
        and extra.get(f"{_EXTRA}pod-name") == [claimed.pod_name]
    )
