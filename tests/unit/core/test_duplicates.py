"""Of the tasks with one key one runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.api.keys import KeyClaim, claim_of
from longtask_operator.api.phases import Phase
from longtask_operator.api.reasons import QueueReason
from longtask_operator.api.status import DuplicateOf, LongTaskStatus
from longtask_operator.core.duplicates import (
    LOOK_AGAIN,
    Claimant,
    Rivals,
    Yields,
    contest,
    counting_for,
    judge,
    one_of_each_key,
    take_over,
    yields_to,
)
from longtask_operator.core.queueing import Candidate
from longtask_operator.core.reconcile import reconcile
from tests.builders import FINISHED, POLICY, a_longtask, a_longtask_body, an_entry, at, seen, wire

CLAIM = KeyClaim(
    key="k",
    created=wire(0),
    fingerprint=b"f",
    run=1,
    run_start=wire(0),
    begun=False,
    finished_at="",
    is_apart=False,
    taken_from="",
    suspended=False,
    deleting=False,
)
BARE = Claimant(name="a", uid="1", claim=CLAIM, holds=False, lives=False)
OUTCOME = LongTaskStatus.model_validate(FINISHED | {"result": {"value": {"n": 1}}})


def a_claimant(uid: str = "1", *, holds: bool = False, lives: bool = False, **claim: Any) -> Claimant:
    return replace(BARE, name=f"task-{uid}", uid=uid, claim=replace(CLAIM, **claim), holds=holds, lives=lives)


def gone(uid: str = "1", **changes: Any) -> Claimant:
    return replace(BARE, name=f"task-{uid}", uid=uid, claim=None, **changes)


def who_runs(*field: Claimant) -> list[str]:
    holder, done = contest(field)
    return [
        one.uid
        for one in field
        if not (one.is_finished or one.is_leaving) and yields_to(one, holder, counting_for(one, done)) is None
    ]


def test_the_older_runs_and_of_two_of_one_second_the_lower_uid() -> None:
    assert who_runs(a_claimant("1", created=wire(1)), a_claimant("2", created=wire(0))) == ["2"]
    assert who_runs(a_claimant("2"), a_claimant("1")) == ["1"]


def test_who_has_an_entry_or_an_attempt_runs_whatever_its_age() -> None:
    old = a_claimant("1")
    for holder in (a_claimant("2", holds=True), a_claimant("2", lives=True), a_claimant("2", begun=True)):
        younger = replace(
            holder, claim=replace(CLAIM, created=wire(9), begun=holder.claim is not None and holder.claim.begun)
        )
        assert who_runs(old, younger) == ["2"]


def test_what_is_gone_keeps_the_key_while_something_of_it_lives() -> None:
    assert who_runs(a_claimant("2", created=wire(1)), gone("1", lives=True)) == []
    assert who_runs(a_claimant("2", created=wire(1)), gone("1", holds=True)) == []
    assert who_runs(a_claimant("2", created=wire(1)), a_claimant("1", deleting=True)) == ["2"]


def test_an_entry_that_started_nothing_yields_to_an_outcome() -> None:
    done = a_claimant("1", begun=True, finished_at=wire(5))
    assert who_runs(done, a_claimant("2", holds=True)) == []
    assert who_runs(done, a_claimant("2", lives=True)) == ["2"]


def test_an_outcome_older_than_a_redrive_does_not_count_for_the_redriven() -> None:
    done = a_claimant("1", begun=True, finished_at=wire(5))
    assert who_runs(done, a_claimant("2", run=2, run_start=wire(6))) == ["2"]
    assert who_runs(done, a_claimant("2", run=2, run_start=wire(4))) == []


def test_what_is_taken_over_after_a_redrive_is_older_than_it_all_the_same() -> None:
    """A newcomer takes over, from another, what the redriven task itself had come to before."""
    redriven = a_claimant("1", run=2, run_start=wire(6))
    copies = [a_claimant(uid, finished_at=wire(time), taken_from="1") for uid, time in (("2", 5), ("3", 9))]
    assert who_runs(redriven, *copies) == ["1"]
    assert who_runs(redriven, *copies, a_claimant("4", finished_at=wire(8))) == []


def test_who_ran_comes_before_those_that_took_it_over() -> None:
    """Also where its outcome, of a new run, is one for a task that theirs would be too old for."""
    ran, copy = a_claimant("1", run=2, finished_at=wire(7)), a_claimant("2", finished_at=wire(8), taken_from="1")
    assert contest([ran, copy])[1] == [ran]
    assert who_runs(ran, copy, a_claimant("3", run=2, run_start=wire(6))) == []


def test_of_several_outcomes_the_last_one_counts() -> None:
    old = a_claimant("1", finished_at=wire(3))
    copies = [a_claimant(uid, finished_at=wire(time), taken_from="9") for uid, time in (("2", 5), ("3", 4))]
    done = contest([old, *copies])[1]
    assert counting_for(a_claimant("4"), done) == copies[0]
    assert counting_for(a_claimant("4", run=2, run_start=wire(2)), done) == old


def test_a_running_redrive_comes_before_the_outcome_of_an_earlier_run() -> None:
    field = [a_claimant("1", run=2, begun=True, lives=True), a_claimant("2", finished_at=wire(5))]
    holder, done = contest([*field, new := a_claimant("3")])
    other = yields_to(new, holder, counting_for(new, done))
    assert other
    assert other.uid == "1"


@given(
    st.lists(
        st.builds(
            a_claimant,
            st.sampled_from(["1", "2", "3", "4", "5"]),
            holds=st.booleans(),
            lives=st.booleans(),
            created=st.sampled_from([wire(0), wire(1)]),
            run=st.sampled_from([1, 2]),
            run_start=st.sampled_from([wire(0), wire(7)]),
            begun=st.booleans(),
            finished_at=st.sampled_from(["", "", wire(5), wire(9)]),
            taken_from=st.sampled_from(["", "1", "9"]),
            deleting=st.booleans(),
        ),
        unique_by=lambda one: one.uid,
    )
)
def test_never_do_two_run_and_somebody_always_gets_on(field: list[Claimant]) -> None:
    starters = who_runs(*field)
    assert len(starters) <= 1
    holder, done = contest(field)
    wanting = [one for one in field if not one.is_finished and not one.is_leaving]
    if wanting and not starters:
        blockers = [yields_to(one, holder, counting_for(one, done)) for one in wanting]
        assert any(other and (other.is_finished or other.is_going) for other in blockers)


def a_judgement(me: Claimant, *others: Claimant, **changes: Any) -> Yields | None:
    holder, done = contest([me, *others])
    return judge(Rivals(me=me, holder=holder, finished=counting_for(me, done), **changes))


def test_another_spec_is_a_conflict_and_takes_nothing_over() -> None:
    done = a_claimant("1", finished_at=wire(5))
    yields = a_judgement(a_claimant("2"), done, outcome=OUTCOME, differing=("args", "image"))
    assert yields
    assert yields.reason is QueueReason.KEY_CONFLICT
    assert "spec.args, spec.image" in yields.message
    assert yields.outcome is None


def test_who_waits_for_a_suspended_task_is_told_what_to_do() -> None:
    first, running = a_claimant("1", suspended=True), a_claimant("1", suspended=True, lives=True, begun=True)
    for other in (first, running):
        yields = a_judgement(a_claimant("2"), other)
        assert yields
        assert "task-1 has the same idempotencyKey, comes first and is suspended; resume that one" in yields.message
    done = a_judgement(a_claimant("2"), a_claimant("1", suspended=True, finished_at=wire(5)))
    assert done
    assert done.message.endswith("comes first; its outcome will be taken over")


def test_an_outcome_is_taken_over_whole_and_says_where_it_comes_from() -> None:
    yields = a_judgement(a_claimant("2"), a_claimant("1", finished_at=wire(5)), outcome=OUTCOME)
    assert yields
    taken = take_over(LongTaskStatus(run=1), yields)
    assert taken
    status, situation = taken
    assert (situation.phase, status.result) == (Phase.SUCCEEDED, OUTCOME.result)
    assert [(c.type, c.status, c.reason) for c in situation.conditions] == [("Finished", "True", "Completed")]
    assert "taken over from LongTask task-1" in situation.conditions[0].message


def test_what_was_taken_over_before_keeps_its_words_and_names_who_ran() -> None:
    second = OUTCOME.model_copy(update={"duplicate_of": DuplicateOf(name="x", uid="0")})
    yields = a_judgement(a_claimant("3"), a_claimant("2", finished_at=wire(5)), outcome=second)
    assert yields
    taken = take_over(LongTaskStatus(run=1), yields)
    assert taken
    assert "taken over" not in taken[1].conditions[0].message
    assert taken[0].duplicate_of == second.duplicate_of


def test_a_phase_of_a_newer_version_is_waited_for() -> None:
    odd = OUTCOME.model_copy(update={"phase": "Archived"})
    yields = a_judgement(a_claimant("2"), a_claimant("1", finished_at=wire(5)), outcome=odd)
    assert yields
    assert take_over(LongTaskStatus(run=1), yields) is None


class TestReconcile:
    me = a_claimant("2", created=wire(1))
    first = a_claimant("1")
    rivals = Rivals(me=me, holder=first, finished=None)

    def test_a_duplicate_waits_and_is_no_candidate(self) -> None:
        decision = reconcile(seen(rivals=self.rivals), POLICY)
        assert decision.candidate is None
        assert decision.status
        assert (decision.status.phase, decision.status.reason) == ("Queued", "Duplicate")
        assert decision.status.duplicate_of
        assert decision.status.duplicate_of.name == "task-1"
        again = reconcile(seen(a_longtask(status=decision.status), rivals=self.rivals, now=at(99)), POLICY)
        assert again.status == decision.status
        assert again.again_at is None

    @pytest.mark.parametrize("spec", [{}, {"suspend": True}])
    def test_one_that_waits_for_a_task_that_goes_looks_again(self, spec: dict[str, Any]) -> None:
        rivals = replace(self.rivals, holder=gone("1", holds=True))
        assert reconcile(seen(a_longtask(spec), rivals=rivals, now=at(20)), POLICY).again_at == at(20) + LOOK_AGAIN

    def test_an_entry_that_started_nothing_is_given_back(self) -> None:
        decision = reconcile(seen(rivals=self.rivals, entry=an_entry()), POLICY)
        assert [type(action).__name__ for action in decision.first] == ["ConfirmUnbegun"]
        assert [type(action).__name__ for action in decision.then] == ["ReleaseEntry"]

    def test_a_conflict_is_stalled_and_not_terminal(self) -> None:
        decision = reconcile(seen(rivals=replace(self.rivals, differing=("args",))), POLICY)
        assert decision.status
        assert decision.status.duplicate_of is None
        kinds = {c.type: (c.status, c.reason) for c in decision.status.conditions or ()}
        assert kinds["Stalled"] == ("True", "KeyConflict")
        assert kinds["Finished"][0] == "False"

    def test_an_outcome_ends_it_without_an_attempt(self) -> None:
        rivals = Rivals(me=self.me, holder=self.me, finished=a_claimant("1", finished_at=wire(5)), outcome=OUTCOME)
        status = reconcile(seen(rivals=rivals), POLICY).status
        assert status
        assert (status.phase, status.attempt, status.attempts) == ("Succeeded", 0, None)
        assert status.result == OUTCOME.result
        assert status.completion_time == wire(10)

    def test_its_own_cancel_and_suspend_come_first(self) -> None:
        for spec, phase in (({"cancel": True}, "Cancelled"), ({"suspend": True}, "Suspended")):
            status = reconcile(seen(a_longtask(spec), rivals=self.rivals), POLICY).status
            assert status
            assert status.phase == phase

    def test_its_own_end_is_nobody_elses(self) -> None:
        for spec, now in (({"cancel": True}, at(10)), ({"deadlineSeconds": 5, "suspend": True}, at(10))):
            task = a_longtask(spec, reconcile(seen(rivals=self.rivals), POLICY).status)
            ended = reconcile(seen(task, rivals=self.rivals, now=now), POLICY).status
            assert ended
            assert ended.duplicate_of is None
            claim = claim_of(a_longtask_body(spec | {"idempotencyKey": "k"}, ended))
            assert claim
            assert claim.is_apart
            done = a_claimant("2", finished_at=wire(5), is_apart=True)
            assert who_runs(self.first, done) == ["1"]

    @pytest.mark.parametrize("awaited", [True, False])
    def test_one_whose_outcome_another_waits_for_outlives_its_ttl(self, awaited: bool) -> None:
        done = a_claimant("1", finished_at=wire(5))
        rivals = Rivals(me=done, holder=self.me, finished=None, is_awaited=awaited)
        task = a_longtask({"ttlSecondsAfterFinished": 1}, FINISHED)
        decision = reconcile(seen(task, rivals=rivals, now=at(99)), POLICY)
        assert ([type(action).__name__ for action in decision.then], decision.again_at) == (
            ([], at(99) + LOOK_AGAIN) if awaited else (["DeleteTask"], None)
        )

    def test_it_runs_itself_when_the_first_is_gone(self) -> None:
        waiting = reconcile(seen(rivals=self.rivals), POLICY).status
        decision = reconcile(seen(a_longtask(status=waiting), rivals=None), POLICY)
        assert decision.candidate is not None

    def test_while_the_pod_of_one_that_is_gone_lives_it_looks_again(self) -> None:
        rivals = Rivals(me=self.me, holder=gone("1", lives=True), finished=None)
        decision = reconcile(seen(rivals=rivals), POLICY)
        assert decision.candidate is None
        assert decision.again_at == at(15)


def a_candidate(uid: str) -> Candidate:
    return Candidate(key=f"team-a/{uid}", tenant="team-a", priority=0, queued_at=at(0), entry=an_entry(uid=uid))


def test_the_ledger_takes_one_of_each_key() -> None:
    keys = {"1": "k", "2": "k", "3": "j", "4": "h", "9": "h"}

    def rivals_of(uid: str) -> list[str]:
        return [other for other, key in keys.items() if key == keys.get(uid) and other != uid]

    admitted = [a_candidate(uid) for uid in ("1", "2", "3", "4", "5")]
    kept, blocked = one_of_each_key(admitted, rivals_of, lambda uid: uid == "9")
    assert [c.entry.uid for c in kept] == ["1", "3", "5"]
    assert [c.entry.uid for c in blocked] == ["2", "4"]
