"""Admission of a cohort, by Kueue's worked numbers and against a model that knows no room: sums and the rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test

from longtask_operator.api.quantity import GIBIBYTE
from longtask_operator.api.reasons import QueueReason
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.ledger_layout import changed, still_to_come, taken_over
from longtask_operator.core.queueing import AGING_SECONDS, Candidate, TenantQueue, place_of
from longtask_operator.core.quota import RECLAIM, Caps, Limits
from longtask_operator.core.reservation import RESERVE_AFTER
from longtask_operator.core.sizing import Size
from longtask_operator.core.why_waiting import why_it_may_not_grow
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


def test_who_may_not_borrow_what_others_keep_is_told_so() -> None:
    """Said in the numbers of the cohort alone it would look as if eleven were free."""
    cohort = Cohort(a=limits(9), b=limits(12, lend=1))
    cohort.waits("a", 11)
    assert len(cohort.cycle()) == 10
    message = cohort.why("a", "u0011").message
    assert message == (
        "cohort research uses 10 of 21 concurrent tasks (a 10) and has none to lend to tenant a: "
        "its members keep the rest for themselves by their lendingLimit"
    )


def unread(**further: Any) -> Limits:
    """Return the limits of a quota whose `concurrency` cannot be read."""
    why = "TenantQuota x cannot be read: why; nothing starts until it is corrected"
    return limits(None, on_hold=True, unreadable=why, unread=frozenset({"concurrency"}), **further)


def test_what_a_member_with_an_unreadable_amount_uses_is_taken_from_what_others_lend() -> None:
    cohort = Cohort(a=limits(3), b=unread())
    cohort.holds("b", 2)
    cohort.waits("b")
    cohort.waits("a", 5)
    assert cohort.cycle() == ["a"]
    message = cohort.why("a", "u0005").message
    assert message == "cohort research uses 3 of 3 concurrent tasks (b 2, a 1) and has none to lend to tenant a"
    assert cohort.why("b", "u0003").reason is QueueReason.TENANT_STOPPED
    cohort.ends("x0001", "x0002")
    assert cohort.cycle() == ["a", "a"]


def test_what_a_member_keeps_is_its_own_whatever_one_with_an_unreadable_amount_uses() -> None:
    cohort = Cohort(a=limits(3, lend=1), b=unread())
    cohort.holds("b", 5)
    cohort.waits("a", 5)
    assert cohort.cycle() == ["a", "a"]


def test_nobody_gives_way_because_its_amount_cannot_be_read() -> None:
    """What it has may be its own. Nor is room kept for whom only its end could help."""
    cohort = Cohort(a=limits(1, preemption=RECLAIM), b=unread(), c=limits(1))
    cohort.holds("b", 2)
    cohort.waits("a")
    cohort.now += RESERVE_AFTER
    assert cohort.cycle() == []
    assert not cohort.claims
    assert cohort.holder is None


@pytest.mark.parametrize("cohort", ["", "research"])
def test_nothing_grows_while_an_amount_cannot_be_read(cohort: str) -> None:
    own = Cohort(a=replace(unread(), cohort=cohort), b=limits(9))
    own.holds("a")
    snapshot, has = own.snapshot(), own.held["a"]["x0001"]
    room, wants = snapshot.room, own.entry("x0001", LARGE)
    why = why_it_may_not_grow("a", has, wants, snapshot, room, room)
    assert why == own.limits["a"].unreadable
    assert why_it_may_not_grow("a", wants, has, snapshot, room, room) == ""


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
WIDE = replace(SMALLEST, memory=4 * GIBIBYTE)
SIZES = [SMALLEST, replace(SMALLEST, cpu=2000), LARGE, WIDE]
#: What is limited, and what one attempt takes of it.
TAKES: dict[str, Callable[[LedgerEntry], int]] = {
    "concurrency": lambda entry: 1,
    "cpu": lambda entry: entry.size.cpu,
    "memory": lambda entry: entry.size.memory,
}
COHORTS = ("research", "other")
#: When it is asked whether somebody starves: how long attempts run at most, and how many newcomers each tenant has.
LONGEST, NEWCOMERS = timedelta(hours=2), 4


class CohortAdmission(CohortStory):
    """Tasks come, end and leave; quotas change; tenants move between cohorts and ledgers; the operator restarts."""

    @initialize(
        running=st.tuples(st.integers(0, 4), st.integers(0, 10), st.integers(0, 16)),
        early=st.lists(
            st.tuples(st.sampled_from(TENANTS), st.sampled_from(SIZES), st.integers(5, 20)), min_size=1, max_size=5
        ),
    )
    def start(self, running: tuple[int, int, int], early: list[tuple[str, Size, int]]) -> None:
        """Some run, and some have waited for minutes."""
        self.users, self.live = dict[str, str](), dict[str, tuple[str, LedgerEntry]]()
        self.now, self.count = START, 0
        self.ledgers = {name: Cohort(name=name) for name in COHORTS} | {alone: Cohort(name="") for alone in TENANTS}
        for ledger in self.ledgers.values():
            ledger.users = self.users
        self.home = dict.fromkeys(TENANTS, "research")
        first = self.ledgers["research"]
        for tenant, cpu in zip(TENANTS, (4000, 2000, 0), strict=True):
            first.limits[tenant], first.queues[tenant], first.held[tenant] = limits(None, cpu=cpu), TenantQueue(), {}
        for tenant, number in zip(TENANTS, running, strict=True):
            first.holds(tenant, number)
        self.note_who_lives("research")
        self.count = first.count
        for tenant, size, minutes in early:
            self.comes(tenant, size, 0, "", minutes)

    def ledger_of(self, tenant: str) -> Cohort:
        return self.ledgers[self.home[tenant]]

    @rule(
        tenant=st.sampled_from(TENANTS),
        size=st.sampled_from(SIZES),
        priority=st.integers(-1, 1),
        user=st.sampled_from(["", "", "eve"]),
    )
    def comes_and_is_looked_at(self, tenant: str, size: Size, priority: int, user: str) -> None:
        self.comes(tenant, size, priority, user)
        self.cycle(self.home[tenant])

    def comes(self, tenant: str, size: Size, priority: int, user: str, minutes_ago: int = 0) -> None:
        ledger, seconds = self.ledger_of(tenant), (self.now - START).total_seconds() - 60 * minutes_ago
        ledger.count = self.count
        ledger.waits(tenant, size=size, seconds=seconds, priority=priority, user=user)
        self.count = ledger.count

    @rule(tenant=st.sampled_from(TENANTS), number=st.integers(0, 3))
    def ends(self, tenant: str, number: int) -> None:
        for uid in [uid for uid, (owner, _) in self.live.items() if owner == tenant][:number]:
            self.is_over(uid)
        self.cycle(self.home[tenant])

    def is_over(self, uid: str) -> None:
        del self.live[uid]
        for ledger in self.ledgers.values():
            ledger.ends(uid)

    @rule(tenant=st.sampled_from(TENANTS))
    def is_cancelled(self, tenant: str) -> None:
        queue = self.ledger_of(tenant).queues[tenant]
        for candidate in list(queue)[:1]:
            queue.remove(candidate.entry.uid)

    @rule(seconds=st.sampled_from([1, 120, 700, 4000]))
    def time_passes(self, seconds: int) -> None:
        self.it_is(self.now + timedelta(seconds=seconds))

    def it_is(self, now: datetime) -> None:
        self.now = now
        for ledger in self.ledgers.values():
            ledger.now = now

    @rule(
        tenant=st.sampled_from(TENANTS),
        nominal=AMOUNT,
        borrow=st.builds(Caps, concurrency=AMOUNT, cpu=st.sampled_from([None, None, 0, 1000])),
        lend=st.builds(Caps, concurrency=AMOUNT, memory=st.sampled_from([None, None, 0, GIBIBYTE])),
        cpu=st.none() | st.integers(0, 20).map(lambda steps: steps * 250),
        memory=st.sampled_from([None, None, GIBIBYTE, 4 * GIBIBYTE, 6 * GIBIBYTE]),
        per_user=st.sampled_from([None, None, 0, 1, 2]),
        weight=st.integers(1, 3),
        on_hold=st.sampled_from([False, False, False, True]),
    )
    def quota_changes(self, tenant: str, nominal: int | None, borrow: Caps, lend: Caps, **other: Any) -> None:
        ledger = self.ledger_of(tenant)
        changed = limits(nominal, borrowing=borrow, lending=lend, **other)
        ledger.limits[tenant] = replace(changed, cohort=ledger.name)

    @rule(tenant=st.sampled_from(TENANTS), to=st.sampled_from([*COHORTS, ""]))
    def moves(self, tenant: str, to: str) -> None:
        """Who moves takes its waiting tasks along; its attempts stand astray until the other ledger has them."""
        old, new = self.ledger_of(tenant), self.ledgers[to or tenant]
        queue, own = old.queues.pop(tenant), replace(old.limits.pop(tenant), cohort=to)
        new.queues[tenant], new.limits[tenant] = queue, own
        self.home[tenant] = to or tenant

    @rule()
    def restarts(self) -> None:
        for ledger in self.ledgers.values():
            ledger.holder = None
            for tenant, queue in ledger.queues.items():
                ledger.queues[tenant] = fresh = TenantQueue()
                for candidate in queue:
                    fresh.put(candidate)

    @rule(ledger=st.sampled_from([*COHORTS * 2, *TENANTS]))
    def cycle(self, ledger: str) -> None:
        self.cohort = self.ledgers[ledger]
        self.take_over(ledger)
        before = {tenant: dict(entries) for tenant, entries in self.cohort.held.items()}
        self.cycle_once()
        self.note_who_lives(ledger)
        for amount in TAKES:
            self.never_above(amount, before)
        self.nobody_is_left_who_could_start()

    def take_over(self, name: str) -> None:
        """Do what comes before admission: take in from other ledgers who is a member, let go whom its own has."""
        ledger, others = self.ledgers[name], [other for other in self.ledgers if other != name]
        arriving = [
            (tenant, entry)
            for tenant in ledger.limits
            for other in others
            for entry in still_to_come(ledger.held, self.ledgers[other].held, tenant)
        ]
        astray = [tenant for tenant in ledger.held if tenant not in ledger.limits]
        gone = [one for tenant in astray for one in taken_over(self.ledger_of(tenant).held, ledger.held, tenant)]
        held = changed(ledger.held, added=arriving, released=gone)
        ledger.held = {tenant: dict(entries) for tenant, entries in held.items()}

    def note_who_lives(self, name: str) -> None:
        """A ledger has all that lives of its members, and of others nothing that does not live."""
        ledger = self.ledgers[name]
        for tenant in ledger.limits:
            entries = ledger.held.get(tenant, {})
            self.live |= {uid: (tenant, entry) for uid, entry in entries.items()}
            assert set(entries) == {uid for uid, (owner, _) in self.live.items() if owner == tenant}
        assert {uid for held in ledger.held.values() for uid in held} <= set(self.live)

    def admit(self, name: str) -> None:
        self.take_over(name)
        self.ledgers[name].cycle()
        self.note_who_lives(name)

    @invariant()
    def what_lives_stands_in_a_ledger(self) -> None:
        assert set(self.live) == {
            uid for ledger in self.ledgers.values() for held in ledger.held.values() for uid in held
        }

    def used(self, tenant: str, amount: str, held: Any = None) -> int:
        return sum(map(TAKES[amount], (held or self.cohort.held).get(tenant, {}).values()))

    def limiting(self, amount: str) -> dict[str, Limits]:
        return {tenant: own for tenant, own in self.cohort.limits.items() if getattr(own, amount) is not None}

    def most(self, tenant: str, amount: str) -> int:
        """Return nominal and borrowingLimit together."""
        own = self.cohort.limits[tenant]
        borrow = getattr(own.borrowing, amount) if own.cohort else 0
        return int(getattr(own, amount)) + (1 << 50 if borrow is None else borrow)

    def never_above(self, amount: str, before: Any) -> None:
        limiting = self.limiting(amount)
        for tenant in limiting:
            assert self.used(tenant, amount) <= max(self.most(tenant, amount), self.used(tenant, amount, before))
        admits = any(self.cohort.held.get(tenant) != before.get(tenant) for tenant in limiting)
        if admits:
            kept, lent = self.lending(amount)
            borrowed, borrowed_before = (
                self.astray(amount) + sum(max(0, self.used(t, amount, held) - kept[t]) for t in limiting)
                for held in (self.cohort.held, before)
            )
            assert borrowed <= max(lent, borrowed_before)

    def astray(self, amount: str) -> int:
        return sum(map(TAKES[amount], self.cohort.strays()))

    def lending(self, amount: str) -> tuple[dict[str, int], int]:
        """Return what each member keeps for itself, and what all lend."""
        kept, lent = {}, 0
        for tenant, own in self.limiting(amount).items():
            nominal, lends = getattr(own, amount), getattr(own.lending, amount) if own.cohort else 0
            lends = nominal if lends is None else min(nominal, lends)
            kept[tenant], lent = nominal - lends, lent + lends
        return kept, lent

    def could_have(self, candidate: Candidate, own: Callable[[str], int], others: Callable[[str, str], int]) -> bool:
        """Whether *candidate* fits: its tenant has *own* of an amount, others and what is astray have *others*."""
        tenant = candidate.tenant
        for amount, of in TAKES.items():
            limiting = self.limiting(amount)
            if tenant not in limiting:
                continue
            kept, lent = self.lending(amount)
            after = own(amount) + of(candidate.entry)
            taken = sum(max(0, others(other, amount) - kept[other]) for other in limiting if other != tenant)
            taken += others("", amount)
            if after > min(self.most(tenant, amount), kept[tenant] + max(0, lent - taken)):
                return False
        return True

    def may_run(self, candidate: Candidate) -> bool:
        """Whether neither a stop nor the limit of its person holds *candidate* back."""
        own, held = self.cohort.limits[candidate.tenant], self.cohort.held.get(candidate.tenant, {})
        running = sum(self.users.get(uid) == candidate.user for uid in held)
        return not own.on_hold and not (candidate.user and own.per_user is not None and running >= own.per_user)

    def fits_now(self, candidate: Candidate) -> bool:
        def others(tenant: str, amount: str) -> int:
            return self.used(tenant, amount) if tenant else self.astray(amount)

        return self.could_have(candidate, lambda amount: self.used(candidate.tenant, amount), others)

    def fits_after_returns(self, candidate: Candidate) -> bool:
        """Whether *candidate* fits once its tenant has nothing else and nobody has what is not its own."""

        def others(tenant: str, amount: str) -> int:
            return min(self.used(tenant, amount), getattr(self.cohort.limits[tenant], amount)) if tenant else 0

        return self.could_have(candidate, lambda amount: 0, others)

    def is_within_cap(self, candidate: Candidate) -> bool:
        tenant = candidate.tenant
        amounts = [amount for amount in TAKES if tenant in self.limiting(amount)]
        return all(self.used(tenant, a) + TAKES[a](candidate.entry) <= self.most(tenant, a) for a in amounts)

    def borrows(self, candidate: Candidate) -> bool:
        tenant, own = candidate.tenant, self.cohort.limits[candidate.tenant]
        amounts = [amount for amount in TAKES if tenant in self.limiting(amount)]
        return any(self.used(tenant, a) + TAKES[a](candidate.entry) > getattr(own, a) for a in amounts)

    def has_waited(self, candidate: Candidate) -> bool:
        return self.now - candidate.queued_at >= RESERVE_AFTER

    def is_kept_from(self, candidate: Candidate) -> bool:
        """Whether the room for *candidate* is kept: for who is before it in its queue, or for the plan's holder."""
        queue, holder = self.cohort.queues[candidate.tenant], self.cohort.holder
        hopeful = [one for one in queue if self.may_run(one) and self.fits_after_returns(one)]
        head = min(hopeful, key=place_of)
        if head is not candidate and self.has_waited(head) and not self.fits_now(head):
            return True
        if holder is None or not (self.may_run(holder) and self.has_waited(holder) and self.is_within_cap(holder)):
            return False
        assert self.cohort.queues[holder.tenant].get(holder.entry.uid) is holder
        waits_for_loans = self.fits_after_returns(holder) and not self.fits_now(holder)
        return waits_for_loans and (holder.tenant == candidate.tenant or self.borrows(candidate))

    def nobody_is_left_who_could_start(self) -> None:
        """Work-conserving, but for what is kept for somebody who has waited long and gets it as soon as it can."""
        waiting = [candidate for queue in self.cohort.queues.values() for candidate in queue]
        for candidate in waiting:
            why = self.cohort.why(candidate.tenant, candidate.entry.uid)
            assert why.message
            if not self.fits_now(candidate):
                assert why.reason in SHORT_OF_QUOTA or not self.may_run(candidate)
            elif self.may_run(candidate):
                assert self.is_kept_from(candidate), f"{candidate.key} could start"
                assert why.reason is QueueReason.RESERVED

    def teardown(self) -> None:
        """Nobody starves: from now on attempts end in time, and small tasks of the highest priority keep coming."""
        waits = [
            candidate for ledger in self.ledgers.values() for queue in ledger.queues.values() for candidate in queue
        ]
        waits = [candidate for candidate in waits if self.is_within_its_own(candidate)]
        ends, due = dict.fromkeys(self.live, self.now + LONGEST), dict[str, datetime]()
        while waits:
            self.it_is(self.now + LONGEST / 2)
            for uid in [uid for uid, end in ends.items() if end <= self.now]:
                del ends[uid]
                self.is_over(uid)
            passed = [c for c in waits if c.entry.uid not in due and self.now >= self.passed(c)]
            due |= {candidate.entry.uid: self.bound(candidate) for candidate in passed}
            self.newcomers_try()
            ends |= {uid: self.now + LONGEST for uid in self.live if uid not in ends}
            waits = [candidate for candidate in waits if candidate.entry.uid not in self.live]
            for candidate in waits:
                assert self.now < due.get(candidate.entry.uid, self.now + LONGEST), f"{candidate.key} starves"
        self.at_rest_each_ledger_has_its_own()

    def newcomers_try(self) -> None:
        """Let everybody have a turn, and small tasks of the highest priority first; who must wait leaves again."""
        for tenant in TENANTS * NEWCOMERS:
            self.comes(tenant, SMALLEST, 1, "")
        for name in self.ledgers:
            self.admit(name)
        for tenant in TENANTS:
            queue = self.ledger_of(tenant).queues[tenant]
            for uid in [candidate.entry.uid for candidate in queue if candidate.queued_at == self.now]:
                queue.remove(uid)

    def is_within_its_own(self, candidate: Candidate) -> bool:
        """Whether *candidate* fits alone within its tenant's nominal quota, and nothing but the room holds it back."""
        own = self.ledger_of(candidate.tenant).limits[candidate.tenant]
        fits = all(getattr(own, a) is None or of(candidate.entry) <= getattr(own, a) for a, of in TAKES.items())
        return fits and not own.on_hold and not (candidate.user and own.per_user == 0)

    def passed(self, candidate: Candidate) -> datetime:
        """Return from when on no newcomer comes before *candidate*, and nobody passes who is before it."""
        return candidate.queued_at + timedelta(seconds=(1 - candidate.priority) * AGING_SECONDS) + RESERVE_AFTER

    def bound(self, candidate: Candidate) -> datetime:
        """Return when *candidate* has started at the latest.

        Each who is before it in its tenant's queue, who has waited longer in the cohort, or for whom something is
        kept already lets it wait twice for the longest attempt: until its tenant has room, then until the others have
        given back. It is once more where its person has too many attempts.
        """
        ledger = self.ledger_of(candidate.tenant)
        before = sum(place_of(other) <= place_of(candidate) for other in ledger.queues[candidate.tenant])
        others = [one for tenant, queue in ledger.queues.items() if tenant != candidate.tenant for one in queue]
        before += 1 + sum(other.queued_at <= candidate.queued_at for other in others)
        has_limit = candidate.user and ledger.limits[candidate.tenant].per_user is not None
        return self.now + before * LONGEST * (3 if has_limit else 2)

    def at_rest_each_ledger_has_its_own(self) -> None:
        for name in [*self.ledgers, *self.ledgers]:
            self.take_over(name)
        for ledger in self.ledgers.values():
            assert not ledger.strays()


SHORT_OF_QUOTA = (QueueReason.NEVER_FITS, QueueReason.QUOTA_EXHAUSTED, QueueReason.COHORT_EXHAUSTED)

#: Stories told by default; `make test-stories` tells 50,000.
RUNS, STEPS = 1000, 12


def test_a_cohort_keeps_its_promises_whatever_happens() -> None:
    run_state_machine_as_test(
        CohortAdmission, settings=settings(max_examples=how_many(RUNS), stateful_step_count=STEPS, deadline=None)
    )
