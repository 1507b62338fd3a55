"""What a TenantQuota may say: one that the operator cannot read would put its tenant on hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from longtask_operator.api.quantity import parse_quantity
from tests.support.quantities import NO_QUANTITIES, QUANTITIES
from tests.support.rules import Api, ControlPlane, accepted, installed, refused

pytestmark = pytest.mark.integration

HOUR = {"name": "hour", "windowSeconds": 3600}


def a_quota(name: str = "team-a", **spec: Any) -> dict[str, Any]:
    """Return the manifest of a TenantQuota."""
    return {"apiVersion": "longtask.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> Iterator[Api]:
    with installed(control_plane, "quota-policies") as api:
        yield api


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"concurrency": {"nominal": 0}},
        {"cpu": {"nominal": "500m"}, "memory": {"nominal": "1.5Gi"}, "maxSize": {"cpu": 2, "memory": "4Gi"}},
        {"cohort": "research", "weight": 1000, "concurrency": {"nominal": 5, "borrowingLimit": 0, "lendingLimit": 2}},
        {"cpu": {"nominal": 8, "borrowingLimit": "4"}, "memory": {"nominal": "32Gi", "lendingLimit": "500Mi"}},
        {"stopPolicy": "Hold", "maxQueued": 0, "maxPriority": -1000, "perUser": {"maxConcurrency": 0}},
        {"budgets": [{**HOUR, "cpuHours": 1}, {"name": "month", "windowSeconds": 2592000, "memoryGibHours": 9}]},
        {"budgets": [{**HOUR, "cpuHours": 1, "memoryGibHours": 1, "warnPercent": 1, "whenSpent": "WarnOnly"}]},
    ],
    ids=str,
)
def test_accepted(api: Api, spec: dict[str, Any]) -> None:
    assert accepted(api.create(a_quota(**spec), "--dry-run=server"))


@pytest.mark.parametrize(
    ("name", "spec", "says"),
    [
        ("team.a", {}, "metadata.name is the name of a tenant: at most 63"),
        ("a" * 64, {}, "metadata.name is the name of a tenant: at most 63"),
        ("a", {"cpu": {"nominal": "much"}}, "spec.cpu.nominal: 'much' is not a quantity; write for example 500m"),
        ("a", {"memory": {"nominal": "32GB"}}, "spec.memory.nominal: '32GB' is not a quantity; write for example"),
        ("a", {"memory": {"nominal": -1}}, "spec.memory.nominal: '-1' is not a quantity; write for example"),
        ("a", {"maxSize": {"cpu": "2 cores"}}, "spec.maxSize.cpu: '2 cores' is not a quantity; write for example"),
        ("a", {"maxSize": {"memory": "4 Gi"}}, "spec.maxSize.memory: '4 Gi' is not a quantity; write for example"),
        ("a", {"concurrency": {"nominal": -1}}, "spec.concurrency.nominal"),
        ("a", {"cpu": {"nominal": "8", "borrowingLimit": "some"}}, "spec.cpu.borrowingLimit: 'some' is not a"),
        ("a", {"cpu": {"nominal": "8", "lendingLimit": "some"}}, "spec.cpu.lendingLimit: 'some' is not a quantity;"),
        ("a", {"memory": {"nominal": "8", "borrowingLimit": "1k i"}}, "spec.memory.borrowingLimit: '1k i' is not a"),
        ("a", {"memory": {"nominal": "8Gi", "lendingLimit": "1 Gi"}}, "spec.memory.lendingLimit: '1 Gi' is not a"),
        ("a", {"weight": 0}, "should be greater than or equal to 1"),
        ("a", {"cohort": "My.Cohort"}, "spec.cohort"),
        ("a", {"stopPolicy": "Never"}, 'Unsupported value: "Never"'),
        ("a", {"budgets": [HOUR]}, "a budget limits something; set cpuHours, memoryGibHours or both"),
        ("a", {"budgets": [{**HOUR, "cpuHours": 0}]}, "should be greater than or equal to 1"),
        ("a", {"budgets": [{**HOUR, "cpuHours": 1}, {**HOUR, "cpuHours": 2}]}, "Duplicate value"),
        ("a", {"budgets": [{"name": "n", "cpuHours": 1}]}, "spec.budgets[0].windowSeconds: Required value"),
        ("a", {"budgets": [{**HOUR, "cpuHours": 1, "name": str(n)} for n in range(5)]}, "must have at most 4 items"),
    ],
    ids=str,
)
def test_refused(api: Api, name: str, spec: dict[str, Any], says: str) -> None:
    assert refused(api.create(a_quota(name, **spec), "--dry-run=server"), says)


@pytest.mark.parametrize("text", QUANTITIES)
def test_every_quantity_that_the_operator_reads_is_accepted(api: Api, text: str | int) -> None:
    parse_quantity(text)
    assert accepted(api.create(a_quota(memory={"nominal": text}), "--dry-run=server"))


@pytest.mark.parametrize("text", NO_QUANTITIES)
def test_what_the_operator_cannot_read_is_refused(api: Api, text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        parse_quantity(text)
    assert refused(api.create(a_quota(memory={"nominal": text}), "--dry-run=server"), "write for example 500m or 2Gi")
