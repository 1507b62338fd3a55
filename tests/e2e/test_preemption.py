"""Preemption on a real node: what is lent comes back at once, and who gave way goes on from its checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.stage import Stage, held, stoppable
from tests.e2e.summing import EVERY, QUICK, TOTAL, Summing, claim_of
from tests.support.live import await_

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
NewStage = Callable[..., Stage]


def test_a_lender_gets_back_what_it_lent_from_who_loses_least(new_stage: NewStage, tmp_path: Path) -> None:
    """Of two borrowed attempts the one that saves gives way, saves what it has, and goes on from there later."""
    borrower, lender = new_stage("borrower", quota=1), new_stage("lender", quota=1)
    cohort = borrower.namespace
    borrower.set_quota(cohort=cohort)
    lender.set_quota(cohort=cohort, preemption="ReclaimWithinCohort")
    with claim_of(borrower, tmp_path) as folder:
        borrower.tasks.create("stale", held(), retry={"limits": {"preempted": 0}})
        borrower.tasks.until_phase("stale", "Running")
        saving = Summing.create(borrower, folder, "saving", {"restsAt": EVERY + 3}, limits={"disruption": 0})
        saving.until_rests()
        lender.tasks.create("mine", "sleep 4")
        message = f"gives back what it borrowed: tenant {lender.namespace} needs what it has lent"
        mine = lender.tasks.until_finished("mine")
        status = saving.finished()
        borrower.let_end("stale")
        stale = borrower.tasks.until_finished("stale")
    assert (mine["phase"], mine["attempt"], stale["phase"], stale["attempt"]) == ("Succeeded", 1, "Succeeded", 1)
    first, second = status["attempts"]
    assert (first["cause"], first["message"], second["cause"]) == ("Preempted", message, "Completed")
    assert status["attemptCounts"] == {"preempted": 1, "completed": 1}
    assert first["completionTime"] <= mine["startTime"] <= mine["completionTime"] <= second["startTime"]
    saved = [line["uri"] for line in saving.said("saved", 1)]
    assert saved[0] == saving.uri(1, EVERY)
    assert saved[-1] == saving.uri(1, EVERY + 4), "it was not asked to save"
    assert second["resumedFrom"] == saved[-1]
    assert status["result"]["value"] == {"sum": TOTAL, "attempt": 2}
    borrower.until_released(cohort)
    assert "preemption.claims" not in borrower.cohort_ledger(cohort)
    for stage in (borrower, lender):
        assert stage.audit(cohort=cohort) == []


def test_a_higher_priority_takes_the_place_of_a_lower_one_of_its_tenant(new_stage: NewStage) -> None:
    stage = new_stage("priority", quota=1)
    stage.set_quota(preemption="LowerPriority")
    script = f"if [ $LONGTASK_ATTEMPT = 1 ]; then {stoppable()}; fi"
    stage.tasks.create("low", script, retry={"limits": {"application": 0, "disruption": 0}, "backoff": QUICK})
    stage.tasks.until_phase("low", "Running")
    stage.tasks.create("equal", "true")
    stage.tasks.create("high", "sleep 3", priority=5)
    high, low = stage.tasks.until_finished("high"), stage.tasks.until_finished("low")
    assert (high["attempt"], low["phase"], low["attempt"]) == (1, "Succeeded", 2)
    assert low["attempts"][0]["cause"] == "Preempted"
    assert low["attempts"][0]["message"] == "gives way to a task of this tenant with a higher priority"
    assert high["completionTime"] <= low["attempts"][1]["startTime"]
    assert stage.tasks.until_finished("equal")["phase"] == "Succeeded"
    await_("no claim left", lambda: not claims(stage), 20)
    assert stage.audit() == []


def claims(stage: Stage) -> str:
    found = stage.client.find(f"/api/v1/namespaces/longtask-system/configmaps/{stage.ledger_name}")
    return str(((found or {}).get("data") or {}).get("preemption.claims") or "")
