from __future__ import annotations

import base64
import hmac
import time
from typing import Any, cast

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from longtask_operator.adapters.errors import ApiError, Forbidden, Unavailable
from longtask_operator.adapters.kube import Kube
from longtask_operator.adapters.tokens import (
    PodIdentity,
    TokenRejected,
    TokenUnavailable,
    TokenVerifier,
    identity_of,
    is_accepted,
)

POD = PodIdentity(namespace="team-a", pod_name="wordcount-1-x", pod_uid="7c9d")
BOUND = {"namespace": "team-a", "pod": {"name": "wordcount-1-x", "uid": "7c9d"}, "serviceaccount": {"name": "default"}}


def status(**changes: Any) -> dict[str, Any]:
    return {"authenticated": True, "audiences": ["longtask"], "user": user()} | changes


def user(name: str = "system:serviceaccount:team-a:default", **extra: list[str]) -> dict[str, Any]:
    said = {"pod-name": ["wordcount-1-x"], "pod-uid": ["7c9d"]} | {k.replace("_", "-"): v for k, v in extra.items()}
    return {"username": name, "extra": {f"authentication.kubernetes.io/{key}": value for key, value in said.items()}}


def test_a_bound_token_names_its_pod() -> None:
    assert identity_of({"kubernetes.io": BOUND}) == POD


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({}, id="no-kubernetes-claims"),
        pytest.param({"kubernetes.io": "x"}, id="not-an-object"),
        pytest.param({"kubernetes.io": {"namespace": "team-a"}}, id="bound-to-nothing"),
        pytest.param({"kubernetes.io": BOUND | {"pod": "x"}}, id="pod-as-text"),
        pytest.param({"kubernetes.io": BOUND | {"pod": {"name": "x"}}}, id="no-uid"),
        pytest.param({"kubernetes.io": BOUND | {"pod": {"name": "x", "uid": ""}}}, id="empty-uid"),
        pytest.param({"kubernetes.io": BOUND | {"namespace": None}}, id="no-namespace"),
    ],
)
def test_a_token_without_a_pod_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(TokenRejected):
        identity_of(claims)


def test_a_review_of_that_pod_is_accepted() -> None:
    assert is_accepted(status(), "longtask", POD)


@pytest.mark.parametrize(
    "review",
    [
        pytest.param({}, id="nothing"),
        pytest.param(status(authenticated=False), id="not-authenticated"),
        pytest.param(status(authenticated="true"), id="not-a-boolean"),
        pytest.param(status(audiences=["https://kubernetes.default.svc"]), id="other-audience"),
        pytest.param(status(audiences=None), id="audiences-not-checked-by-the-server"),
        pytest.param(status(user=user(name="system:serviceaccount:team-b:default")), id="other-namespace"),
        pytest.param(status(user=user(name="alice")), id="no-service-account"),
        pytest.param(status(user=user(pod_uid=["other"])), id="other-pod"),
        pytest.param(status(user=user(pod_name=["other"])), id="other-pod-name"),
        pytest.param(status(user=user(pod_uid=["7c9d", "other"])), id="two-pods"),
        pytest.param(status(user={"username": "system:serviceaccount:team-a:default"}), id="no-pod"),
        pytest.param(status(user=None), id="no-user"),
    ],
)
def test_any_other_review_is_not(review: dict[str, Any]) -> None:
    assert not is_accepted(review, "longtask", POD)


RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


class Server:
    """An API server whose keys we hold, so that it can sign what a real one never would; counts what it is asked."""

    def __init__(self) -> None:
        self.reviews = 0
        self.fault: ApiError | None = None
        self.review: dict[str, Any] = status()

    async def get(self, path: str) -> dict[str, Any]:
        rsa_jwk = RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True)
        ec_jwk = ECAlgorithm.to_jwk(EC_KEY.public_key(), as_dict=True)
        return {"keys": [rsa_jwk | {"kid": "rsa", "alg": "RS256"}, ec_jwk | {"kid": "ec", "alg": "ES256"}]}

    async def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert path == "/apis/authentication.k8s.io/v1/tokenreviews"
        assert body["spec"]["audiences"] == ["longtask"]
        self.reviews += 1
        if self.fault:
            raise self.fault
        return {"status": self.review}


def sign(key: Any = RSA_KEY, algorithm: str = "RS256", kid: str = "rsa", bound: Any = BOUND, **claims: Any) -> str:
    said = {"aud": ["longtask"], "exp": int(time.time()) + 600, "iss": "x", "kubernetes.io": bound} | claims
    said = {name: value for name, value in said.items() if value is not None}
    return jwt.encode(said, key, algorithm=algorithm, headers={"kid": kid})


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def verifier(server: Server) -> TokenVerifier:
    return TokenVerifier(cast(Kube, server))


class TestVerifying:
    async def test_a_good_token_is_reviewed_once(self, server: Server, verifier: TokenVerifier) -> None:
        token = sign()
        assert [await verifier.verify(token) for _ in range(3)] == [POD] * 3
        assert server.reviews == 1
        assert await verifier.verify(sign(EC_KEY, "ES256", "ec")) == POD

    @pytest.mark.parametrize(
        "token",
        [
            pytest.param(sign(exp=int(time.time()) - 60), id="expired"),
            pytest.param(sign(exp=None), id="never-expires"),
            pytest.param(sign(nbf=int(time.time()) + 86_400), id="not-yet-valid"),
            pytest.param(sign(aud=["https://kubernetes.default.svc"]), id="other-audience"),
            pytest.param(sign(aud=None), id="no-audience"),
            pytest.param(sign(rsa.generate_private_key(public_exponent=65537, key_size=2048)), id="own-key"),
            pytest.param(sign(kid="invented"), id="invented-key"),
            pytest.param(sign(kid="ec"), id="other-kind-of-key"),
            pytest.param(sign(None, "none"), id="unsigned"),
            pytest.param(sign("x" * 64, "HS256"), id="symmetric"),
            pytest.param(sign(bound=None), id="no-pod"),
            pytest.param("", id="empty"),
            pytest.param("a.b.c", id="no-json"),
            pytest.param("x" * 100_000, id="huge"),
        ],
    )
    async def test_garbage_costs_no_request(self, server: Server, verifier: TokenVerifier, token: str) -> None:
        with pytest.raises(TokenRejected) as caught:
            await verifier.verify(token)
        assert caught.value.identity is None
        assert server.reviews == 0

    async def test_a_public_key_is_not_taken_for_a_secret(self, server: Server, verifier: TokenVerifier) -> None:
        encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        said = ".".join(sign("x" * 64, "HS256").split(".")[:2])
        forged = hmac.digest(RSA_KEY.public_key().public_bytes(encoding, form), said.encode(), "sha256")
        with pytest.raises(TokenRejected):
            await verifier.verify(f"{said}.{base64.urlsafe_b64encode(forged).decode().rstrip('=')}")
        assert server.reviews == 0

    async def test_a_token_that_the_server_refuses_keeps_its_name_and_is_not_asked_about_again(
        self, server: Server, verifier: TokenVerifier
    ) -> None:
        server.review = {"authenticated": False, "error": "pod has been deleted"}
        token = sign()
        for _ in range(3):
            with pytest.raises(TokenRejected) as caught:
                await verifier.verify(token)
            assert caught.value.identity == POD
        assert server.reviews == 1

    @pytest.mark.parametrize("fault", [Unavailable(0, "ConnectionLost", "away"), Forbidden(403, "Forbidden", "no")])
    async def test_a_fault_of_the_server_is_not_the_workers(
        self, server: Server, verifier: TokenVerifier, fault: ApiError
    ) -> None:
        known, new = sign(), sign(jti="2")
        await verifier.verify(known)
        server.fault = fault
        assert await verifier.verify(known) == POD
        with pytest.raises(TokenUnavailable):
            await verifier.verify(new)
        server.fault = None
        assert await verifier.verify(new) == POD

    async def test_an_accepted_token_is_not_good_beyond_its_life(self, server: Server) -> None:
        now = [time.time()]
        verifier = TokenVerifier(cast(Kube, server), now=lambda: now[0])
        token = sign(exp=int(now[0]) + 600)
        await verifier.verify(token)
        now[0] += 601
        server.review = {"authenticated": False}
        with pytest.raises(TokenRejected):
            await verifier.verify(token)
