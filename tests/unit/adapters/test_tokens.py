from __future__ import annotations

from typing import Any

import pytest

from longtask_operator.adapters.tokens import PodIdentity, TokenRejected, identity_of, is_accepted

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
