from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from longtask_operator.api.reasons import QueueReason
from longtask_operator.core.precedence import HeldBack
from longtask_operator.core.quota import NO_AMOUNTS, Caps, Limits
from longtask_operator.core.room import Room
from longtask_operator.core.sizing import Size
from longtask_operator.core.terms import Terms, held_back_by, terms_of
from tests.builders import an_entry

LARGE = Size(cpu=2000, memory=4 * 1024**3)


def the_terms(others: dict[str, Limits] | None = None, **limits: Any) -> Terms:
    own = Limits(**{"origin": "TenantQuota team-a", **limits})
    members = {"team-a": own, **(others or {})}
    return terms_of("team-a", own, Room({tenant: (one, NO_AMOUNTS) for tenant, one in members.items()}))


def says(terms: Terms, position: int | None = None, **entry: Any) -> HeldBack | None:
    return held_back_by(terms, an_entry(size=LARGE, **entry), position)


@pytest.mark.parametrize(
    ("limits", "position", "reason", "message"),
    [
        ({}, None, None, ""),
        ({"max_cpu": 1000}, None, "ExceedsMaxSize", "2/4Gi has more CPU than maxSize of TenantQuota team-a allows: 1"),
        ({"cpu": 1000}, None, "NeverFits", "the attempt needs 2 CPU and TenantQuota team-a has 1 in all"),
        ({"memory": 32}, None, "NeverFits", "the attempt needs 4Gi memory and TenantQuota team-a has 32 bytes in all"),
        ({"max_memory": 32}, None, "ExceedsMaxSize", "more memory than maxSize of TenantQuota team-a allows: 32 bytes"),
        ({"concurrency": 0}, None, "NeverFits", "TenantQuota team-a allows no attempts: concurrency is 0"),
        ({"on_hold": True}, None, "TenantStopped", "TenantQuota team-a says stopPolicy Hold: nothing starts until"),
        ({"on_hold": True, "draining": True}, None, "TenantStopped", "says stopPolicy HoldAndDrain"),
        ({"on_hold": True, "unreadable": "it cannot be read"}, None, "TenantStopped", "it cannot be read"),
        ({"max_queued": 3}, 3, None, ""),
        ({"max_queued": 3}, 4, "QueueFull", "TenantQuota team-a lets 3 tasks wait, and as many or more come before"),
        ({"max_queued": 3}, 9, "QueueFull", "TenantQuota team-a lets 3 tasks wait, and as many or more come before"),
        ({"max_queued": 1}, 2, "QueueFull", "TenantQuota team-a lets 1 task wait, and as many or more come before"),
        ({"max_queued": 0}, None, None, ""),
        ({"spent": "budget month is spent: 1.2 of 1 CPU-hours"}, None, "BudgetExhausted", "budget month is spent"),
    ],
)
def test_what_keeps_a_task_from_starting_whatever_runs(
    limits: dict[str, Any], position: int | None, reason: str | None, message: str
) -> None:
    found = says(the_terms(**limits), position)
    assert (str(found.reason) if found else None) == reason
    assert message in (found.message if found else "")


def test_who_may_never_run_anything_as_a_person_is_told_so() -> None:
    def says_to(user: str, *, handed_over: bool = False, **limits: Any) -> HeldBack | None:
        return held_back_by(the_terms(**limits), an_entry(size=LARGE, handed_over=handed_over), user=user)

    found = says_to("eve", per_user=0)
    assert found
    assert (found.reason, found.message, found.inadmissible) == (
        QueueReason.NEVER_FITS,
        "the task counts for eve and TenantQuota team-a allows no attempts of any person: perUser.maxConcurrency is 0",
        True,
    )
    assert says_to("eve", per_user=1) is None
    assert says_to("", per_user=0) is None
    assert says_to("eve", per_user=0, handed_over=True) is None
    too_large = says_to("eve", per_user=0, cpu=1000)
    assert too_large
    assert "the attempt needs 2 CPU" in too_large.message


def test_the_first_of_the_list_is_said() -> None:
    everything: dict[str, Any] = {"max_cpu": 1000, "cpu": 1000, "on_hold": True, "max_queued": 0, "spent": "all"}
    for name, reason in zip(everything, ("ExceedsMaxSize", "NeverFits", "TenantStopped", "QueueFull"), strict=False):
        found = says(the_terms(**everything), 1)
        assert found
        assert found.reason == reason
        everything = {one: limit for one, limit in everything.items() if one != name}
    found = says(the_terms(**everything), 1)
    assert found
    assert found.reason is QueueReason.BUDGET_EXHAUSTED


def test_what_a_cohort_could_lend_counts() -> None:
    cohort = {"cohort": "research", "cpu": 1000}
    rich = Limits(cpu=4000, cohort="research", lending=Caps(cpu=500))
    found = says(the_terms({"team-b": rich}, **cohort))
    assert found
    assert (found.reason, found.message) == (
        QueueReason.NEVER_FITS,
        "the attempt needs 2 CPU and TenantQuota team-a, with all that cohort research could lend it, has 1500m in all",
    )
    assert says(the_terms({"team-b": replace(rich, lending=Caps())}, **cohort)) is None


def test_of_those_whom_kueue_admits_only_their_size_and_a_stop_are_asked() -> None:
    terms = the_terms(cpu=1000, max_queued=0, spent="all")
    assert says(terms, 1, handed_over=True) is None
    for limits in ({"max_cpu": 1000}, {"on_hold": True}):
        assert says(the_terms(**limits), handed_over=True)


def test_of_a_spent_budget_what_time_changes_is_no_news() -> None:
    spent = "budget month of TenantQuota team-a is spent: {} of {} CPU-hours in 30 days; it recovers from {}"
    found = says(the_terms(spent=spent.format("501.0", 500, "2026-02-01T00:00:00Z")))
    assert found
    assert found.was_said("BudgetExhausted", spent.format("502.5", 500, "2026-02-01T08:00:00Z"))
    assert not found.was_said("BudgetExhausted", spent.format("501.0", 450, "2026-02-01T00:00:00Z"))
