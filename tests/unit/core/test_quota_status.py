from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from longtask_operator.api.quantity import GIBIBYTE
from longtask_operator.core.budgets import Budget, BudgetUse
from longtask_operator.core.quota import Amounts, Limits
from longtask_operator.core.quota_status import TenantUse, quota_status
from tests.builders import at, wire

MONTH = Budget(name="month", window=timedelta(days=30), cpu_hours=500)
USE = TenantUse(usage=Amounts(concurrency=2, cpu=1500, memory=3 * GIBIBYTE), queued=4, oldest=at(-60))


def status(before: dict[str, Any], use: TenantUse = USE, seconds: float = 0) -> dict[str, Any]:
    return quota_status(before, 3, use, now=at(seconds))


def spent(hours: float) -> TenantUse:
    return TenantUse(usage=Amounts(), budgets=[BudgetUse(budget=MONTH, cpu_hours=hours, memory_gib_hours=9)])


def test_it_says_what_is_used_and_who_waits() -> None:
    found = status({})
    assert (found["observedGeneration"], found["admitted"], found["queued"]) == (3, 2, 4)
    assert found["usage"] == {"concurrency": 2, "cpu": "1500m", "memory": "3Gi"}
    assert found["oldestQueuedTime"] == wire(-60)


def test_nothing_changes_with_time_alone() -> None:
    found = status({})
    assert status(found, seconds=100) == found


def test_a_budget_is_written_when_its_percent_moves_and_not_with_each_second() -> None:
    found = status({}, spent(315.0))
    assert found["budgets"] == [{"name": "month", "percent": 63, "state": "Ok", "cpuHoursUsed": "315.00"}]
    assert status(found, spent(319.9)) == found
    assert status(found, spent(320.0))["budgets"][0]["cpuHoursUsed"] == "320.00"
    assert status(found, spent(500.0))["budgets"][0]["state"] == "Spent"


def test_it_says_where_limits_of_persons_do_not_hold() -> None:
    def conditions(created_by: Any, per_user: int | None = 2) -> list[Any]:
        use = TenantUse(usage=Amounts(), limits=Limits(per_user=per_user), created_by=created_by)
        return [(c["type"], c["status"], c["reason"]) for c in status({}, use)["conditions"]]

    ready = ("Ready", "True", "Accepted")
    assert conditions("Mutate") == [ready]
    assert conditions("Validate") == [ready, ("PerUserNotEnforced", "True", "CreatedByValidate")]
    assert conditions("Off") == [ready, ("PerUserNotEnforced", "True", "CreatedByOff")]
    assert conditions("Off", per_user=None) == [ready]


def test_it_is_not_ready_while_it_cannot_be_read() -> None:
    unreadable = TenantUse(usage=Amounts(), limits=Limits(on_hold=True, unreadable="it cannot be read: why"))
    found = status({}, unreadable)
    (ready,) = found["conditions"]
    assert (ready["type"], ready["status"], ready["reason"]) == ("Ready", "False", "Invalid")
    assert ready["message"] == "it cannot be read: why"
    assert status(found, unreadable, seconds=100) == found
    (ready,) = status(found, seconds=100)["conditions"]
    assert (ready["status"], ready["lastTransitionTime"]) == ("True", wire(100))


def test_what_is_used_stays_as_it_was_while_nobody_knows_it() -> None:
    """A ledger that cannot be read is not empty: what stands in it runs."""
    cohort = Limits(cohort="research", concurrency=1)
    found = status({}, replace(spent(315.0), usage=USE.usage, limits=cohort))
    unknown = TenantUse(usage=Amounts(), limits=cohort, queued=9, unknown="the ledger cannot be read: why")
    after = status(found, unknown, seconds=100)
    kept = ("admitted", "usage", "borrowed", "budgets")
    assert {key: after[key] for key in kept} == {key: found[key] for key in kept}
    assert after["queued"] == 9
    (ready,) = after["conditions"]
    assert (ready["status"], ready["reason"]) == ("False", "LedgerUnreadable")
    assert ready["message"] == "the ledger cannot be read: why"
    assert not {"admitted", "usage"} & status({}, unknown).keys(), "what was never known is not said to be nothing"


def test_conditions_keep_the_time_since_when_they_hold() -> None:
    use = TenantUse(usage=Amounts(), limits=Limits(per_user=2), created_by="Off")
    found = status({}, use)
    assert status(found, use, seconds=100) == found


def test_without_budgets_nothing_is_said_of_them() -> None:
    assert "budgets" not in status(status({}, spent(1.0)))


def test_it_says_what_is_borrowed_of_a_cohort() -> None:
    use = TenantUse(usage=USE.usage, limits=Limits(cohort="research", concurrency=1, cpu=2000))
    assert status({}, use)["borrowed"] == {"concurrency": 1, "cpu": "0", "memory": "0Gi"}
    assert "borrowed" not in status({})
