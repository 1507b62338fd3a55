"""TenantQuotas that cannot be read, in a cohort on the real API server: those of a CRD whose schema said less.

The schema is relaxed for all stories, as that of another version may be; there are no policies.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import pytest

from tests.support.live import Client, RefusedError, await_, condition
from tests.support.operating import Stage, operating
from tests.support.tenants import QUOTAS, Tenant

pytestmark = [pytest.mark.integration, pytest.mark.timeout(200)]
CRD_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/tenantquotas.longtask.dev"


@pytest.fixture(scope="module")
def ground(control_plane: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with operating(control_plane, tmp_path_factory.mktemp("operator"), "unreadable") as stage, relaxed(stage.client):
        stage.start()
        yield stage


@contextmanager
def relaxed(client: Client) -> Iterator[None]:
    """Let the API server take whatever the spec of a TenantQuota says."""
    crd = client.request("GET", CRD_PATH)
    strict = deepcopy(crd["spec"])
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    client.request("PUT", CRD_PATH, crd)
    await_("the API server takes what cannot be read", lambda: takes(client, {"cohort": 7}), 20)
    try:
        yield
    finally:
        client.request("PUT", CRD_PATH, client.request("GET", CRD_PATH) | {"spec": strict})


def takes(client: Client, spec: dict[str, Any]) -> bool:
    """Return whether the API server would take a TenantQuota that says *spec*."""
    meta = {"name": "unreadable-trial"}
    body = {"apiVersion": "longtask.dev/v1alpha1", "kind": "TenantQuota", "metadata": meta, "spec": spec}
    try:
        client.request("POST", QUOTAS, body)
    except RefusedError:
        return False
    client.request("DELETE", f"{QUOTAS}/{meta['name']}")
    return True


def cohort_of_two(ground: Stage, name: str, **amounts: Any) -> tuple[Tenant, Tenant]:
    """Return a tenant that has borrowed all that the other lends, and that other, of which nothing runs."""
    borrower, lender = (Tenant.open(ground, f"{name}-{one}", cohort=name, **amounts) for one in "ab")
    borrower.submit("one", "two", cpu="250m", memory="512Mi")
    borrower.until(Admitted=2)
    return borrower, lender


def is_unready(tenant: Tenant, field: str) -> None:
    """Assert that the quota of *tenant* says that *field* cannot be read."""
    ready = condition(tenant.quota(), "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "Invalid")
    assert ready["message"].startswith(f"TenantQuota {tenant.name} cannot be read: ")
    assert field in ready["message"]


def start_anew(ground: Stage) -> None:
    """Let another operator lead, which has never known a quota that could be read."""
    ground.operators[-1].end()
    ground.start(identity=f"next-{len(ground.operators)}")


@pytest.mark.parametrize("anew", [False, True], ids=["known-before", "started-anew"])
@pytest.mark.parametrize(
    ("sound", "broken", "exhausted"),
    [
        ({"concurrency": {"nominal": 1}}, {"concurrency": {"nominal": "many"}}, "2 of 1 concurrent tasks"),
        ({"cpu": {"nominal": "250m"}}, {"cpu": {"nominal": "lots"}}, "500m of 250m CPU"),
        ({"memory": {"nominal": "512Mi"}}, {"memory": {"nominal": []}}, "1Gi of 512Mi memory"),
        ({"concurrency": {"nominal": 1}}, {"cohort": 7}, "2 of 2 concurrent tasks"),
    ],
    ids=["concurrency", "cpu", "memory", "cohort"],
)
def test_what_was_borrowed_counts_in_its_cohort(
    ground: Stage, sound: dict[str, Any], broken: dict[str, Any], exhausted: str, anew: bool
) -> None:
    field = next(iter(broken))
    name = f"unread-{field}-{'anew' if anew else 'known'}"
    borrower, lender = cohort_of_two(ground, name, **sound)
    borrower.change_quota(**broken)
    if anew:
        start_anew(ground)
    is_unready(borrower, field)
    lender.submit("mine", cpu="250m", memory="512Mi")
    message = lender.until_waits("mine", "CohortExhausted")["message"]
    assert message.startswith(f"cohort {name} uses {exhausted} ({borrower.name} "), message
    borrower.submit("three", cpu="250m", memory="512Mi")
    assert "cannot be read" in borrower.until_waits("three", "TenantStopped")["message"]
    borrower.end("one", "two")
    lender.until_admitted("mine")
    borrower.until(Succeeded=2, TenantStopped=1)
    borrower.change_quota(cohort=name, **sound)
    borrower.until_admitted("three")
    await_("ready", lambda: condition(borrower.quota(), "Ready").get("status") == "True", 30)
