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


class TestForgotten:
    """A tenant that is gone leaves its label to others."""

    def test_nothing_of_its_own_is_left(self, metrics: Metrics) -> None:
        count(metrics, "a")
        metrics.admitted("a")
        metrics.queued("a", 1, 1.0)
        metrics.quota("a", "concurrency", 1, 5)
        metrics.budgets("a", {"month": 0.5})
        count(metrics, "a", step=-1)
        metrics.forget("a")
        assert metrics.tenants() == []
        assert b'tenant="a"' not in metrics.exposition()

    def test_the_next_who_comes_gets_its_label(self, metrics: Metrics) -> None:
        for name in ("a", "b", "c"):
            metrics.tenant(name)
        metrics.forget("a")
        assert [metrics.tenant(name) for name in ("c", "a", "b")] == ["c", OTHER, "b"]

    def test_what_was_counted_of_the_next_one_as_other_is_its_own_now(self, metrics: Metrics) -> None:
        for name in ("a", "b", "c", "c", "d"):
            count(metrics, name)
        metrics.forget("a")
        count(metrics, "c")
        gauges = {name: sample(metrics, "tasks", tenant=name, phase="Running") for name in ("b", "c", OTHER)}
        assert gauges == {"b": 1, "c": 3, OTHER: 2}  # of a, which is still there, and of d
        for _ in range(3):
            count(metrics, "c", step=-1)
        assert sample(metrics, "tasks", tenant="c", phase="Running") == 0

    def test_one_without_a_label_can_be_forgotten_too(self, metrics: Metrics) -> None:
        for name in ("a", "b", "c"):
            count(metrics, name)
        metrics.forget("c")
        assert [metrics.tenant(name) for name in ("a", "b", "c")] == ["a", "b", OTHER]


def test_of_thousands_that_come_and_go_only_labels_are_remembered(metrics: Metrics) -> None:
    for number in range(1_000):
        count(metrics, f"t{number}", stuck=True)
        count(metrics, f"t{number}", step=-1, stuck=True)
    assert metrics._series._tallies == {}
    assert metrics.tenants() == ["t0", "t1"]
