"""Cohorts on the real API server, with the real Job controller and our operator; the test plays the kubelet.

First the worked examples of docs/how-to/quotas.md with its figures: team A has 9, team B has 12. All stories are played
at the same time, each with tenants and a cohort of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.live import await_
from tests.support.operating import Stage
from tests.support.tenants import Story, Tenant, Told, numbered, those, told

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


def without_limits_all_is_lent(ground: Stage) -> None:
    """No limits: team A may run 21."""
    team_a = Tenant.open(ground, "all-a", cohort="all", concurrency={"nominal": 9})
    Tenant.open(ground, "all-b", cohort="all", concurrency={"nominal": 12})
    team_a.submit(*numbered("t", 22))
    found = team_a.until(Admitted=21, CohortExhausted=1)
    (waits,) = those(found, "CohortExhausted")
    assert found[waits]["queue"]["message"].startswith("cohort all uses 21 of 21 concurrent tasks (all-a 21)")


def a_borrowing_limit_caps_the_borrower(ground: Stage) -> None:
    """A: `borrowingLimit: 1`: 10. What holds it back is its own quota, not the cohort."""
    team_a = Tenant.open(ground, "few-a", cohort="few", concurrency={"nominal": 9, "borrowingLimit": 1})
    Tenant.open(ground, "few-b", cohort="few", concurrency={"nominal": 12})
    team_a.submit(*numbered("t", 12))
    found = team_a.until(Admitted=10, QuotaExhausted=2)
    for name in those(found, "QuotaExhausted"):
        assert found[name]["queue"]["message"] == "tenant few-a uses 10 of 10 concurrent tasks"


def a_lending_limit_keeps_the_rest_for_the_lender(ground: Stage) -> None:
    """B: `lendingLimit: 1`: team A may run 10; B itself 11 at the same time."""
    team_a = Tenant.open(ground, "kept-a", cohort="kept", concurrency={"nominal": 9})
    team_b = Tenant.open(ground, "kept-b", cohort="kept", concurrency={"nominal": 12, "lendingLimit": 1})
    team_a.submit(*numbered("t", 11))
    team_a.until(Admitted=10, CohortExhausted=1)
    team_b.submit(*numbered("t", 12))
    found = team_b.until(Admitted=11, CohortExhausted=1)
    team_a.until(Admitted=10, CohortExhausted=1)
    (waits,) = those(found, "CohortExhausted")
    assert "cohort kept uses 21 of 21 concurrent tasks" in found[waits]["queue"]["message"]


def a_loan_of_cpu_is_counted_in_cpu(ground: Stage) -> None:
    """2 CPU of its own and 1 of the lender's 4: the limit of CPU counts, however many attempts that makes."""
    borrower = Tenant.open(ground, "cpu-a", cohort="cpu", cpu={"nominal": "2", "borrowingLimit": "1"})
    Tenant.open(ground, "cpu-b", cohort="cpu", cpu={"nominal": "4"})
    borrower.submit(*numbered("t", 7), cpu="500m", memory="1Gi")
    found = borrower.until(Admitted=6, QuotaExhausted=1)
    (waits,) = those(found, "QuotaExhausted")
    assert found[waits]["queue"]["message"] == "tenant cpu-a uses 3 of 3 CPU; this task needs 500m"


def whoever_is_within_its_own_starts_before_any_that_borrows(ground: Stage) -> None:
    """Whatever their priorities; the lender waits only until something of the loan has ended."""
    lender = Tenant.open(ground, "own-lends", cohort="own", concurrency={"nominal": 2})
    borrower = Tenant.open(ground, "own-takes", cohort="own", concurrency={"nominal": 0})
    borrower.submit("one", "two")
    borrower.until(Admitted=2)
    borrower.submit("urgent", priority=1000)
    borrower.until_waits("urgent", "CohortExhausted")
    lender.submit("mine", priority=-1000)
    assert "(own-takes 2)" in lender.until_waits("mine", "CohortExhausted")["message"]
    borrower.end("one")
    lender.until_admitted("mine")
    borrower.until(Succeeded=1, Admitted=1, CohortExhausted=1)
    borrower.end("two")
    borrower.until_admitted("urgent")


def borrowers_share_by_weight(ground: Stage) -> None:
    """Weights 3 and 1, both with more to do than there is room for: 6 and 2 of 8."""
    lender = Tenant.open(ground, "weight-c", cohort="weight", concurrency={"nominal": 0})
    heavy = Tenant.open(ground, "weight-a", cohort="weight", concurrency={"nominal": 0}, weight=3)
    light = Tenant.open(ground, "weight-b", cohort="weight", concurrency={"nominal": 0})
    for tenant in (light, heavy):
        tenant.submit(*numbered("t", 8))
        tenant.until(NeverFits=8)
    lender.change_quota(concurrency={"nominal": 8})
    heavy.until(Admitted=6, CohortExhausted=2)
    light.until(Admitted=2, CohortExhausted=6)


#: What tenants held before, as of now: attempts, millicores, MiB.
_NOW = datetime.now(UTC).isoformat(timespec="milliseconds")
PAST = {"longtask-ledger-cohort-past": {"usage.decayed": f"{_NOW}\npast-a 5 5000 5000\npast-b 1 1000 1000\n"}}


def whoever_used_less_of_late_comes_first(ground: Stage) -> None:
    """The ledger says what was used before: tenant A five times as much, so B catches up by all three."""
    lender = Tenant.open(ground, "past-c", cohort="past", concurrency={"nominal": 0})
    much, little = (Tenant.open(ground, f"past-{x}", cohort="past", concurrency={"nominal": 0}) for x in "ab")
    for tenant in (much, little):
        tenant.submit(*numbered("t", 3))
        tenant.until(NeverFits=3)
    lender.change_quota(concurrency={"nominal": 3})
    little.until(Admitted=3)
    much.until(CohortExhausted=3)


def what_a_large_task_waits_for_is_kept_for_it(ground: Stage) -> None:
    """After ten minutes nobody else borrows; who is within its own quota goes on, and leaves enough here."""
    lender = Tenant.open(ground, "large-c", cohort="large", cpu={"nominal": "4250m"})
    others = Tenant.open(ground, "large-b", cohort="large", cpu={"nominal": "500m"})
    patient = Tenant.open(ground, "large-a", cohort="large", cpu={"nominal": "0"})
    others.submit("own", "borrows", cpu="500m", memory="1Gi")
    others.until(Admitted=2)
    patient.submit("large", cpu="4", memory="8Gi")
    patient.until_waits("large", "CohortExhausted")
    others.submit("passes", cpu="500m", memory="1Gi")
    others.until(Admitted=3)
    patient.age("large", minutes=11)
    others.submit("too-late", cpu="500m", memory="1Gi")
    message = others.until_waits("too-late", "Reserved")["message"]
    assert message.startswith("what becomes free is kept for a task of tenant large-a, which has waited long")
    lender.submit("own", cpu="250m", memory="1Gi")
    lender.until(Admitted=1)
    lender.end("own")
    others.end("borrows", "passes")
    patient.until_admitted("large")


def a_tenant_that_moves_takes_its_attempts_along(ground: Stage) -> None:
    """From one cohort to another, while it borrows: nothing is stopped, and it counts where it is now."""
    mover = Tenant.open(ground, "move-a", cohort="move-from", concurrency={"nominal": 1})
    left = Tenant.open(ground, "move-b", cohort="move-from", concurrency={"nominal": 1})
    found = Tenant.open(ground, "move-c", cohort="move-to", concurrency={"nominal": 2})
    mover.submit("one", "two")
    mover.until(Admitted=2)
    left.submit("waits")
    left.until_waits("waits", "CohortExhausted")
    mover.change_quota(cohort="move-to")
    left.until_admitted("waits")
    found.submit("one", "two")
    found.until(Admitted=1, CohortExhausted=1)
    assert ledger(ground, "cohort-move-from").keys() == {"move-b"}
    assert {name: len(text.splitlines()) for name, text in ledger(ground, "cohort-move-to").items()} == {
        "move-a": 2,
        "move-c": 1,
    }
    mover.end("one")
    found.until(Admitted=2)
    mover.until(Succeeded=1, Admitted=1)


def a_tenant_that_joins_lends_and_takes_it_along_when_it_leaves(ground: Stage) -> None:
    member = Tenant.open(ground, "join-a", cohort="join", concurrency={"nominal": 1})
    lender = Tenant.open(ground, "join-b", concurrency={"nominal": 2})
    member.submit("one", "two", "three")
    member.until(Admitted=1, CohortExhausted=2)
    lender.change_quota(cohort="join")
    member.until(Admitted=3)
    lender.change_quota(cohort=None)
    member.submit("four")
    assert "cohort join uses 3 of 1 concurrent tasks" in member.until_waits("four", "CohortExhausted")["message"]
    lender.submit("own")
    lender.until(Admitted=1)
    member.until(Admitted=3, CohortExhausted=1)


def what_even_all_loans_cannot_hold_never_fits(ground: Stage) -> None:
    member = Tenant.open(ground, "never-a", cohort="never", cpu={"nominal": "1", "borrowingLimit": "500m"})
    Tenant.open(ground, "never-b", cohort="never", cpu={"nominal": "4"})
    member.submit("large", cpu="2", memory="4Gi")
    message = member.until_waits("large", "NeverFits")["message"]
    assert message == (
        "the attempt needs 2 CPU and TenantQuota never-a, with all that cohort never could lend it, has 1500m in all"
    )
    member.change_quota(cpu={"borrowingLimit": "1"})
    member.until_admitted("large")


def the_status_of_a_quota_says_what_is_borrowed(ground: Stage) -> None:
    borrower = Tenant.open(ground, "loan-a", cohort="loan", concurrency={"nominal": 1}, memory={"nominal": "1Gi"})
    Tenant.open(ground, "loan-b", cohort="loan", concurrency={"nominal": 2}, memory={"nominal": "8Gi"})
    borrower.submit("one", "two", cpu="250m", memory="1Gi")
    borrower.until(Admitted=2)
    loan = {"concurrency": 1, "cpu": "0", "memory": "1Gi"}
    await_(lambda: f"{loan}, not {borrower.quota()}", lambda: borrower.quota().get("borrowed") == loan, 90)


def ledger(ground: Stage, name: str) -> dict[str, str]:
    """Return the lines of a cohort's ledger by tenant."""
    path = f"/api/v1/namespaces/{ground.home}/configmaps/longtask-ledger-{name}"
    data = (ground.client.find(path) or {}).get("data") or {}
    return {tenant: text for tenant, text in data.items() if "." not in tenant and text}


STORIES: list[Story] = [
    without_limits_all_is_lent,
    a_borrowing_limit_caps_the_borrower,
    a_lending_limit_keeps_the_rest_for_the_lender,
    a_loan_of_cpu_is_counted_in_cpu,
    whoever_is_within_its_own_starts_before_any_that_borrows,
    borrowers_share_by_weight,
    whoever_used_less_of_late_comes_first,
    what_a_large_task_waits_for_is_kept_for_it,
    a_tenant_that_moves_takes_its_attempts_along,
    a_tenant_that_joins_lends_and_takes_it_along_when_it_leaves,
    what_even_all_loans_cannot_hold_never_fits,
    the_status_of_a_quota_says_what_is_borrowed,
]


@pytest.fixture(scope="module")
def stories(control_plane: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    with told(control_plane, tmp_path_factory.mktemp("operator"), "cohorts", STORIES, PAST) as found:
        yield found


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_story(stories: Told, story: Story) -> None:
    stories[story].result()
