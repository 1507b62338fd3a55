"""Who gives way to whom, by examples and against a model of plain sums."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from longtask_operator.api.reasons import QueueReason
from longtask_operator.core.admission import MAX_CLAIMS, MAX_CLAIMS_IN_ALL, plan_admissions
from longtask_operator.core.preemption import Claim, format_claims, parse_claims
from longtask_operator.core.queueing import Candidate, TenantQueue, place_of
from longtask_operator.core.quota import LOWER_PRIORITY, NEVER, RECLAIM, Limits
from longtask_operator.core.reservation import RESERVE_AFTER
from longtask_operator.core.sizing import Size
from longtask_operator.core.why_waiting import Scene, why_waiting
from tests.builders import SMALLEST, START, at
from tests.support.cohort import LARGE, TENANTS, Cohort, CohortStory, limits
from tests.support.stories import how_many

HOUR = 3600


def lent(number: int = 2, policy: str = RECLAIM, **lender: Any) -> Cohort:
    """Return a cohort whose member `own` has lent all of its quota to `guest`."""
    cohort = Cohort(own=limits(number, preemption=policy, **lender), guest=limits(0))
    cohort.holds("guest", number)
    return cohort


class TestReclaim:
    def test_what_is_lent_comes_back_when_the_lender_needs_it(self) -> None:
        cohort = lent()
        uid = cohort.waits("own")
        assert cohort.cycle() == []
        (claim,) = cohort.claims
        assert (claim.uid, claim.tenant, len(claim.victims)) == (uid, "own", 1)
        cohort.ends(*cohort.records_stops())
        assert cohort.cycle() == ["own"]
        assert cohort.claims == ()

    def test_nobody_gives_way_where_nobody_asked_for_it(self) -> None:
        cohort = lent(policy=NEVER)
        cohort.waits("own")
        cohort.cycle()
        assert cohort.claims == ()

    @pytest.mark.parametrize("spec", [{"on_hold": True}, {"spent": "all"}, {"max_cpu": 100}])
    def test_nobody_gives_way_to_what_may_not_start_anyway(self, spec: dict[str, Any]) -> None:
        cohort = lent(**spec)
        cohort.waits("own")
        cohort.cycle()
        assert cohort.claims == ()

    def test_nobody_gives_way_to_a_task_that_would_borrow_itself(self) -> None:
        cohort = Cohort(own=limits(1, preemption=RECLAIM), guest=limits(0), lender=limits(1))
        cohort.holds("own")
        cohort.holds("guest")
        cohort.waits("own")
        cohort.cycle()
        assert cohort.claims == ()

    def test_nobody_gives_way_who_is_within_its_own_quota(self) -> None:
        cohort = Cohort(own=limits(2, preemption=RECLAIM), other=limits(2), guest=limits(0))
        cohort.holds("other", 2, since=at(-1))
        guests = [cohort.holds("guest", since=at(-HOUR)), cohort.holds("guest", since=at(-HOUR))]
        cohort.waits("own", 2)
        cohort.cycle()
        assert cohort.victims() == guests

    def test_what_runs_beyond_a_lowered_quota_counts_as_borrowed(self) -> None:
        cohort = Cohort(own=limits(2, preemption=RECLAIM), other=limits(3))
        cohort.holds("own")
        cohort.holds("other", 3)
        cohort.limits["other"] = limits(1)
        cohort.cycle()
        assert cohort.claims == ()  # lowering alone stops nothing
        cohort.waits("own")
        cohort.cycle()
        assert len(cohort.victims()) == 2

    def test_who_loses_least_since_its_checkpoint_gives_way_first(self) -> None:
        """Compute is CPU times seconds; what has not started has lost nothing."""
        cohort = Cohort(own=limits(5, preemption=RECLAIM), guest=limits(0))
        cohort.now = at(100)
        cohort.holds("guest", size=replace(SMALLEST, cpu=1000), since=at(90))  # 10,000
        least = cohort.holds("guest", since=at(80))  # 5,000
        fresh = cohort.holds("guest", size=LARGE, since=None)
        cohort.holds("guest", since=at(0))  # 25,000
        third = cohort.holds("guest", since=at(70))  # 7,500
        for expected in (fresh, least, third):
            cohort.waits("own")
            cohort.cycle()
            assert expected in cohort.victims()
        assert len(cohort.victims()) == 3

    def test_whoever_is_not_needed_in_the_end_is_spared(self) -> None:
        cohort = Cohort(own=limits(None, cpu=4000, preemption=RECLAIM), guest=limits(None, cpu=0))
        cohort.holds("guest", 2, since=at(-1))
        large = cohort.holds("guest", size=replace(LARGE, cpu=3500), since=at(-2))
        cohort.waits("own", size=replace(SMALLEST, cpu=1000))
        cohort.cycle()
        assert cohort.victims() == [large]

    def test_room_that_is_being_made_is_taken_by_nobody_else(self) -> None:
        """Of all others that wait, a borrower and one of another member's own quota, nobody slips in."""
        cohort = Cohort(own=limits(1, preemption=RECLAIM), guest=limits(0), other=limits(1, lend=0))
        victim, other = cohort.holds("guest"), cohort.holds("other")
        uid = cohort.waits("own", priority=-5, seconds=5)
        cohort.cycle()
        assert cohort.victims() == [victim]
        greedy = cohort.waits("guest", priority=9)
        cohort.waits("other", priority=9)
        cohort.ends(victim, other)
        assert sorted(cohort.cycle()) == ["other", "own"]
        assert uid in cohort.held["own"]
        assert cohort.why("guest", greedy).reason is QueueReason.COHORT_EXHAUSTED

    def test_what_becomes_free_by_itself_counts_for_whom_room_is_made(self) -> None:
        """Somebody else ends first: the task starts, and who was to give way and does not yet is spared."""
        cohort = lent(2)
        cohort.waits("own")
        cohort.cycle()
        (victim,) = cohort.victims()
        (other,) = [uid for uid in cohort.held["guest"] if uid != victim]
        cohort.ends(other)
        assert cohort.cycle() == ["own"]
        assert cohort.victims() == []

    def test_what_leaves_anyway_is_waited_for(self) -> None:
        cohort = lent(2)
        leaving = cohort.holds("guest", leaving=True)
        cohort.limits["own"] = limits(3, preemption=RECLAIM)
        uid = cohort.waits("own")
        cohort.cycle()
        assert [(claim.uid, claim.victims) for claim in cohort.claims] == [(uid, ())]
        cohort.waits("guest", priority=9)
        cohort.ends(leaving)
        assert cohort.cycle() == ["own"]

    def test_a_choice_is_not_made_anew(self) -> None:
        """A checkpoint makes another one cheaper meanwhile; the first one was told already."""
        cohort = lent(2)
        cohort.waits("own")
        cohort.cycle()
        before = cohort.victims()
        (other,) = [uid for uid in cohort.held["guest"] if uid not in before]
        cohort.now = at(60)
        cohort.runs[other] = replace(cohort.runs[other], since=at(60))
        cohort.cycle()
        assert cohort.victims() == before

    def test_nobody_gives_way_any_more_once_the_task_waits_no_more(self) -> None:
        cohort = lent()
        cohort.queues["own"].remove(cohort.waits("own"))
        cohort.waits("own")
        cohort.cycle()
        cohort.queues["own"] = TenantQueue()
        cohort.cycle()
        assert cohort.claims == ()

    def test_who_gave_way_takes_nothing_back(self) -> None:
        """Not even when its tenant may let others give way too: it was beyond its own quota and would be again."""
        cohort = Cohort(own=limits(2, preemption=RECLAIM), guest=limits(1, preemption=RECLAIM))
        cohort.holds("guest", 3)
        cohort.waits("own", 2)
        cohort.cycle()
        gone = cohort.records_stops()
        cohort.ends(*gone)
        cohort.waits("guest", 2, priority=9)
        assert cohort.cycle() == ["own", "own"]
        for _ in range(3):
            assert (cohort.cycle(), cohort.claims) == ([], ())

    def test_what_leaves_beyond_what_was_asked_for_is_taken_at_once(self) -> None:
        """The one that gives way is larger than it had to be; a borrower gets the rest in the same cycle."""
        cohort = Cohort(own=limits(None, cpu=8000, preemption=RECLAIM), guest=limits(None, cpu=1000))
        for cpu in (250, 1000, 4000):
            cohort.holds("guest", size=replace(SMALLEST, cpu=cpu))
        cohort.waits("guest")
        cohort.waits("own", size=LARGE)
        assert cohort.cycle() == []
        cohort.waits("own")
        assert cohort.cycle() == ["guest", "own"]
        assert len(cohort.claims) == 1
        assert not cohort.look_again().admitted

    def test_who_needs_nobody_once_others_have_taken_of_what_leaves_starts_in_the_same_cycle(self) -> None:
        """Of 9 CPU 3.75 are free; the large one needs 4. The others get that, and another gives way to it."""
        cohort = Cohort(
            own=limits(5, cpu=8000, preemption=RECLAIM), busy=limits(1, cpu=1000, preemption=LOWER_PRIORITY)
        )
        low = cohort.holds("busy", size=replace(SMALLEST, cpu=1000), since=at(-14))
        cohort.holds("busy", since=at(-18))
        cohort.holds("busy", size=LARGE, priority=1)
        large = cohort.waits("busy", size=LARGE, priority=1)
        assert cohort.cycle() == []
        cohort.waits("busy", priority=1)
        cohort.waits("own")
        assert cohort.cycle() == ["busy", "own"]
        assert [(claim.uid, claim.victims) for claim in cohort.claims] == [(large, ((low, 1),))]
        assert not cohort.look_again().admitted

    def test_who_has_just_started_is_not_asked_for_what_it_took(self) -> None:
        """Who gives way first leaves too little once others have started; who does for the next one leaves enough."""
        cohort = Cohort(own=limits(5, cpu=8000, preemption=RECLAIM), busy=limits(1, cpu=1000), guest=limits(0, cpu=0))
        guests = [
            cohort.holds("guest", size=LARGE, since=at(-3)),
            cohort.holds("guest", since=at(-5)),
        ]
        cohort.holds("busy", size=LARGE, since=at(-41))
        cohort.waits("own", 3, size=replace(SMALLEST, cpu=1000))
        cohort.waits("busy", 3)
        assert cohort.cycle() == ["busy", "busy"]
        assert cohort.victims() == guests
        again = cohort.look_again()
        assert (again.admitted, again.claims) == ((), cohort.claims)

    def test_many_get_room_at_once(self) -> None:
        cohort = lent(10)
        cohort.waits("own", 5)
        cohort.cycle()
        assert (len(cohort.claims), len(cohort.victims())) == (5, 5)

    def test_no_ledger_is_filled_with_claims(self) -> None:
        own = {f"own-{n}": limits(20, preemption=RECLAIM) for n in range(5)}
        cohort = Cohort(**own, guest=limits(0))
        cohort.holds("guest", 100)
        for tenant in own:
            cohort.waits(tenant, 20)
        cohort.cycle()
        assert len(cohort.claims) == MAX_CLAIMS_IN_ALL

    def test_of_one_tenant_only_so_many_have_room_made_whoever_comes_later(self) -> None:
        """And so another one of the cohort gets its share of all that a ledger holds of them."""
        cohort = Cohort(own=limits(99, preemption=RECLAIM), other=limits(1, preemption=RECLAIM), guest=limits(0))
        cohort.holds("guest", 100)
        for priority in range(5):
            cohort.waits("own", MAX_CLAIMS, priority=priority)
            cohort.cycle()
            assert len(cohort.claims) == MAX_CLAIMS
        uid = cohort.waits("other")
        cohort.cycle()
        assert uid in {claim.uid for claim in cohort.claims}

    def test_what_leaves_by_itself_is_not_said_to_give_way(self) -> None:
        cohort = Cohort(own=limits(3, preemption=RECLAIM), guest=limits(0))
        cohort.holds("guest", 2)
        cohort.holds("guest", leaving=True)
        uid = cohort.waits("own")
        cohort.cycle()
        message = cohort.why("own", uid).message
        assert "gives way" not in message
        assert message.endswith("; what becomes free is kept for this one")

    def test_it_is_said_what_is_done(self) -> None:
        cohort = lent(1)
        uid = cohort.waits("own")
        cohort.cycle()
        said = cohort.why("own", uid)
        assert said.reason is QueueReason.COHORT_EXHAUSTED
        assert said.message.endswith("; an attempt gives way to this one and it starts when the room is free")

    def test_it_is_said_anew_when_that_begins_and_when_it_ends(self) -> None:
        """Whoever waits already hears it, though neither its reason nor the numbers change."""
        cohort = Cohort(own=limits(2), guest=limits(0))
        cohort.holds("guest", 2)
        uid = cohort.waits("own")
        cohort.cycle()
        before = cohort.why("own", uid)
        cohort.limits["own"] = limits(2, preemption=RECLAIM)
        cohort.cycle()
        now = cohort.why("own", uid)
        assert now.message == before.message + "; an attempt gives way to this one and it starts when the room is free"
        assert not now.was_said(before.reason, before.message)
        assert not before.was_said(now.reason, now.message)
        assert now.was_said(now.reason, now.message.replace("guest 2", "guest 1"))

    def test_who_was_handed_over_to_kueue_holds_nothing_that_could_come_back(self) -> None:
        cohort = Cohort(own=limits(1, preemption=RECLAIM), guest=limits(0))
        kueues = cohort.holds("guest", since=None)
        cohort.held["guest"][kueues] = replace(cohort.entry(kueues), handed_over=True)
        ours = cohort.holds("guest", since=at(-HOUR))
        cohort.waits("own")
        cohort.cycle()
        assert cohort.victims() == [ours]

    def test_nobody_gives_way_whose_node_does_not_answer(self) -> None:
        """No stop would reach it, so its room would not become free; whoever was asked before is spared."""
        cohort = lent(2)
        lost, other = cohort.held["guest"]
        cohort.waits("own")
        cohort.cycle()
        assert cohort.victims() == [lost]
        cohort.runs[lost] = replace(cohort.runs[lost], unreachable=True)
        cohort.cycle()
        assert cohort.victims() == [other]

    def test_nobody_is_asked_for_two_tasks(self) -> None:
        """Two have claims, and what the first one was to get becomes free by itself: each victim stays with its own."""
        cohort = lent(4)
        cohort.waits("own", 2)
        cohort.cycle()
        first, second = cohort.claims
        cohort.ends(first.victims[0][0])
        cohort.now = at(60)
        cohort.cycle()
        assert [claim.victims for claim in cohort.claims] == [second.victims]
        assert len(cohort.held["own"]) == 1

    def test_nobody_borrows_what_would_have_to_come_back_at_once(self) -> None:
        cohort = Cohort(own=limits(None, cpu=LARGE.cpu, preemption=RECLAIM), guest=limits(None, cpu=0))
        cohort.holds("guest", 9)
        cohort.waits("own", size=LARGE)
        uid = cohort.waits("guest", priority=9)
        assert cohort.cycle() == []
        assert len(cohort.victims()) == 9
        assert cohort.why("guest", uid).reason is QueueReason.RESERVED
        assert "others give way" in cohort.why("guest", uid).message

    def test_nothing_is_kept_any_more_for_who_started_on_the_room_that_was_made(self) -> None:
        """It had waited so long that nobody else borrowed, and it is gone from the queue before its turn comes."""
        cohort = Cohort(own=limits(None, cpu=4000, preemption=RECLAIM), guest=limits(None, cpu=0))
        cohort.holds("guest", size=replace(LARGE, cpu=3900))
        cohort.waits("own", size=replace(LARGE, cpu=2000))
        cohort.waits("guest", size=replace(SMALLEST, cpu=100))
        cohort.now = START + RESERVE_AFTER
        assert cohort.cycle() == []
        assert cohort.holder
        cohort.ends(*cohort.records_stops())
        assert cohort.cycle() == ["own", "guest"]
        assert cohort.holder is None

    def test_of_what_lives_nobody_is_asked_to_say_why_others_wait_for_what_is_claimed(self) -> None:
        """That costs 12 ms where 10,000 live, and thousands may wait."""
        cohort = Cohort(own=limits(None, cpu=LARGE.cpu, preemption=RECLAIM), guest=limits(None, cpu=0))
        cohort.holds("guest", 9)
        cohort.waits("own", size=LARGE)
        cohort.waits("guest", 5)
        cohort.cycle()
        asked: list[str] = []
        snapshot = replace(cohort.snapshot(), runs=lambda entry: asked.append(entry.uid) or cohort.runs[entry.uid])
        scene = Scene(cohort.queues["guest"], snapshot, cohort.now, cohort.plan)
        assert {why_waiting(one, scene).reason for one in cohort.queues["guest"]} == {QueueReason.RESERVED}
        assert asked == []

    @pytest.mark.parametrize("number", [1, MAX_CLAIMS])
    def test_what_may_not_start_anyway_keeps_nobody_behind_it_from_what_is_its_own(self, number: int) -> None:
        cohort = lent(max_cpu=1000)
        cohort.waits("own", number, size=LARGE)
        uid = cohort.waits("own", seconds=1)
        cohort.now = START + RESERVE_AFTER
        cohort.cycle()
        assert [claim.uid for claim in cohort.claims] == [uid]

    def test_what_could_start_only_on_what_is_not_lent_now_does_not_either(self) -> None:
        """It is passed when something becomes free, too: nobody knows whether the lender ever ends."""
        cohort = Cohort(
            own=limits(None, cpu=1000, preemption=RECLAIM),
            guest=limits(None, cpu=0),
            lender=limits(None, cpu=LARGE.cpu),
        )
        cohort.holds("lender", size=LARGE)
        cohort.holds("guest", size=replace(LARGE, cpu=1000))
        cohort.waits("own", size=LARGE)
        uid = cohort.waits("own", size=replace(LARGE, cpu=1000))
        cohort.now = START + RESERVE_AFTER
        cohort.cycle()
        assert [claim.uid for claim in cohort.claims] == [uid]

    def test_who_gives_way_to_a_task_not_heard_of_yet_is_asked_for_no_other_one(self) -> None:
        """After a change of leader one task has not been looked at; another one's victim cannot be reached now."""
        cohort = lent(3)
        cohort.waits("own", 2)
        cohort.cycle()
        first, second = cohort.claims
        cohort.queues["own"].remove(second.uid)
        lost = first.victims[0][0]
        cohort.runs[lost] = replace(cohort.runs[lost], unreachable=True)
        snapshot = replace(cohort.snapshot(), is_known=lambda uid: uid == second.uid)
        plan = plan_admissions(cohort.queues, snapshot, now=cohort.now)
        named = [victim for claim in plan.claims for victim in claim.victims]
        assert (len(plan.claims), len(named)) == (2, len(set(named)))


class TestLowerPriority:
    def cohort(self, **own: Any) -> Cohort:
        return Cohort(a=limits(2, borrow=0, preemption=LOWER_PRIORITY, **own), other=limits(0))

    def test_a_higher_priority_takes_the_place_of_a_lower_one(self) -> None:
        cohort = self.cohort()
        cohort.holds("a", priority=5)
        low = cohort.holds("a", priority=1)
        cohort.waits("a", priority=4)
        cohort.cycle()
        assert cohort.victims() == [low]
        cohort.ends(*cohort.records_stops())
        cohort.waits("a", priority=1)
        assert cohort.cycle() == ["a"]
        assert (cohort.cycle(), cohort.claims) == ([], ())

    def test_who_would_give_way_to_a_newcomer_leaves_it_the_room_that_is_made(self) -> None:
        """It came before the other, and would start only to be stopped."""
        cohort = self.cohort()
        cohort.holds("a", priority=9)
        low = cohort.holds("a", priority=1)
        cohort.waits("a", priority=2)
        cohort.cycle()
        newcomer = cohort.waits("a", priority=3)
        cohort.cycle()
        assert [(claim.uid, claim.victims) for claim in cohort.claims] == [(newcomer, ((low, 1),))]
        cohort.ends(*cohort.records_stops())
        assert cohort.cycle() == ["a"]
        assert newcomer in cohort.held["a"]
        assert (cohort.cycle(), cohort.claims) == ([], ())

    def test_a_small_one_does_not_start_in_what_it_would_have_to_give_back_at_once(self) -> None:
        """The other needs that and what an attempt leaves that is about to end: nobody gives way to it yet."""
        cohort = Cohort(a=limits(None, cpu=2000, preemption=LOWER_PRIORITY))
        ending = cohort.holds("a", size=replace(SMALLEST, cpu=1000), priority=9, leaving=True)
        cohort.holds("a", size=replace(SMALLEST, cpu=750), priority=9)
        first = cohort.waits("a", size=replace(SMALLEST, cpu=1250), priority=1)
        small = cohort.waits("a")
        assert cohort.cycle() == []
        assert [(claim.uid, claim.victims) for claim in cohort.claims] == [(first, ())]
        assert cohort.why("a", small).reason is QueueReason.RESERVED
        cohort.ends(ending)
        assert cohort.cycle() == ["a"]
        assert first in cohort.held["a"]
        assert (cohort.cycle(), cohort.claims) == ([], ())

    def test_room_is_made_on_for_who_would_give_way_to_a_newcomer_that_could_not_have_it(self) -> None:
        cohort = Cohort(a=limits(None, cpu=4000, preemption=LOWER_PRIORITY))
        cohort.holds("a", size=replace(SMALLEST, cpu=3000), priority=9)
        low = cohort.holds("a", size=replace(SMALLEST, cpu=1000))
        first = cohort.waits("a", size=replace(SMALLEST, cpu=1000), priority=1)
        cohort.cycle()
        cohort.waits("a", size=replace(SMALLEST, cpu=2000), priority=2)
        cohort.cycle()
        assert [(claim.uid, claim.victims) for claim in cohort.claims] == [(first, ((low, 1),))]

    @pytest.mark.parametrize("priority", [1, 0])
    def test_an_equal_or_lower_one_waits(self, priority: int) -> None:
        cohort = self.cohort()
        cohort.holds("a", 2, priority=1)
        cohort.waits("a", priority=priority)
        cohort.cycle()
        assert cohort.claims == ()

    def test_priorities_count_up_to_the_cap(self) -> None:
        cohort = self.cohort(max_priority=1)
        cohort.holds("a", 2, priority=1)
        cohort.waits("a", priority=1000)
        cohort.cycle()
        assert cohort.claims == ()

    def test_who_would_come_first_again_keeps_its_place(self) -> None:
        """An hour of age counts like a step of priority, so that this cannot go in circles."""
        cohort = self.cohort()
        cohort.holds("a", 2, queued_at=at(-2 * HOUR))
        cohort.waits("a", priority=1)
        cohort.cycle()
        assert cohort.claims == ()

    @pytest.mark.parametrize(("lower", "stopped"), [(3, 3), (2, 0)])
    def test_what_runs_beyond_a_lowered_quota_gives_way_too_where_that_is_enough(
        self, lower: int, stopped: int
    ) -> None:
        cohort = Cohort(a=limits(5, borrow=0, preemption=LOWER_PRIORITY))
        cohort.holds("a", 5 - lower, priority=9)
        cohort.holds("a", lower, priority=1)
        cohort.limits["a"] = limits(3, borrow=0, preemption=LOWER_PRIORITY)
        cohort.cycle()
        assert cohort.claims == ()  # lowering alone stops nothing
        cohort.waits("a", priority=5)
        cohort.cycle()
        assert len(cohort.victims()) == stopped

    def test_a_limit_of_one_person_that_was_lowered_stops_nobody(self) -> None:
        cohort = Cohort(a=limits(5, borrow=0, preemption=LOWER_PRIORITY, per_user=1))
        for _ in range(2):
            cohort.users[cohort.holds("a")] = "eve"
        cohort.waits("a", priority=9, user="eve")
        assert cohort.cycle() == []
        assert cohort.claims == ()

    def test_nobody_takes_the_turn_of_its_person_for_whom_others_give_way(self) -> None:
        """One person may have one attempt: a small task of hers that fits would stop the low one for nothing."""
        cohort = Cohort(a=limits(None, cpu=2000, preemption=LOWER_PRIORITY, per_user=1))
        low = cohort.holds("a", size=replace(SMALLEST, cpu=1750))
        first = cohort.waits("a", size=replace(SMALLEST, cpu=1000), priority=9, user="eve")
        later = cohort.waits("a", user="eve")
        assert cohort.cycle() == []
        assert cohort.victims() == [low]
        said = cohort.why("a", later)
        assert said.reason is QueueReason.RESERVED
        assert said.message == "the next attempt of eve is kept for a task to which others give way"
        cohort.waits("a", user="bob")
        assert cohort.cycle() == ["a"]
        cohort.ends(*cohort.records_stops())
        assert cohort.cycle() == ["a"]
        assert first in cohort.held["a"]
        assert cohort.why("a", later).reason is QueueReason.USER_LIMIT

    def test_attempts_of_others_are_no_concern(self) -> None:
        cohort = Cohort(a=limits(2, preemption=LOWER_PRIORITY), guest=limits(0))
        cohort.holds("guest", 2, priority=-9)
        cohort.waits("a", priority=9)
        cohort.cycle()
        assert cohort.claims == ()

    def test_a_large_task_at_the_head_is_not_passed_once_it_has_waited_long(self) -> None:
        cohort = Cohort(a=limits(None, cpu=4000, preemption=LOWER_PRIORITY))
        cohort.holds("a", size=replace(LARGE, cpu=3900), priority=9)
        cohort.holds("a", size=replace(LARGE, cpu=100))
        cohort.waits("a", size=LARGE, priority=8)
        cohort.waits("a", size=replace(LARGE, cpu=200), priority=7)
        cohort.now = START + RESERVE_AFTER
        cohort.cycle()
        assert cohort.claims == ()

    def test_who_would_have_to_give_way_at_once_does_not_start(self) -> None:
        """Of 3 CPU one is free, and one more once the low one has left: the second in order needs both."""
        cohort = Cohort(a=limits(None, cpu=3000, preemption=LOWER_PRIORITY))
        low = cohort.holds("a", size=replace(SMALLEST, cpu=1000))
        cohort.waits("a", size=replace(SMALLEST, cpu=1000), priority=9)
        second = cohort.waits("a", size=replace(SMALLEST, cpu=2000), priority=8)
        later = cohort.waits("a", size=replace(SMALLEST, cpu=1000))
        assert cohort.cycle() == ["a"]
        assert [(claim.uid, claim.victims) for claim in cohort.claims] == [(second, ((low, 1),))]
        assert cohort.why("a", later).reason is QueueReason.RESERVED

    def test_who_starts_beside_a_head_for_which_nobody_could_give_way_goes_on(self) -> None:
        cohort = Cohort(a=limits(None, cpu=3000, preemption=LOWER_PRIORITY))
        cohort.holds("a", size=replace(SMALLEST, cpu=2000), priority=9)
        cohort.waits("a", size=replace(SMALLEST, cpu=3000), priority=8)
        cohort.waits("a", size=replace(SMALLEST, cpu=1000))
        assert cohort.cycle() == ["a"]
        assert not cohort.look_again().claims


CLAIM = Claim(uid="u-1", tenant="team-a", held=SMALLEST, victims=(("u-2", 3), ("u-4", 1)))


def test_claims_survive_being_written() -> None:
    claims = (CLAIM, replace(CLAIM, uid="u-9", victims=()))
    assert format_claims(claims) == "u-1 team-a 250 512 u-2/3 u-4/1\nu-9 team-a 250 512\n"
    assert parse_claims(format_claims(claims)) == claims


@pytest.mark.parametrize("text", ["u-1 team-a", "u-1 team-a x 512", "u-1 team-a 250 512 u-2", "u-1 a 1 1 u/x"])
def test_claims_that_nobody_can_read_are_made_anew(text: str) -> None:
    assert parse_claims(text) == ()


SIZES = (SMALLEST, replace(SMALLEST, cpu=1000), LARGE)


class Preemption(CohortStory):
    """Tasks come, give way, save checkpoints, end and come back; quotas change; the operator restarts."""

    @initialize(loans=st.lists(st.tuples(st.sampled_from("bc"), st.sampled_from(SIZES), st.integers(0, 60))))
    def start(self, loans: list[tuple[str, Size, int]]) -> None:
        """What a and b have is lent to begin with."""
        own = {"a": limits(5, cpu=8000, preemption=RECLAIM), "b": limits(1, cpu=1000, preemption=LOWER_PRIORITY)}
        self.cohort = Cohort(START, None, **own, c=limits(0, cpu=0))
        for tenant, size, seconds in loans:
            uid = self.cohort.holds(tenant, size=size, since=at(-seconds))
            if not self.is_within_limits(self.used_by()):
                self.cohort.ends(uid)

    @rule(
        tenant=st.sampled_from(TENANTS),
        size=st.sampled_from(SIZES),
        priority=st.integers(-1, 1),
        number=st.integers(1, 3),
        user=st.sampled_from(["", "eve"]),
    )
    def comes(self, tenant: str, size: Size, priority: int, number: int, user: str) -> None:
        seconds = (self.cohort.now - START).total_seconds()
        self.cohort.waits(tenant, number, size=size, seconds=seconds, priority=priority, user=user)

    @rule(tenant=st.sampled_from(TENANTS))
    def ends(self, tenant: str) -> None:
        self.cohort.ends(*list(self.cohort.held[tenant])[:1])

    @rule()
    def stops_are_recorded(self) -> None:
        self.cohort.claims = tuple(
            replace(c, victims=tuple(v for v in c.victims if v[0] in self.alive())) for c in self.cohort.claims
        )
        self.cohort.records_stops()

    @rule(number=st.integers(1, 3))
    def those_that_leave_end_and_wait_again(self, number: int) -> None:
        for tenant, held in self.cohort.held.items():
            for uid in [uid for uid in held if self.cohort.runs[uid].leaving][:number]:
                run, entry = self.cohort.runs.pop(uid), held.pop(uid)
                again, user = replace(entry, uid=f"{uid}'"), self.cohort.user_of(uid)
                self.cohort.users[again.uid] = user
                place: dict[str, Any] = {"key": run.key, "priority": run.priority, "queued_at": run.queued_at}
                self.cohort.queues[tenant].put(Candidate(**place, tenant=tenant, entry=again, user=user))

    @rule(tenant=st.sampled_from(TENANTS))
    def saves_a_checkpoint(self, tenant: str) -> None:
        for uid in list(self.cohort.held[tenant])[-1:]:
            self.cohort.runs[uid] = replace(self.cohort.runs[uid], since=self.cohort.now)

    @rule(
        tenant=st.sampled_from(TENANTS),
        nominal=st.none() | st.integers(0, 4),
        borrow=st.none() | st.integers(0, 2),
        lend=st.none() | st.integers(0, 2),
        cpu=st.none() | st.integers(0, 8).map(lambda steps: steps * 1000),
        preemption=st.sampled_from([NEVER, LOWER_PRIORITY, RECLAIM, RECLAIM]),
        per_user=st.none() | st.integers(0, 2),
        on_hold=st.sampled_from([False, False, False, True]),
    )
    def quota_changes(
        self, tenant: str, nominal: int | None, borrow: int | None, lend: int | None, **other: Any
    ) -> None:
        self.cohort.limits[tenant] = limits(nominal, borrow, lend, **other)

    @rule()
    def restarts(self) -> None:
        """Claims stand in the ledger; for whom the last cycle kept what becomes free does not."""
        self.cohort.holder = None

    @rule()
    def cycle(self) -> None:
        before = {tenant: dict(entries) for tenant, entries in self.cohort.held.items()}
        orderly = self.is_within_limits(self.used_by())
        self.cycle_once()
        self.nobody_gives_way_to_two()
        self.everyone_who_gives_way_is_needed()
        self.everyone_who_gives_way_may_be_asked_to(before)
        if orderly:
            assert self.is_within_limits(self.used_by())
            assert self.is_within_limits(self.used_in_the_end())
        self.nobody_waits_for_nothing()
        self.everybody_for_whom_room_is_made_has_its_turn()
        self.nobody_is_refused_what_is_its_own()

    def alive(self) -> set[str]:
        return {uid for held in self.cohort.held.values() for uid in held}

    def used_by(self, without: frozenset[str] = frozenset()) -> dict[str, list[int]]:
        """Return attempts and CPU of each tenant."""
        return {
            tenant: [
                sum(1 for uid in held if uid not in without),
                sum(entry.size.cpu for uid, entry in held.items() if uid not in without),
            ]
            for tenant, held in self.cohort.held.items()
        }

    def leaving(self) -> frozenset[str]:
        return frozenset(uid for uid in self.alive() if self.cohort.runs[uid].leaving)

    def used_in_the_end(self) -> dict[str, list[int]]:
        """Return what is used once all have left and those have started for whom room is made."""
        used = self.used_by(self.leaving() | set(self.cohort.victims()))
        for claim in self.cohort.claims:
            used[claim.tenant][0] += 1
            used[claim.tenant][1] += claim.held.cpu
        return used

    def parts(self, r: int) -> dict[str, tuple[int, int, int]]:
        """Return nominal, cap and what is lent, of those who limit resource *r*."""
        found = {}
        for tenant, own in self.cohort.limits.items():
            name = ("concurrency", "cpu")[r]
            nominal, borrow, lend = (getattr(amounts, name) for amounts in (own, own.borrowing, own.lending))
            if nominal is not None:
                cap = 1 << 40 if borrow is None else nominal + borrow
                found[tenant] = (nominal, cap, nominal if lend is None else min(nominal, lend))
        return found

    def is_within_limits(self, used: dict[str, list[int]]) -> bool:
        for r in (0, 1):
            parts = self.parts(r)
            if any(used[tenant][r] > cap for tenant, (_, cap, _) in parts.items()):
                return False
            taken = sum(max(0, used[tenant][r] - (nominal - lent)) for tenant, (nominal, _, lent) in parts.items())
            if taken > sum(lent for _, _, lent in parts.values()):
                return False
        return True

    def fits(self, claim: Claim, used: dict[str, list[int]]) -> bool:
        """Whether the claim's task would fit; only what it takes itself counts."""
        after = {tenant: list(amounts) for tenant, amounts in used.items()}
        after[claim.tenant][0] += 1
        after[claim.tenant][1] += claim.held.cpu
        for r in (0, 1):
            parts = self.parts(r)
            if claim.tenant not in parts:
                continue
            nominal, cap, lent = parts[claim.tenant]
            if after[claim.tenant][r] > cap:
                return False
            taken = sum(max(0, used[t][r] - (n - given)) for t, (n, _, given) in parts.items())
            kept = max(0, nominal - lent - used[claim.tenant][r])
            free = max(0, sum(given for _, _, given in parts.values()) - taken)
            if after[claim.tenant][r] - used[claim.tenant][r] > kept + free:
                return False
        return True

    def nobody_gives_way_to_two(self) -> None:
        named = [victim for claim in self.cohort.claims for victim in claim.victims]
        assert len(named) == len(set(named)), f"asked twice: {named}"

    def everyone_who_gives_way_is_needed(self) -> None:
        """In the order in which claims were made, none fits with one more of its victims staying."""
        out = self.leaving()
        started: list[Claim] = []
        for claim in self.cohort.claims:
            mine = {uid for uid, _ in claim.victims} - out
            for spared in mine:
                used = self.used_by(out | (mine - {spared}))
                for other in started:
                    used[other.tenant][0] += 1
                    used[other.tenant][1] += other.held.cpu
                assert not self.fits(claim, used), f"{spared} need not give way to {claim.uid}"
            out |= mine
            started.append(claim)

    def everyone_who_gives_way_may_be_asked_to(self, before: Any) -> None:
        for claim in self.cohort.claims:
            own = self.cohort.limits[claim.tenant]
            candidate = self.cohort.queues[claim.tenant].get(claim.uid)
            assert candidate
            assert own.preemption != NEVER
            assert not own.on_hold
            for uid in {uid for uid, _ in claim.victims} - self.leaving():
                run, tenant = self.cohort.runs[uid], next(t for t, held in before.items() if uid in held)
                if own.preemption == LOWER_PRIORITY:
                    assert tenant == claim.tenant
                    assert run.priority < candidate.priority
                    assert place_of(run) > place_of(candidate)
                else:
                    assert tenant != claim.tenant
                    assert self.borrows(tenant, self.used_by())

    def borrows(self, tenant: str, used: dict[str, list[int]]) -> bool:
        return any(used[tenant][r] > parts[tenant][0] for r in (0, 1) if tenant in (parts := self.parts(r)))

    def nobody_waits_for_nothing(self) -> None:
        """The bound: a task for which room is made starts in the cycle that sees the last of it leave."""
        assert not self.cohort.claims or self.leaving() | set(self.cohort.victims())

    def everybody_for_whom_room_is_made_has_its_turn(self) -> None:
        """There is one person: what runs of hers and that for which room is made are within her limit."""
        for tenant, own in self.cohort.limits.items():
            claimed = [one.uid for one in self.cohort.claims if one.tenant == tenant and self.cohort.user_of(one.uid)]
            has = [uid for uid in self.cohort.held[tenant] if self.cohort.user_of(uid)]
            assert not claimed or own.per_user is None or len(claimed) + len(has) <= own.per_user

    def nobody_is_refused_what_is_its_own(self) -> None:
        """The head of a queue that is within its tenant's nominal quota starts, or others give way to it."""
        if any(self.cohort.limits[c.tenant].preemption == LOWER_PRIORITY for c in self.cohort.claims):
            return  # once those have started, they may have to give way themselves
        used = self.used_in_the_end()
        for tenant, own in self.cohort.limits.items():
            if own.preemption != RECLAIM or own.on_hold or (self.cohort.holder and self.cohort.holder.tenant == tenant):
                continue
            for head in self.cohort.queues[tenant].first_few(
                1, lambda line, own=own: own.per_user is None or not line.user
            ):
                after = {**used, tenant: [used[tenant][0] + 1, used[tenant][1] + head.entry.size.cpu]}
                now = self.used_by()
                now[tenant] = [now[tenant][0] + 1, now[tenant][1] + head.entry.size.cpu]
                if not self.borrows(tenant, after) and not self.borrows(tenant, now):
                    assert head.entry.uid in {claim.uid for claim in self.cohort.claims}


#: Stories told by default; `make test-stories` tells 50,000.
RUNS, STEPS = 1000, 14


def test_preemption_keeps_its_promises_whatever_happens() -> None:
    run_state_machine_as_test(
        Preemption, settings=settings(max_examples=how_many(RUNS), stateful_step_count=STEPS, deadline=None)
    )


def test_limits_say_who_gives_way() -> None:
    assert Limits().preemption == NEVER
