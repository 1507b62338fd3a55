"""TenantQuotas that cannot be read, in a cohort on the real API server: those of a CRD whose schema said less.

The schema is relaxed for all stories, as that of another version may be; there are no policies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.live import Client, RefusedError, await_, condition
from tests.support.operating import Stage, operating
from tests.support.tenants import QUOTAS, Tenant

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
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
    await_("the API server takes what cannot be read", lambda: takes(client, {"cohort": 7}), 90)
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


@dataclass(frozen=True, slots=True)
class Case:
    """A quota that says *sound* and then *broken*, and how far its cohort of two is used when one has two attempts."""

    sound: Mapping[str, Any]
    broken: Mapping[str, Any]
    used: str

    said: str  #: what its condition begins with, besides the name of the quota

    @property
    def field(self) -> str:
        return next(iter(self.broken))


ONE: Mapping[str, Any] = {"concurrency": {"nominal": 1}}
CASES = (
    Case(ONE, {"concurrency": {"nominal": "many"}}, "2 of 1 concurrent tasks", "spec.concurrency.nominal: 'many' is"),
    Case({"cpu": {"nominal": "250m"}}, {"cpu": {"nominal": "lots"}}, "500m of 250m CPU", "spec.cpu.nominal: 'lots' is"),
    Case(
        {"memory": {"nominal": "512Mi"}}, {"memory": {"nominal": []}}, "1Gi of 512Mi memory", "spec.memory.nominal: []"
    ),
    Case(ONE, {"cohort": 7}, "2 of 2 concurrent tasks", "spec.cohort: 7 is not"),
)


class Pair:
    """A tenant that has borrowed all that the other lends, and that other, of which nothing runs."""

    def __init__(self, ground: Stage, case: Case, name: str) -> None:
        self.case, self.cohort = case, f"unread-{case.field}-{name}"
        self.borrower, self.lender = (
            Tenant.open(ground, f"{self.cohort}-{one}", cohort=self.cohort, **case.sound) for one in "ab"
        )
        self.borrower.submit("one", "two", cpu="250m", memory="512Mi")
        self.borrower.until(Admitted=2)

    def spoil(self) -> None:
        """Let the borrower's quota say what cannot be read."""
        self.borrower.change_quota(**self.case.broken)

    def counts(self) -> None:
        """See that what is borrowed counts, until it has ended and the quota is corrected."""
        borrower, lender, cohort = self.borrower, self.lender, self.cohort
        ready = condition(borrower.quota(), "Ready")
        assert (ready["status"], ready["reason"]) == ("False", "Invalid")
        assert ready["message"].startswith(f"TenantQuota {borrower.name} cannot be read: {self.case.said}")
        lender.submit("mine", cpu="250m", memory="512Mi")
        message = lender.until_waits("mine", "CohortExhausted")["message"]
        assert message.startswith(f"cohort {cohort} uses {self.case.used} ({borrower.name} "), message
        borrower.submit("three", cpu="250m", memory="512Mi")
        assert "cannot be read" in borrower.until_waits("three", "TenantStopped")["message"]
        borrower.end("one", "two")
        lender.until_admitted("mine")
        borrower.until(Succeeded=2, TenantStopped=1)
        borrower.change_quota(cohort=cohort, **self.case.sound)
        borrower.until_admitted("three")
        await_("ready", lambda: condition(borrower.quota(), "Ready").get("status") == "True", 90)


def test_what_was_borrowed_counts_in_its_cohort(ground: Stage) -> None:
    """Also for an operator that has never known a quota that could be read."""
    with ThreadPoolExecutor(len(CASES)) as pool:
        known = list(pool.map(lambda case: Pair(ground, case, "known"), CASES))
        list(pool.map(Pair.spoil, known))
        list(pool.map(Pair.counts, known))
        others = list(pool.map(lambda case: Pair(ground, case, "anew"), CASES))
        list(pool.map(Pair.spoil, others))
        ground.operators[-1].end()
        ground.start(identity="next")
        list(pool.map(Pair.counts, others))
