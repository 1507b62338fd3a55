"""Quotas on a real node: never more at once than allowed, the right order, and a word for whoever waits."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.stage import Stage, held, seconds_between, stoppable
from tests.support.live import RefusedError, await_, condition

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
NewStage = Callable[..., Stage]


def waits_as(stage: Stage, name: str, reason: str) -> Any:
    return stage.tasks.until(name, reason, lambda status: (status.get("queue") or {}).get("reason") == reason, 60)


def test_no_more_than_the_quota_runs_at_once_and_all_finish(new_stage: NewStage) -> None:
    stage, names = new_stage("quota", quota=2), [f"t{number}" for number in range(6)]
    for name in names:
        stage.tasks.create(name, "sleep 2")
    queue = waits_as(stage, "t5", "QuotaExhausted")["queue"]
    assert queue["message"] == f"tenant {stage.namespace} uses 2 of 2 concurrent tasks"
    assert 1 <= queue["position"] <= 4
    for name in names:
        status = stage.tasks.until_finished(name)
        assert status["phase"] == "Succeeded"
        assert "queue" not in status
    assert stage.audit() == []
    assert stage.most_at_once() == (2, 2)
    for name in "abcdefgh":
        stage.tasks.create(name, "sleep 3")
    stage.tasks.create(
        "late", "sleep 3", deadlineSeconds=4
    )  # eight before it, two at once, and none took less than 2 s
    estimate = waits_as(stage, "c", "QuotaExhausted")["queue"]["estimatedStart"]
    assert estimate["basis"] == "last 6 attempts of this tenant, 2 at once"
    assert estimate["earliest"] <= stage.tasks.until_finished("c")["startTime"]
    assert stage.tasks.until_finished("late")["reason"] == "Deadline"
    queued = [status for status in stage.statuses("late") if status.get("phase") == "Queued"]
    assert condition(queued[0], "DeadlineAtRisk")["reason"] == "TooLate"  # in the write that says that it waits


def test_waiting_costs_one_write_and_leaves_no_trace_of_itself(new_stage: NewStage) -> None:
    stage = new_stage("waits", quota=1)
    stage.tasks.create("first", held())
    stage.tasks.until_phase("first", "Running")
    stage.tasks.create("second", "true")
    waits_as(stage, "second", "QuotaExhausted")
    stage.let_end("first")
    stage.tasks.until_finished("second")
    waiting = [status for status in stage.statuses("second") if status.get("phase") == "Queued"]
    assert len(waiting) == 1


def test_a_stopped_tenant_starts_nothing_and_then_by_priority(new_stage: NewStage) -> None:
    stage = new_stage("order", quota=1)
    stage.set_quota(stopPolicy="Hold")
    for name, priority in (("low", 0), ("high", 5), ("middle", 1)):
        stage.tasks.create(name, "sleep 1", priority=priority)
    for name in ("low", "high", "middle"):
        assert "stopPolicy Hold" in waits_as(stage, name, "TenantStopped")["queue"]["message"]
    stage.set_quota(stopPolicy="None")
    started = {name: stage.tasks.until_finished(name)["startTime"] for name in ("low", "high", "middle")}
    assert sorted(started, key=lambda name: started[name]) == ["high", "middle", "low"]
    assert seconds_between(started["high"], started["low"]) >= 1


def test_a_drained_tenant_stops_what_runs_and_goes_on_later(new_stage: NewStage) -> None:
    """No retry of the program's own is used: with a budget of 0 it would fail."""
    stage, limits = new_stage("drained", quota=2), {"application": 0, "disruption": 0}
    for name in ("one", "two"):
        script = f"if [ $LONGTASK_ATTEMPT = 1 ]; then {stoppable()}; fi"
        stage.tasks.create(name, script, retry={"limits": limits, "backoff": {"initialSeconds": 1, "maxSeconds": 1}})
    for name in ("one", "two"):
        stage.tasks.until_phase(name, "Running")
    stage.tasks.create("three", "true")
    stage.set_quota(stopPolicy="HoldAndDrain")
    for name in ("one", "two", "three"):
        assert "stopPolicy HoldAndDrain" in waits_as(stage, name, "TenantStopped")["queue"]["message"]
    await_("an empty ledger", lambda: not stage.ledger().strip(), 30)
    stage.set_quota(stopPolicy="None")
    for name in ("one", "two", "three"):
        status = stage.tasks.until_finished(name)
        assert status["phase"] == "Succeeded"
        if name != "three":
            assert (status["attempt"], status["attempts"][0]["cause"]) == (2, "Preempted")
            assert status["attemptCounts"] == {"preempted": 1, "completed": 1}
    assert stage.audit() == []


def test_what_can_never_fit_says_so_at_once_and_starts_when_the_quota_is_corrected(new_stage: NewStage) -> None:
    stage = new_stage("fits")
    stage.set_quota(cpu={"nominal": "500m"}, maxSize={"memory": "2Gi"})
    stage.tasks.create("large", "true", resources={"cpu": "1"})
    stage.tasks.create("fat", "true", resources={"memory": "3Gi"})
    stage.tasks.create("small", "true")
    status = waits_as(stage, "large", "NeverFits")
    assert "1 CPU" in status["queue"]["message"]
    conditions = {condition["type"]: condition["status"] for condition in status["conditions"]}
    assert (conditions["Stalled"], conditions["Ready"], conditions["Finished"]) == ("True", "False", "False")
    assert "maxSize" in waits_as(stage, "fat", "ExceedsMaxSize")["queue"]["message"]
    assert stage.tasks.until_finished("small")["phase"] == "Succeeded"
    stage.set_quota(cpu={"nominal": "1"}, maxSize=None)
    for name in ("large", "fat"):
        assert stage.tasks.until_finished(name)["phase"] == "Succeeded"


def test_a_spent_budget_lets_nothing_start_until_it_is_raised(new_stage: NewStage) -> None:
    """Sixty attempts that hold 4 CPU each spend a CPU-hour in 15 s, and a second one in 15 more; no node runs them."""
    stage, names = new_stage("budget"), [f"t{number}" for number in range(60)]
    stage.set_quota(budgets=[{"name": "hour", "windowSeconds": 3600, "cpuHours": 1, "warnPercent": 50}])
    for name in names:
        stage.tasks.create(name, "true", resources={"cpu": "4"}, nodeSelector={"no": "such"})
    await_("the budget to be spent", lambda: _budget_in_state(stage, "Spent"), 60)
    spent = _budget_in_state(stage, "Spent")
    assert (spent["name"], float(spent["cpuHoursUsed"]) >= 1.0) == ("hour", True)
    stage.tasks.create("late", "true")
    message = waits_as(stage, "late", "BudgetExhausted")["queue"]["message"]
    told = re.search(f"budget hour of TenantQuota {stage.namespace} is spent: ([0-9.]+)", message)
    assert told, message
    assert float(told[1]) >= 1
    for name in names:
        stage.tasks.change(name, cancel=True)
    stage.set_quota(budgets=[{"name": "hour", "windowSeconds": 3600, "cpuHours": 1000}])
    assert stage.tasks.until_finished("late")["phase"] == "Succeeded"
    await_("the raised budget to be Ok", lambda: _budget_in_state(stage, "Ok"), 30)


def _budget_in_state(stage: Stage, state: str) -> Any:
    budgets = stage.quota().get("status", {}).get("budgets") or []
    return next((budget for budget in budgets if budget["state"] == state), None)


def test_a_lowered_quota_stops_nothing_that_runs(new_stage: NewStage) -> None:
    stage = new_stage("lowered", quota=2)
    for name in ("one", "two"):
        stage.tasks.create(name, held())
    for name in ("one", "two"):
        stage.tasks.until_phase(name, "Running")
    stage.set_quota(concurrency={"nominal": 1})
    stage.tasks.create("three", "true")
    waits_as(stage, "three", "QuotaExhausted")
    await_("usage in the quota's status", lambda: stage.quota().get("status", {}).get("queued") == 1, 60)
    status = stage.quota()["status"]
    assert (status["admitted"], status["usage"]["cpu"], status["usage"]["memory"]) == (2, "500m", "1Gi")
    for name in ("one", "two"):
        stage.let_end(name)
    for name in ("one", "two", "three"):
        finished = stage.tasks.until_finished(name)
        assert (finished["phase"], finished["attempt"]) == ("Succeeded", 1)


def test_a_tenant_without_a_quota_gets_five_at_once(new_stage: NewStage) -> None:
    stage, names = new_stage("default", quota=None), [f"t{number}" for number in range(7)]
    for name in names:
        stage.tasks.create(name, "sleep 2")
    for name in names:
        assert stage.tasks.until_finished(name)["phase"] == "Succeeded"
    assert stage.most_at_once() == (5, 5)


def test_a_cancelled_wait_gives_its_place_to_the_next(new_stage: NewStage) -> None:
    stage = new_stage("gives", quota=1)
    stage.tasks.create("holder", stoppable())
    stage.tasks.until_phase("holder", "Running")
    stage.tasks.create("waiting", "true")
    waits_as(stage, "waiting", "QuotaExhausted")
    stage.tasks.change("holder", cancel=True)
    assert stage.tasks.until_finished("waiting")["phase"] == "Succeeded"


def test_a_quota_that_cannot_be_read_is_refused(new_stage: NewStage) -> None:
    stage = new_stage("refused")
    with pytest.raises(RefusedError, match="'lots' is not a quantity; write for example 500m"):
        stage.set_quota(cpu={"nominal": "lots"})
