from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.api.errors import SpecError
from longtask_operator.api.quantity import GIBIBYTE
from longtask_operator.api.tenantquota import TenantQuotaSpec
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.quota import (
    UNLIMITED,
    Amounts,
    Limits,
    default_limits,
    describe_shortage,
    exceeds_max_size,
    limits_of,
    never_fits,
    usage_of,
)
from longtask_operator.core.sizing import Size

SMALL, LARGE = Size(cpu=250, memory=GIBIBYTE // 2), Size(cpu=4000, memory=8 * GIBIBYTE)


def limits(**spec: Any) -> Limits:
    return limits_of("team-a", TenantQuotaSpec.model_validate(spec))


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"cpu": {"nominal": "lots"}}, "spec.cpu.nominal"),
        ({"memory": {"nominal": "lots"}}, "spec.memory.nominal"),
        ({"cpu": {"nominal": 1, "borrowingLimit": "lots"}}, "spec.cpu.borrowingLimit"),
        ({"memory": {"nominal": 1, "lendingLimit": "lots"}}, "spec.memory.lendingLimit"),
        ({"maxSize": {"cpu": "lots"}}, "spec.maxSize.cpu"),
        ({"maxSize": {"memory": "lots"}}, "spec.maxSize.memory"),
    ],
)
def test_a_quantity_that_cannot_be_read_is_named_with_its_field(spec: dict[str, Any], path: str) -> None:
    with pytest.raises(SpecError) as found:
        limits(**spec)
    assert str(found.value) == f"{path}: 'lots' is not a quantity; write for example 500m or 2Gi"


def test_every_field_of_a_quota_becomes_a_limit() -> None:
    assert limits(
        concurrency={"nominal": 5},
        cpu={"nominal": "8"},
        memory={"nominal": "32Gi"},
        perUser={"maxConcurrency": 2},
        maxQueued=7,
        maxSize={"cpu": "1", "memory": "2Gi"},
        maxPriority=10,
        stopPolicy="Hold",
    ) == Limits(
        origin="TenantQuota team-a",
        concurrency=5,
        cpu=8000,
        memory=32 * GIBIBYTE,
        per_user=2,
        max_queued=7,
        max_cpu=1000,
        max_memory=2 * GIBIBYTE,
        max_priority=10,
        on_hold=True,
    )


def test_what_a_quota_does_not_say_does_not_limit() -> None:
    assert limits() == Limits(origin="TenantQuota team-a")
    assert not limits(stopPolicy="None").on_hold


def test_a_quantity_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(ValueError, match="lots"):
        limits(cpu={"nominal": "lots"})


def test_the_default_limits_what_it_names() -> None:
    assert default_limits(5, "", "") == Limits(origin="the default quota", concurrency=5)
    assert default_limits(5, "2", "4Gi").cpu == 2000


@pytest.mark.parametrize(
    ("limit", "fitting"),
    [
        (UNLIMITED, True),
        (Limits(concurrency=3), True),
        (Limits(concurrency=2), False),
        (Limits(cpu=750), True),
        (Limits(cpu=749), False),
        (Limits(memory=3 * GIBIBYTE // 2), True),
        (Limits(memory=3 * GIBIBYTE // 2 - 1), False),
    ],
)
def test_a_shortage_is_told_beyond_the_limit_of_each_resource(limit: Limits, fitting: bool) -> None:
    usage = Amounts(concurrency=2, cpu=500, memory=GIBIBYTE)
    assert (describe_shortage("team-a", SMALL, usage, limit) == "") is fitting


def test_a_shortage_is_told_in_numbers() -> None:
    usage = Amounts(concurrency=5, cpu=1250, memory=GIBIBYTE)
    assert describe_shortage("team-a", SMALL, usage, Limits(concurrency=5)) == (
        "tenant team-a uses 5 of 5 concurrent tasks"
    )
    assert describe_shortage("team-a", LARGE, usage, Limits(cpu=5000)) == (
        "tenant team-a uses 1250m of 5 CPU; this task needs 4"
    )
    assert describe_shortage("team-a", LARGE, usage, Limits(memory=8 * GIBIBYTE)) == (
        "tenant team-a uses 1Gi of 8Gi memory; this task needs 8Gi"
    )


def test_what_can_never_fit_differs_from_what_must_wait() -> None:
    assert "concurrency is 0" in never_fits(SMALL, Limits(concurrency=0))
    assert never_fits(LARGE, Limits(origin="TenantQuota team-a", cpu=3999)).startswith("the attempt needs 4 CPU")
    assert "8Gi memory" in never_fits(LARGE, Limits(memory=7 * GIBIBYTE))
    assert never_fits(LARGE, Limits(concurrency=1, cpu=4000, memory=8 * GIBIBYTE)) == ""


def test_one_attempt_may_be_as_large_as_max_size() -> None:
    assert exceeds_max_size(LARGE, Limits(max_cpu=4000, max_memory=8 * GIBIBYTE)) == ""
    assert "more CPU" in exceeds_max_size(LARGE, Limits(max_cpu=2000))
    assert "more memory" in exceeds_max_size(LARGE, Limits(max_memory=GIBIBYTE))


@given(st.lists(st.sampled_from([SMALL, LARGE]), max_size=20))
def test_usage_is_the_sum_of_the_entries(sizes: list[Size]) -> None:
    entries = [LedgerEntry(uid=str(n), attempt=1, generation=1, size=size) for n, size in enumerate(sizes)]
    expected = Amounts()
    for size in sizes:
        expected = expected.plus(size)
    assert usage_of(entries) == expected
