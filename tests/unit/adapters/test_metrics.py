"""Label values of tenants: bounded, and for those with a TenantQuota first."""

from __future__ import annotations

import pytest

from longtask_operator.adapters.metrics import OTHER, Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(version="test", max_tenants=2)


def count(metrics: Metrics, tenant: str, phase: str = "Running", step: int = 1, **is_now: bool) -> None:
    flags = {"dead_lettered": False, "stuck": False, "at_risk": False, **is_now}
    metrics.count_task(tenant, phase, step, **flags)


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"longtask_{name}", labels)


def test_whoever_comes_has_a_label_while_there_are_any(metrics: Metrics) -> None:
    assert [metrics.tenant(name) for name in ("a", "b", "c", "a")] == ["a", "b", OTHER, "a"]


def test_no_tenant_counts_as_other(metrics: Metrics) -> None:
    assert [metrics.tenant(None), metrics.tenant("")] == [OTHER, OTHER]


def test_a_quota_takes_the_label_of_the_newest_without_one(metrics: Metrics) -> None:
    for name in ("a", "b", "c"):
        metrics.tenant(name)
    metrics.set_quota("c", True)
    assert [metrics.tenant(name) for name in ("a", "b", "c")] == ["a", OTHER, "c"]


def test_a_quota_has_a_label_before_any_task_is_seen(metrics: Metrics) -> None:
    for name in ("x", "y"):
        metrics.set_quota(name, True)
    assert [metrics.tenant(name) for name in ("a", "x", "y")] == [OTHER, "x", "y"]


def test_beyond_the_bound_a_quota_is_other_too(metrics: Metrics) -> None:
    for name in ("a", "b", "c"):
        metrics.set_quota(name, True)
    assert [metrics.tenant(name) for name in ("a", "b", "c")] == ["a", "b", OTHER]


def test_a_tenant_whose_quota_goes_keeps_its_label_until_another_needs_it(metrics: Metrics) -> None:
    for name in ("a", "b"):
        metrics.set_quota(name, True)
    metrics.set_quota("a", False)
    assert metrics.tenant("a") == "a"
    metrics.set_quota("c", True)
    assert [metrics.tenant(name) for name in ("a", "b", "c")] == [OTHER, "b", "c"]


def test_what_is_counted_moves_along(metrics: Metrics) -> None:
    for name in ("a", "b", "b", "c", "d"):
        count(metrics, name, stuck=True)
    metrics.set_quota("c", True)
    gauges = {name: sample(metrics, "tasks", tenant=name, phase="Running") for name in ("a", "b", "c", OTHER)}
    assert gauges == {"a": 1, "b": None, "c": 1, OTHER: 3}
    assert sample(metrics, "stuck", tenant=OTHER) == 3
    for name in ("b", "c", "d"):
        count(metrics, name, step=-1, stuck=True)
    assert sample(metrics, "tasks", tenant="c", phase="Running") == 0
    assert sample(metrics, "tasks", tenant=OTHER, phase="Running") == 1


def test_nothing_of_its_own_is_left_of_who_lost_its_label(metrics: Metrics) -> None:
    for name in ("a", "b"):
        count(metrics, name)
        metrics.admitted(name)
        metrics.held_back(name, "UserLimit")
        metrics.queued(name, 1, 1.0)
        metrics.quota(name, "concurrency", 1, 5)
        metrics.budgets(name, {"month": 0.5})
    metrics.set_quota("c", True)
    assert b'tenant="b"' not in metrics.exposition()
    assert b'tenant="a"' in metrics.exposition()
    metrics.budgets("b", {})
    metrics.set_quota("b", True)
    metrics.budgets("b", {"month": 0.7})
    assert sample(metrics, "budget_used_ratio", tenant="b", budget="month") == 0.7
