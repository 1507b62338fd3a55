"""Admission of one tenant, by examples and against a model that knows no queue: a list and the rules."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from longtask_operator.api.quantity import GIBIBYTE, MEBIBYTE
from longtask_operator.api.reasons import QueueReason
from longtask_operator.core.admission import plan_admissions
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.precedence import HeldBack
from longtask_operator.core.queueing import AGING_SECONDS, Candidate, TenantQueue, place_of
from longtask_operator.core.quota import Amounts, Limits, exceeds_max_size, usage_of
from longtask_operator.core.reservation import RESERVE_AFTER
from longtask_operator.core.sizing import Size
from longtask_operator.core.snapshot import Snapshot, member_of
from longtask_operator.core.why_waiting import Scene, why_waiting
from tests.builders import SMALLEST, START, at
from tests.support.stories import how_many

MEDIUM, LARGE = Size(cpu=1000, memory=2 * GIBIBYTE), Size(cpu=4000, memory=8 * GIBIBYTE)


def waiting(uid: str, *, priority: int = 0, queued_at: datetime = START, **entry: Any) -> Candidate:
    user = entry.pop("user", "")
    line = LedgerEntry(**{"uid": uid, "attempt": 1, "generation": 1, "size": SMALLEST, **entry})
    return Candidate(
        key=f"team-a/{uid}", tenant="team-a", priority=priority, queued_at=queued_at, entry=line, user=user
    )


def fits(size: Size, usage: Amounts, limits: Limits) -> bool:
    """The rule in the model's own words: one more attempt of *size* stays within *limits*."""
    after = usage.plus(size)
    of_each = ((after.concurrency, limits.concurrency), (after.cpu, limits.cpu), (after.memory, limits.memory))
    return all(limit is None or amount <= limit for amount, limit in of_each)


def live(*uids: str, size: Size = SMALLEST) -> dict[str, LedgerEntry]:
    return {uid: LedgerEntry(uid=uid, attempt=1, generation=1, size=size) for uid in uids}


def snapshot_of(limits: Limits, entries: Any, user_of: Any = lambda uid: "", max_entries: int = 10_000) -> Snapshot:
    return Snapshot(members={"team-a": member_of(limits, entries, user_of)}, max_entries=max_entries)


class Tenant:
    """A queue, a ledger and limits, with one cycle done."""

    def __init__(self, *candidates: Candidate, entries: Any = None, users: Any = None, **limits: Any) -> None:
        self.queue, self.now = TenantQueue(limits.get("max_priority")), limits.pop("now", START)
        for candidate in candidates:
            self.queue.put(candidate)
        max_entries = limits.pop("max_entries", 10_000)
        self.snapshot = snapshot_of(
            Limits(**limits), entries or {}, lambda uid: (users or {}).get(uid, ""), max_entries=max_entries
        )
        chosen = plan_admissions({"team-a": self.queue}, self.snapshot, now=self.now).admitted
        self.admitted = [candidate.entry.uid for candidate in chosen]
        merged = {**(entries or {}), **{candidate.entry.uid: candidate.entry for candidate in chosen}}
        known = {**(users or {}), **{candidate.entry.uid: candidate.user for candidate in chosen}}
        own = self.snapshot.members["team-a"].limits
        self.after = snapshot_of(own, merged, lambda uid: known.get(uid, ""), max_entries=max_entries)

    def why(self, uid: str, position: int | None = None) -> HeldBack:
        candidate = self.queue.get(uid)
        assert candidate is not None, f"{uid} does not wait"
        return why_waiting(candidate, Scene(self.queue, self.after, self.now), position)


def test_without_limits_everybody_starts_in_order() -> None:
    assert Tenant(waiting("b", queued_at=at(1)), waiting("a"), waiting("c", priority=1)).admitted == ["c", "a", "b"]


def test_the_sidecar_counts_for_the_quota_and_not_for_the_largest_size() -> None:
    alone = {"cpu": SMALLEST.cpu, "max_cpu": SMALLEST.cpu, "max_memory": SMALLEST.memory}
    assert Tenant(waiting("a", sidecar=True), **alone | {"cpu": SMALLEST.cpu + 10}).admitted == ["a"]
    tenant = Tenant(waiting("a", sidecar=True), **alone)
    assert tenant.why("a").reason is QueueReason.NEVER_FITS
    assert "260m CPU" in tenant.why("a").message


def test_no_more_than_the_nominal_quota_starts() -> None:
    tenant = Tenant(waiting("a"), waiting("b"), waiting("c"), entries=live("x"), concurrency=3)
    assert tenant.admitted == ["a", "b"]
    held_back = tenant.why("c", position=1)
    assert (held_back.reason, held_back.message) == (
        QueueReason.QUOTA_EXHAUSTED,
        "tenant team-a uses 3 of 3 concurrent tasks",
    )
    assert held_back.position == 1
    assert not held_back.inadmissible


def test_a_lowered_quota_starts_nothing_and_stops_nothing() -> None:
    assert Tenant(waiting("a"), entries=live("x", "y", "z"), concurrency=1).admitted == []


def test_smaller_ones_pass_a_head_that_does_not_fit_yet() -> None:
    tenant = Tenant(waiting("large", size=LARGE), waiting("small", queued_at=at(1)), entries=live("x"), cpu=4000)
    assert tenant.admitted == ["small"]


def test_a_head_that_waited_long_gets_what_becomes_free() -> None:
    tenant = Tenant(
        waiting("large", size=LARGE),
        waiting("small", queued_at=at(1)),
        entries=live("x"),
        cpu=4000,
        now=START + RESERVE_AFTER,
    )
    assert tenant.admitted == []
    assert tenant.why("small").reason is QueueReason.RESERVED
    assert "team-a/large" in tenant.why("small").message
    assert tenant.why("large").reason is QueueReason.QUOTA_EXHAUSTED


def test_nothing_is_kept_for_a_head_that_can_never_fit() -> None:
    tenant = Tenant(waiting("huge", size=LARGE), waiting("small", queued_at=at(1)), cpu=2000, now=START + RESERVE_AFTER)
    assert tenant.admitted == ["small"]
    assert tenant.why("huge").reason is QueueReason.NEVER_FITS
    assert tenant.why("huge").inadmissible


def test_a_task_that_holds_an_entry_is_admitted_anew_whatever_the_limits() -> None:
    tenant = Tenant(
        waiting("x", generation=2), waiting("a"), entries=live("x"), concurrency=1, on_hold=True, max_entries=1
    )
    assert tenant.admitted == ["x"]


@pytest.mark.parametrize("attempt", [1, 3])
def test_the_entry_of_another_attempt_is_no_place_for_the_next_one(attempt: int) -> None:
    """An operator that has not heard of an end puts the entry back; beside it another may have been admitted."""
    entries = {**live("y"), "x": replace(live("x")["x"], attempt=attempt)}
    assert Tenant(waiting("x", attempt=2), entries=entries, concurrency=1).admitted == []


def test_the_size_that_was_admitted_stands_until_the_spec_changes() -> None:
    """What is suggested may change while the ledger is written; a Job of the first size may be under way."""
    for generation, size in ((1, SMALLEST), (2, LARGE)):
        tenant = Tenant(waiting("x", size=LARGE, generation=generation), entries=live("x"))
        assert tenant.admitted == ["x"]
        assert tenant.after.members["team-a"].entries["x"].size == size


def test_who_wants_more_than_its_entry_holds_waits_for_its_turn() -> None:
    wanted = waiting("x", size=LARGE, generation=2)
    assert Tenant(wanted, entries=live("x"), cpu=LARGE.cpu).admitted == []
    assert Tenant(wanted, entries=live("x"), cpu=LARGE.cpu + SMALLEST.cpu).admitted == ["x"]
    less = waiting("x", size=SMALLEST, generation=2)
    assert Tenant(less, entries={"x": waiting("x", size=LARGE).entry}, cpu=0).admitted == ["x"]


class TestHandOver:
    def test_what_kueue_admits_asks_for_no_quota_and_takes_none(self) -> None:
        candidates = (waiting("a", handed_over=True), waiting("b", handed_over=True), waiting("c"), waiting("d"))
        assert Tenant(*candidates, concurrency=1).admitted == ["a", "b", "c"]
        assert usage_of([waiting("a", handed_over=True).entry]) == Amounts()
        person = [waiting(uid, user="alice", handed_over=True) for uid in ("x", "y")]
        assert Tenant(*person, concurrency=0, cpu=0, per_user=1, spent="all").admitted == ["x", "y"]

    def test_but_a_stop_the_largest_size_and_the_ledger_hold_it_back(self) -> None:
        held = Tenant(waiting("a", handed_over=True), on_hold=True)
        assert (held.admitted, held.why("a").reason) == ([], QueueReason.TENANT_STOPPED)
        large = Tenant(waiting("a", size=LARGE, handed_over=True), max_cpu=1000)
        assert (large.admitted, large.why("a").reason) == ([], QueueReason.EXCEEDS_MAX_SIZE)
        full = Tenant(waiting("a", handed_over=True), waiting("b", handed_over=True), max_entries=1)
        assert (full.admitted, full.why("b").reason) == (["a"], QueueReason.COHORT_EXHAUSTED)
        assert Tenant(waiting("a", handed_over=True), on_hold=True).why("a").inadmissible is False

    def test_nothing_is_kept_for_it_and_it_passes_who_waits(self) -> None:
        long_ago, large = at(0), waiting("large", size=LARGE, handed_over=True, queued_at=at(0))
        late = Tenant(large, waiting("b"), concurrency=1, max_cpu=1000, now=long_ago + RESERVE_AFTER)
        assert late.admitted == ["b"]
        behind = Tenant(
            waiting("head", size=LARGE), waiting("k", handed_over=True), cpu=4000, entries=live("a"), now=at(10_000)
        )
        assert behind.admitted == ["k"]

    def test_an_entry_that_counted_for_nothing_has_to_be_admitted_before_it_counts(self) -> None:
        held = {"a": waiting("a", handed_over=True).entry}
        assert Tenant(waiting("a"), entries=held, concurrency=0).admitted == []
        assert Tenant(waiting("a"), entries=held, concurrency=1).admitted == ["a"]
        assert Tenant(waiting("a", handed_over=True), entries=live("a"), concurrency=0).admitted == ["a"]


def test_each_person_has_a_limit_and_service_accounts_have_none() -> None:
    tenant = Tenant(
        waiting("a", user="eve"),
        waiting("b", user="eve", queued_at=at(1)),
        waiting("c", user="bob", queued_at=at(2)),
        waiting("d", queued_at=at(3)),
        waiting("e", queued_at=at(4)),
        entries=live("x"),
        users={"x": "eve"},
        per_user=2,
    )
    assert tenant.admitted == ["a", "c", "d", "e"]
    assert tenant.why("b").reason is QueueReason.USER_LIMIT
    assert tenant.why("b").message == "eve has 2 attempts running and one person may have 2 at once"


def test_who_has_more_than_a_lowered_limit_is_told_both_numbers() -> None:
    tenant = Tenant(waiting("f", user="eve"), entries=live(*"abcde"), users=dict.fromkeys("abcde", "eve"), per_user=2)
    found = tenant.why("f")
    assert found.message == "eve has 5 attempts running and one person may have 2 at once"
    assert found.was_said("UserLimit", "eve has 4 attempts running and one person may have 2 at once")
    assert not found.was_said("UserLimit", "eve has 5 attempts running and one person may have 20 at once")


def test_where_no_person_may_run_anything_no_waiting_helps() -> None:
    barred = [waiting("a", user="eve"), waiting("b")]
    tenant = Tenant(*barred, per_user=0)
    assert tenant.admitted == ["b"]
    assert tenant.why("a").reason is QueueReason.NEVER_FITS
    assert tenant.why("a").inadmissible
    assert Tenant(*barred, per_user=1).admitted == ["a", "b"]


def test_the_reasons_have_their_precedence() -> None:
    everything: dict[str, Any] = {"concurrency": 0, "on_hold": True, "max_queued": 0, "max_cpu": 100}
    order: list[tuple[dict[str, Any], QueueReason]] = [
        ({}, QueueReason.EXCEEDS_MAX_SIZE),
        ({"max_cpu": None}, QueueReason.NEVER_FITS),
        ({"concurrency": 1}, QueueReason.TENANT_STOPPED),
        ({"on_hold": False}, QueueReason.QUEUE_FULL),
        ({"max_queued": None, "per_user": 1}, QueueReason.USER_LIMIT),
        ({"per_user": None}, QueueReason.QUOTA_EXHAUSTED),
        ({"concurrency": None, "max_entries": 1}, QueueReason.COHORT_EXHAUSTED),
    ]
    limits = everything
    for change, reason in order:
        limits = limits | change
        tenant = Tenant(waiting("a", user="eve"), entries=live("x"), users={"x": "eve"}, **limits)
        assert tenant.why("a", position=1).reason is reason, change


SIZES = [SMALLEST, MEDIUM, LARGE]
#: When it is asked whether somebody starves: how long attempts run at most, and how many newcomers there always are.
LONGEST, NEWCOMERS = timedelta(hours=2), 8


class Admission(RuleBasedStateMachine):
    """Tasks come, end and leave, quotas change, time passes. What is checked follows from the rules alone."""

    @initialize(cpu=st.sampled_from([None, 4000, 5000]), live=st.integers(0, 16))
    def start(self, cpu: int | None, live: int) -> None:
        self.queue, self.waiting = TenantQueue(), dict[str, Candidate]()
        self.live, self.users = dict[str, LedgerEntry](), dict[str, str]()
        self.limits, self.now, self.count = Limits(cpu=cpu), START, 0
        for _ in range(live):
            self.comes(SMALLEST, 0, "", False)
        self.admit()

    @rule(
        size=st.sampled_from(SIZES),
        priority=st.integers(-2, 2),
        user=st.sampled_from(["", "eve", "bob"]),
        again=st.booleans(),
    )
    def comes(self, size: Size, priority: int, user: str, again: bool) -> None:
        self.count += 1
        candidate = waiting(f"u{self.count}", priority=priority, queued_at=self.now, size=size, user=user)
        if again and self.waiting:  # the same task with another spec
            uid, before = next(iter(self.waiting.items()))
            candidate = waiting(uid, priority=priority, queued_at=before.queued_at, size=size, user=before.user)
        self.queue.put(candidate)
        self.waiting[candidate.entry.uid] = candidate

    @rule(data=st.data())
    def ends(self, data: st.DataObject) -> None:
        if self.live:
            del self.live[data.draw(st.sampled_from(sorted(self.live)))]

    @rule(data=st.data())
    def is_cancelled(self, data: st.DataObject) -> None:
        if self.waiting:
            uid = data.draw(st.sampled_from(sorted(self.waiting)))
            del self.waiting[uid]
            self.queue.remove(uid)

    @rule(
        concurrency=st.none() | st.integers(0, 4),
        cpu=st.none() | st.integers(0, 10).map(lambda steps: steps * 500),
        memory=st.none() | st.integers(0, 20).map(lambda steps: steps * 512 * MEBIBYTE),
        per_user=st.none() | st.integers(0, 2),
        max_cpu=st.sampled_from([None, None, 1000]),
        max_priority=st.sampled_from([None, 0]),
        on_hold=st.sampled_from([False, False, False, True]),
    )
    def quota_changes(self, **limits: Any) -> None:
        self.limits = Limits(**limits)
        self.queue.set_max_priority(self.limits.max_priority)

    @rule(seconds=st.sampled_from([1, 120, 700, 4000]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def restarts(self) -> None:
        self.queue = TenantQueue(self.limits.max_priority)
        for candidate in sorted(self.waiting.values(), key=lambda candidate: candidate.key, reverse=True):
            self.queue.put(candidate)

    @rule()
    def cycle(self) -> None:
        before = usage_of(self.live.values())
        self.admit()
        self.never_above_the_quota(before)
        self.nobody_is_left_who_could_start()
        self.everyone_hears_why()

    def admit(self) -> None:
        snapshot = snapshot_of(self.limits, self.live, lambda uid: self.users.get(uid, ""))
        for candidate in plan_admissions({"team-a": self.queue}, snapshot, now=self.now).admitted:
            uid = candidate.entry.uid
            assert self.waiting.pop(uid) is candidate
            assert not self.limits.on_hold
            self.live[uid], self.users[uid] = candidate.entry, candidate.user

    def never_above_the_quota(self, before: Amounts) -> None:
        after = usage_of(self.live.values())
        for resource in ("concurrency", "cpu", "memory"):
            limit, amount = getattr(self.limits, resource), getattr(after, resource)
            assert limit is None or amount <= max(limit, getattr(before, resource))
        if self.limits.per_user is not None and after != before:
            newest = list(self.live)[before.concurrency :]
            for user in {self.users[uid] for uid in newest} - {""}:
                assert sum(self.users[uid] == user for uid in self.live) <= self.limits.per_user

    def could_start(self, candidate: Candidate, usage: Amounts) -> bool:
        mine = sum(self.users[uid] == candidate.user for uid in self.live)
        user_full = candidate.user and self.limits.per_user is not None and mine >= self.limits.per_user
        size = candidate.entry.size
        return fits(size, usage, self.limits) and not user_full and not exceeds_max_size(size, self.limits)

    def nobody_is_left_who_could_start(self) -> None:
        """Work-conserving, but for a reservation: the first who could start alone has waited long and does not fit."""
        usage = usage_of(self.live.values())
        able = [candidate for candidate in self.waiting.values() if self.could_start(candidate, usage)]
        assert not able or self.limits.on_hold or self.all_is_kept()

    def all_is_kept(self) -> bool:
        """Whether what becomes free is kept for the head of the queue."""
        alone = (c for c in self.waiting.values() if self.could_start(c, Amounts()))
        head = min(alone, key=self.place, default=None)
        if head is None or self.could_start(head, usage_of(self.live.values())):
            return False
        return self.now - head.queued_at >= RESERVE_AFTER

    def place(self, candidate: Candidate) -> tuple[float, str]:
        return place_of(candidate, self.limits.max_priority)

    def everyone_hears_why(self) -> None:
        snapshot = snapshot_of(self.limits, self.live, lambda uid: self.users.get(uid, ""))
        for candidate in self.waiting.values():
            why = why_waiting(candidate, Scene(self.queue, snapshot, self.now))
            assert why.message
            if self.could_start(candidate, usage_of(self.live.values())) and not self.limits.on_hold:
                assert why.reason is QueueReason.RESERVED
            if why.inadmissible:
                size, nobody = candidate.entry.size, bool(candidate.user) and self.limits.per_user == 0
                assert exceeds_max_size(size, self.limits) or not fits(size, Amounts(), self.limits) or nobody

    def teardown(self) -> None:
        """Nobody starves: from now on attempts end in time, and small tasks of the highest priority keep coming."""
        waits = {uid: c for uid, c in self.waiting.items() if not self.limits.on_hold and self.could_run_alone(c)}
        ends = dict.fromkeys(self.live, self.now + LONGEST)
        due = dict[str, datetime]()
        while waits:
            self.now += LONGEST / 2
            for uid in [uid for uid, end in ends.items() if end <= self.now]:
                del self.live[uid], ends[uid]
            due |= {uid: self.bound(c) for uid, c in waits.items() if uid not in due and self.now >= self.passed(c)}
            for _ in range(NEWCOMERS):
                self.comes(SMALLEST, 2, "", False)
            self.admit()
            ends |= {uid: self.now + LONGEST for uid in self.live if uid not in ends}
            waits = {uid: candidate for uid, candidate in waits.items() if uid in self.waiting}
            for uid in waits:
                assert self.now < due.get(uid, self.now + LONGEST), f"{uid} starves"
            self.newcomers_give_up()

    def newcomers_give_up(self) -> None:
        for uid in [uid for uid, candidate in self.waiting.items() if candidate.queued_at == self.now]:
            del self.waiting[uid]
            self.queue.remove(uid)

    def could_run_alone(self, candidate: Candidate) -> bool:
        size = candidate.entry.size
        is_barred = bool(candidate.user) and self.limits.per_user == 0
        return fits(size, Amounts(), self.limits) and not is_barred and not exceeds_max_size(size, self.limits)

    def passed(self, candidate: Candidate) -> datetime:
        """Return from when on no newcomer comes before *candidate*, and nobody passes who is before it."""
        most = 2 if self.limits.max_priority is None else min(2, self.limits.max_priority)
        steps = max(0, most - candidate.priority)
        return candidate.queued_at + timedelta(seconds=steps * AGING_SECONDS) + RESERVE_AFTER

    def bound(self, candidate: Candidate) -> datetime:
        """Return when *candidate* has started at the latest: each who is before it waits for the longest attempt.

        So does whoever is of a person with too many attempts, before it counts as the head.
        """
        before = sum(self.place(other) <= self.place(candidate) for other in self.waiting.values())
        return self.now + before * LONGEST * (2 if candidate.user and self.limits.per_user is not None else 1)

    @invariant()
    def the_queue_holds_who_waits(self) -> None:
        assert {candidate.entry.uid for candidate in self.queue} == set(self.waiting)


#: Stories told by default; `make test-stories` tells 50,000.
RUNS, STEPS = 1000, 12


def test_admission_keeps_its_promises_whatever_happens() -> None:
    run_state_machine_as_test(
        Admission, settings=settings(max_examples=how_many(RUNS), stateful_step_count=STEPS, deadline=None)
    )


def test_no_large_task_starves_behind_small_ones_that_keep_coming() -> None:
    """The head starts at the latest when those have ended that ran when its reservation began."""
    queue, entries, now = TenantQueue(), live("x0", "x1", "x2", "x3"), START
    queue.put(waiting("large", size=LARGE))
    limits, started = Limits(cpu=4000), False
    for minute in range(60):
        now = START + timedelta(minutes=minute)
        queue.put(waiting(f"small{minute}", queued_at=now))
        for uid in list(entries)[:1]:  # one ends a minute
            del entries[uid]
        for candidate in plan_admissions({"team-a": queue}, snapshot_of(limits, entries), now=now).admitted:
            entries[candidate.entry.uid] = candidate.entry
            started = started or candidate.entry.uid == "large"
        if started:
            break
    assert started
    assert now <= START + RESERVE_AFTER + timedelta(minutes=16)
