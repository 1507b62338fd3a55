"""Cohorts on a real node: an idle member lends, gets back what ends, and may leave while its attempts run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.stage import Stage, held
from tests.support.live import await_

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
NewStage = Callable[..., Stage]


def waits_as(stage: Stage, name: str, reason: str) -> Any:
    return stage.tasks.until(name, reason, lambda status: (status.get("queue") or {}).get("reason") == reason, 60)


def test_a_member_borrows_what_another_leaves_and_gives_it_back_when_it_ends(new_stage: NewStage) -> None:
    borrower, lender = new_stage("borrower", quota=1), new_stage("lender", quota=2)
    cohort = borrower.namespace
    for stage in (borrower, lender):
        stage.set_quota(cohort=cohort)
    for name in ("a", "b", "c"):
        borrower.tasks.create(name, held())
    borrower.tasks.create("d", "true")
    message = waits_as(borrower, "d", "CohortExhausted")["queue"]["message"]
    assert message.startswith(f"cohort {cohort} uses 3 of 3 concurrent tasks ({borrower.namespace} 3)")
    await_("the loan in the quota's status", lambda: borrower.quota()["status"].get("borrowed"), 60)
    assert borrower.quota()["status"]["borrowed"]["concurrency"] == 2
    lender.tasks.create("mine", "true")
    waits_as(lender, "mine", "CohortExhausted")
    # One ends alone: of two places at once each of those who wait would get one.
    borrower.let_end("a")
    mine, d = lender.tasks.until_finished("mine"), borrower.tasks.until_finished("d")
    assert mine["startTime"] <= d["startTime"]
    for name in ("b", "c"):
        borrower.let_end(name)
    for name in ("a", "b", "c"):
        assert borrower.tasks.until_finished(name)["phase"] == "Succeeded"
    borrower.until_released(cohort)
    assert borrower.audit(cohort=cohort) == []
    assert lender.audit(cohort=cohort) == []


def test_a_tenant_that_joins_or_leaves_takes_its_attempts_along(new_stage: NewStage) -> None:
    stage = new_stage("mover", quota=1)
    cohort = stage.namespace
    stage.tasks.create("long", held())
    stage.tasks.until_phase("long", "Running")
    stage.set_quota(cohort=cohort)
    await_("the line in the cohort's ledger", lambda: stage.cohort_ledger(cohort).get(stage.namespace), 60)
    await_("no line in the old ledger", lambda: not stage.ledger().strip(), 60)
    stage.tasks.create("next", "true")
    waits_as(stage, "next", "CohortExhausted")
    stage.set_quota(cohort=None)
    await_("the line in its own ledger", lambda: stage.ledger().strip(), 60)
    waits_as(stage, "next", "QuotaExhausted")
    stage.let_end("long")
    for name in ("long", "next"):
        finished = stage.tasks.until_finished(name)
        assert (finished["phase"], finished["attempt"]) == ("Succeeded", 1)
    assert stage.audit(cohort=cohort) == []
