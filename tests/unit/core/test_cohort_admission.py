"""Admission of a cohort, by Kueue's worked numbers and against a model that knows no room: sums and the rules."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from longtask_operator.api.reasons import QueueReason
from longtask_operator.core.queueing import Candidate, TenantQueue
from longtask_operator.core.quota import Limits
from longtask_operator.core.reservation import RESERVE_AFTER
from longtask_operator.core.sizing import Size
from tests.builders import SMALLEST, START
from tests.support.cohort import LARGE, TENANTS, Cohort, CohortStory, limits
from tests.support.stories import how_many


def admitted_alone(**members: Limits) -> int:
    cohort = Cohort(**members)
    cohort.waits("a", 50)
    return len(cohort.cycle())


def test_an_idle_member_lends_all_that_it_does_not_use() -> None:
    assert admitted_alone(a=limits(9), b=limits(12)) == 21


def test_nobody_borrows_more_than_its_borrowing_limit() -> None:
    assert admitted_alone(a=limits(9, borrow=1), b=limits(12)) == 10
    assert admitted_alone(a=limits(9, borrow=0), b=limits(12)) == 9


def test_nobody_lends_more_than_its_lending_limit() -> None:
    cohort = Cohort(a=limits(9), b=limits(12, lend=1))
    cohort.waits("a", 50)
    assert len(cohort.cycle()) == 10
    cohort.waits("b", 50)
    assert cohort.cycle() == ["b"] * 11


def test_who_is_within_its_own_quota_comes_before_who_borrows() -> None:
    cohort = Cohort(a=limits(2), b=limits(2))
    cohort.holds("a", 2)
    cohort.waits("a", 5, priority=9)
    cohort.waits("b", 5, seconds=60)
    assert cohort.cycle() == ["b", "b"]


def test_what_is_lent_comes_back_when_it_ends() -> None:
    cohort = Cohort(a=limits(1), b=limits(2))
    cohort.waits("a", 5)
    assert cohort.cycle() == ["a", "a", "a"]
    uid = cohort.waits("b")
    assert cohort.cycle() == []
    held_back = cohort.why("b", uid)
    assert held_back.reason is QueueReason.COHORT_EXHAUSTED
    assert held_back.message == ("cohort research uses 3 of 3 concurrent tasks (a 3) and has none to lend to tenant b")
    cohort.held["a"].pop(next(iter(cohort.held["a"])))
    assert cohort.cycle() == ["b"]


def test_what_a_member_may_hold_itself_differs_from_what_the_cohort_has() -> None:
    cohort = Cohort(a=limits(1, borrow=1), b=limits(5))
    uid = cohort.waits("a", 3)
    assert cohort.cycle() == ["a", "a"]
    held_back = cohort.why("a", uid)
    assert (held_back.reason, held_back.message) == (
        QueueReason.QUOTA_EXHAUSTED,
        "tenant a uses 2 of 2 concurrent tasks",
    )


def test_what_no_loan_could_make_fit_never_fits_until_a_quota_changes() -> None:
    cohort = Cohort(a=limits(None, cpu=1000), b=limits(None, cpu=1000))
    uid = cohort.waits("a", size=LARGE)
    assert cohort.cycle() == []
    assert cohort.why("a", uid).reason is QueueReason.NEVER_FITS
    assert "cohort research could lend" in cohort.why("a", uid).message
    cohort.limits["b"] = limits(None, cpu=3000)
    assert cohort.cycle() == ["a"]


def test_borrowers_take_turns_by_weight() -> None:
    cohort = Cohort(a=limits(0, weight=3), b=limits(0, weight=1), lender=limits(8))
    cohort.waits("a", 50)
    cohort.waits("b", 50)
    admitted = cohort.cycle()
    assert (admitted.count("a"), admitted.count("b")) == (6, 2)


def test_who_has_used_more_of_late_comes_later() -> None:
    cohort = Cohort(a=limits(0), b=limits(0), lender=limits(1), decayed={"a": (0.5, 100.0, 0.0)})
    cohort.waits("a", seconds=-600)
    cohort.waits("b")
    assert cohort.cycle() == ["b"]


def test_a_burst_counts_at_once() -> None:
    cohort = Cohort(a=limits(0), b=limits(0), lender=limits(6))
    cohort.waits("a", 100, seconds=-60)
    cohort.waits("b", 3)
    assert sorted(cohort.cycle()) == ["a"] * 3 + ["b"] * 3


def test_no_large_task_starves_behind_small_ones_of_other_members() -> None:
    """It starts at the latest when those have ended that ran when what becomes free was first kept for it."""
    cohort = Cohort(a=limits(None, cpu=0), b=limits(None, cpu=0), lender=limits(None, cpu=4000))
    uid = cohort.waits("a", size=LARGE)
    cohort.waits("b", 16, seconds=-1, size=SMALLEST)
    cohort.decayed = {"a": (100.0, 1e9, 0.0)}  # it is always b's turn
    for minute in range(60):
        cohort.now = START + timedelta(minutes=minute)
        cohort.waits("b", 2, seconds=60 * minute)
        for gone in list(cohort.held["b"])[:1]:  # one ends a minute
            del cohort.held["b"][gone]
        if "a" in cohort.cycle():
            break
        if cohort.now - START > RESERVE_AFTER:
            waiting = next(iter(cohort.queues["b"]))
            assert cohort.holder is not None
            assert cohort.holder.entry.uid == uid
            assert cohort.why("b", waiting.entry.uid).reason in (QueueReason.RESERVED, QueueReason.COHORT_EXHAUSTED)
    assert uid in cohort.held["a"]
    assert cohort.now <= START + RESERVE_AFTER + timedelta(minutes=17)


def test_nobody_starves_behind_a_head_that_only_loans_could_help() -> None:
    """While the lender itself uses what is its own, the next in order is the one for whom room is kept."""
    cohort = Cohort(a=limits(None, cpu=2000), b=limits(None, cpu=0), lender=limits(None, cpu=4000))
    cohort.holds("lender", 16)
    cohort.holds("b", 8)
    cohort.waits("a", size=replace(SMALLEST, cpu=5000))
    uid = cohort.waits("a", size=replace(SMALLEST, cpu=2000), seconds=1)
    cohort.now = START + RESERVE_AFTER + timedelta(seconds=1)
    for _ in range(8):
        cohort.waits("b", seconds=600)
        cohort.ends(next(iter(cohort.held["b"])))
        cohort.cycle()
    assert uid in cohort.held["a"]


def test_members_within_their_own_quota_pass_whatever_is_kept() -> None:
    own = {"a": limits(None, cpu=0), "b": limits(None, cpu=500), "lender": limits(None, cpu=5000)}
    cohort = Cohort(now=START + RESERVE_AFTER, **own)
    cohort.holds("b", 7)
    cohort.waits("a", size=LARGE)
    cohort.waits("b", 3)
    cohort.waits("lender", 2, seconds=60)
    assert cohort.cycle() == ["lender", "lender"]
    assert cohort.holder is not None
    assert cohort.holder.tenant == "a"


def test_nobody_is_kept_back_for_whom_giving_back_would_help_no_more() -> None:
    """While `b` takes what is its own, who waited long loses all hope: `c` need not wait for the next event."""
    members = {"a": limits(None, cpu=0), "b": limits(None, cpu=1000), "c": limits(None, cpu=0)}
    cohort = Cohort(now=START + RESERVE_AFTER, **members, lender=limits(None, cpu=4000))
    cohort.holds("c", size=replace(SMALLEST, cpu=1000))
    cohort.waits("a", size=replace(SMALLEST, cpu=5000))
    cohort.waits("b", size=replace(SMALLEST, cpu=2000), seconds=600)
    cohort.waits("b", size=replace(SMALLEST, cpu=500), seconds=601)
    cohort.waits("c", size=replace(SMALLEST, cpu=500), seconds=600)
    assert cohort.cycle() == ["b", "b", "c"]


AMOUNT = st.none() | st.integers(0, 4)


class CohortAdmission(CohortStory):
    """Tasks come, end and leave; quotas change; members join and leave; the operator restarts."""

    @initialize()
    def start(self) -> None:
        self.cohort = Cohort(**{tenant: limits(1) for tenant in TENANTS})

    @rule(tenant=st.sampled_from(TENANTS), size=st.sampled_from([SMALLEST, LARGE]), priority=st.integers(-1, 1))
    def comes(self, tenant: str, size: Size, priority: int) -> None:
        seconds = (self.cohort.now - START).total_seconds()
        self.cohort.waits(tenant, size=size, seconds=seconds, priority=priority)

    @rule(tenant=st.sampled_from(TENANTS), number=st.integers(0, 3))
    def ends(self, tenant: str, number: int) -> None:
        for uid in list(self.cohort.held[tenant])[:number]:
            del self.cohort.held[tenant][uid]

    @rule(
        tenant=st.sampled_from(TENANTS),
        nominal=AMOUNT,
        borrow=AMOUNT,
        lend=AMOUNT,
        cpu=st.none() | st.integers(0, 20).map(lambda steps: steps * 250),
        weight=st.integers(1, 3),
        on_hold=st.sampled_from([False, False, False, True]),
    )
    def quota_changes(
        self, tenant: str, nominal: int | None, borrow: int | None, lend: int | None, **other: Any
    ) -> None:
        self.cohort.limits[tenant] = limits(nominal, borrow, lend, **other)

    @rule(tenant=st.sampled_from(TENANTS))
    def joins_or_leaves(self, tenant: str) -> None:
        """Who leaves takes its waiting tasks along; its attempts stand astray until the other ledger has them."""
        if self.cohort.limits.pop(tenant, None) is None:
            self.cohort.limits[tenant] = limits(1)
        else:
            self.cohort.queues[tenant], self.cohort.held[tenant] = TenantQueue(), {}

    @rule()
    def restarts(self) -> None:
        self.cohort.holder = None
        for tenant, queue in self.cohort.queues.items():
            fresh = TenantQueue()
            for candidate in queue:
                fresh.put(candidate)
            self.cohort.queues[tenant] = fresh

    @rule()
    def cycle(self) -> None:
        before = {tenant: dict(entries) for tenant, entries in self.cohort.held.items()}
        self.cycle_once()
        for amount, of in (("concurrency", lambda entry: 1), ("cpu", lambda entry: entry.size.cpu)):
            self.never_above(amount, of, before)
        self.nobody_is_left_who_could_start()

    def used(self, tenant: str, of: Any, held: Any = None) -> int:
        return sum(of(entry) for entry in (held or self.cohort.held)[tenant].values())

    def never_above(self, amount: str, of: Any, before: Any) -> None:
        limiting = {t: own for t, own in self.cohort.limits.items() if getattr(own, amount) is not None}
        for tenant, own in limiting.items():
            borrow = getattr(own.borrowing, amount)
            most = getattr(own, amount) + (1 << 40 if borrow is None else borrow)
            assert self.used(tenant, of) <= max(most, self.used(tenant, of, before))
        admits = any(self.cohort.held[tenant] != before[tenant] for tenant in limiting)
        if admits:
            kept, lent = self.lending(limiting, amount)
            borrowed = sum(max(0, self.used(t, of) - kept[t]) for t in limiting)
            assert borrowed <= max(lent, sum(max(0, self.used(t, of, before) - kept[t]) for t in limiting))

    def lending(self, limiting: dict[str, Limits], amount: str) -> tuple[dict[str, int], int]:
        kept, lent = {}, 0
        for tenant, own in limiting.items():
            nominal, lends = getattr(own, amount), getattr(own.lending, amount)
            lends = nominal if lends is None else min(nominal, lends)
            kept[tenant], lent = nominal - lends, lent + lends
        return kept, lent

    def could_start(self, candidate: Candidate) -> bool:
        own, tenant = self.cohort.limits[candidate.tenant], candidate.tenant
        for amount, of in (("concurrency", lambda entry: 1), ("cpu", lambda entry: entry.size.cpu)):
            nominal, borrow = getattr(own, amount), getattr(own.borrowing, amount)
            if nominal is None:
                continue
            limiting = {t: other for t, other in self.cohort.limits.items() if getattr(other, amount) is not None}
            kept, lent = self.lending(limiting, amount)
            after = self.used(tenant, of) + of(candidate.entry)
            others = sum(max(0, self.used(t, of) - kept[t]) for t in limiting if t != tenant)
            if borrow is not None and after > nominal + borrow:
                return False
            if max(0, after - kept[tenant]) + others > lent:
                return False
        return not own.on_hold

    def nobody_is_left_who_could_start(self) -> None:
        """Work-conserving, but for a reservation: then somebody who does not fit has waited long."""
        waiting = [c for tenant in self.cohort.limits for c in self.cohort.queues[tenant]]
        able = [candidate for candidate in waiting if self.could_start(candidate)]
        late = [c for c in waiting if self.cohort.now - c.queued_at >= RESERVE_AFTER and not self.could_start(c)]
        assert not able or late
        for candidate in waiting:
            why = self.cohort.why(candidate.tenant, candidate.entry.uid)
            assert why.message
            if candidate in able:
                assert why.reason in (QueueReason.RESERVED, QueueReason.BEHIND_OTHERS)
            elif not self.cohort.limits[candidate.tenant].on_hold:
                assert why.reason in (
                    QueueReason.NEVER_FITS,
                    QueueReason.QUOTA_EXHAUSTED,
                    QueueReason.COHORT_EXHAUSTED,
                )


#: Stories told by default; `make test-stories` tells 50,000.
RUNS, STEPS = 1000, 12


def test_a_cohort_keeps_its_promises_whatever_happens() -> None:
    run_state_machine_as_test(
        CohortAdmission, settings=settings(max_examples=how_many(RUNS), stateful_step_count=STEPS, deadline=None)
    )
