"""What is shown of a task for which several reasons to wait hold at once: the first of the closed list."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from longtask_operator.api.longtask import LongTask
from longtask_operator.api.reasons import QueueReason
from longtask_operator.api.status import LongTaskStatus
from longtask_operator.core.attempt_size import SizeSource, Suggestion
from longtask_operator.core.causes import AttemptEnd, Cause
from longtask_operator.core.conditions import is_true
from longtask_operator.core.decision import Decision
from longtask_operator.core.duplicates import Claimant, KeyClaim, Rivals
from longtask_operator.core.ending import end_attempt
from longtask_operator.core.estimate import Pace
from longtask_operator.core.precedence import INADMISSIBLE, HeldBack
from longtask_operator.core.quota import NO_AMOUNTS, UNLIMITED, Limits
from longtask_operator.core.reconcile import reconcile
from longtask_operator.core.refusal import Refusal
from longtask_operator.core.room import Room
from longtask_operator.core.terms import Terms, terms_of
from tests.builders import FINISHED, POLICY, a_longtask, a_running_pod, an_entry, at, seen, wire

R = QueueReason
EXAMPLES = 20_000 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 1_000
ENDED = {"number": 1, "run": 1, "generation": 1, "cause": "Application", "completionTime": wire(3)}
#: After attempt 1, and after its backoff.
BEGUN: dict[str, Any] = {
    "run": 1, "attempt": 1, "tenant": "team-a", "runStartTime": wire(0), "nextAttemptTime": wire(5),
    "attempts": [ENDED],
}  # fmt: skip
QUEUED: dict[str, Any] = {"run": 1, "attempt": 0, "tenant": "team-a", "runStartTime": wire(0)}
CLAIM = KeyClaim(
    key="k", created=wire(0), fingerprint=b"", run=1, run_start=wire(0), begun=False, finished_at="", is_apart=False,
    taken_from="", suspended=False, deleting=False,
)  # fmt: skip
FIRST, SECOND = (Claimant(name=n, uid=n, claim=CLAIM, holds=n == "1", lives=False) for n in "12")
REFUSAL = Refusal(attempt=2, generation=1, of_pod=False, message="exceeded quota", in_a_row=1, until=at(60))
POD, LOST = a_running_pod(uid="pod-1"), a_running_pod(uid="pod-2", node_lost_at=at(2))
#: Reasons for which one does not stand in the queue: what is used, and by whom, is nothing to such a task.
OUTSIDE = {
    R.SUSPENDED, R.INVALID, R.KEY_CONFLICT, R.DUPLICATE, R.BACKOFF, R.REFUSED_BY_CLUSTER, R.RELEASING_PREVIOUS,
    R.NODE_UNREACHABLE,
}  # fmt: skip
#: What admission alone can say.
IN_THE_QUEUE = (R.QUEUE_FULL, R.USER_LIMIT, R.QUOTA_EXHAUSTED, R.COHORT_EXHAUSTED, R.RESERVED, R.BEHIND_OTHERS)
#: What limits make the quota say so of every task.
LIMITS: dict[QueueReason, dict[str, Any]] = {
    R.EXCEEDS_MAX_SIZE: {"max_cpu": 100},
    R.NEVER_FITS: {"cpu": 100},
    R.TENANT_STOPPED: {"on_hold": True},
    R.BUDGET_EXHAUSTED: {"spent": "budget month is spent"},
}


def terms(*holding: QueueReason) -> Terms:
    limits = Limits(**{name: limit for reason in holding for name, limit in LIMITS[reason].items()})
    return terms_of("team-a", limits, Room({"team-a": (limits, NO_AMOUNTS)}))


def decide(reasons: set[QueueReason], status: dict[str, Any] | LongTaskStatus | None = None, **spec: Any) -> Decision:
    """Return the decision where all of *reasons* hold."""
    spec |= {"suspend": R.SUSPENDED in reasons, "resources": {"cpu": "3"} if R.INVALID in reasons else {}}
    if status is None:
        status = BEGUN | ({"nextAttemptTime": wire(20)} if R.BACKOFF in reasons else {})
    differing = ("image",) if R.KEY_CONFLICT in reasons else ()
    pods = {R.RELEASING_PREVIOUS: POD, R.NODE_UNREACHABLE: LOST}
    said = next((reason for reason in IN_THE_QUEUE if reason in reasons), None)
    there: dict[str, Any] = {
        "rivals": Rivals(me=SECOND, holder=FIRST, finished=None, differing=differing),
        "refusal": REFUSAL if R.REFUSED_BY_CLUSTER in reasons else None,
        "pods": tuple(pod for reason, pod in pods.items() if reason in reasons),
        "held_back": HeldBack(reason=said, message="so", position=3) if said else None,
        "terms": terms(*(reason for reason in LIMITS if reason in reasons)),
        "waiting_since": at(0),
    }
    if not reasons & {R.DUPLICATE, R.KEY_CONFLICT}:
        del there["rivals"]
    return reconcile(seen(a_longtask(spec, status), **there), POLICY)


@given(st.sets(st.sampled_from(list(R)), min_size=1))
@settings(max_examples=EXAMPLES, deadline=None)
def test_the_first_of_the_list_that_holds_is_shown(reasons: set[QueueReason]) -> None:
    if R.KEY_CONFLICT in reasons:  # the same other task
        reasons.discard(R.DUPLICATE)
    if reasons & OUTSIDE:
        reasons -= set(IN_THE_QUEUE)
    decision = decide(reasons)
    status, first = decision.status, min(reasons, key=list(R).index)
    assert status
    assert status.queue
    event(first)
    if not reasons & OUTSIDE:
        first = min(reasons | ({R.BEHIND_OTHERS} - reasons), key=list(R).index)
    assert (status.queue.reason, status.reason) == (first, first)
    assert is_true(status, "Stalled") is (first in INADMISSIBLE)  # type: ignore[arg-type]
    assert (decision.candidate is None) is bool(reasons & OUTSIDE)
    again = decide(reasons, status)
    assert again.status == status


@pytest.mark.parametrize("reason", [R.DUPLICATE, R.BACKOFF, R.REFUSED_BY_CLUSTER, R.RELEASING_PREVIOUS])
@pytest.mark.parametrize("of_quota", LIMITS)
def test_a_word_of_the_quota_ends_by_itself_and_so_does_the_wait(reason: QueueReason, of_quota: QueueReason) -> None:
    own, both = decide({reason}), decide({reason, of_quota})
    assert own.status
    assert both.status
    first = min(reason, of_quota, key=list(R).index)
    assert both.status.reason == first
    for word in (own, both):  # nothing else is decided otherwise
        assert (word.then, word.candidate, word.again_at) == (own.then, own.candidate, own.again_at)
    corrected = decide({reason}, both.status)
    assert corrected.status
    assert corrected.status.reason == reason
    assert corrected.status.next_attempt_time == own.status.next_attempt_time


@given(st.sets(st.sampled_from([*LIMITS, *OUTSIDE - {R.BACKOFF}])))
@settings(max_examples=EXAMPLES // 4, deadline=None)
def test_a_new_run_shows_the_first_at_once_or_nothing(reasons: set[QueueReason]) -> None:
    """What the queue says, and who shares its key, is heard once it has begun; what needs neither is written once."""
    first = min(reasons, key=list(R).index, default=None)
    begun = decide(reasons, FINISHED, redrive="2")
    assert (begun.first, begun.then, begun.candidate, begun.can_wait) == ((), (), None, False)
    assert begun.status
    assert (begun.status.run, begun.status.attempt) == (2, 1)
    is_heard = not reasons & OUTSIDE or bool(reasons & {R.KEY_CONFLICT, R.DUPLICATE})  # from the queue, of the key
    event(str(first))
    if is_heard and first not in (R.SUSPENDED, R.INVALID):
        assert (begun.status.reason, begun.status.queue) == ("Queued", None)
        return
    assert (begun.status.reason, begun.status.queue and begun.status.queue.reason) == (first, first)
    again = decide(reasons, begun.status, redrive="2")
    assert again.status == begun.status
    assert again.notices == ()


@pytest.mark.parametrize("of_quota", LIMITS)
def test_who_is_given_up_or_asks_for_sizes_says_first_what_the_quota_says(of_quota: QueueReason) -> None:
    asked = Suggestion(memory=None, source=SizeSource.INPUT_HINT, message="not yet", asked=at(7))
    for there in ({"entry": an_entry(), "evicted": "it gives way"}, {"suggestion": asked}):
        status = reconcile(seen(a_longtask(None, QUEUED), terms=terms(of_quota), **there), POLICY).status
        assert status
        assert status.reason == of_quota
        status = reconcile(seen(a_longtask(None, QUEUED), terms=terms(), **there), POLICY).status
        assert status
        assert status.reason == "BehindOthers"


def test_that_its_creator_may_never_run_anything_is_said_in_a_backoff_too_until_that_is_changed() -> None:
    backoff = BEGUN | {"nextAttemptTime": wire(20)}

    def reason(**limits: Any) -> str | None:
        own = Limits(**limits)
        task = a_longtask(None, backoff, annotations={"longtask.dev/created-by": "eve"})
        sight = seen(task, terms=terms_of("team-a", own, Room({"team-a": (own, NO_AMOUNTS)})))
        after = reconcile(sight, POLICY).status
        assert after
        assert is_true(after, "Stalled") is (after.reason == R.NEVER_FITS)
        return after.reason

    assert reason(per_user=0) == R.NEVER_FITS
    assert reason(per_user=1) == R.BACKOFF


class TestAtTheEndOfAnAttempt:
    def end(self, **limits: Any) -> LongTaskStatus:
        running = {
            **ENDED,
            "cause": None,
            "completionTime": None,
            "startTime": wire(1),
            "cpu": "250m",
            "memory": "512Mi",
        }
        task: LongTask = a_longtask(None, BEGUN | {"attempts": [running], "nextAttemptTime": None})
        attempt, own = (task.status.attempts or [])[0], Limits(**limits)
        room = Room({"team-a": (own, NO_AMOUNTS)})
        sight = seen(task, terms=terms_of("team-a", own, room))
        status = end_attempt(
            sight, attempt, task.status, AttemptEnd(cause=Cause.OUT_OF_MEMORY, message="m"), POLICY
        ).status
        assert status
        return status

    def test_what_comes_before_the_backoff_is_said_in_the_same_write(self) -> None:
        assert self.end().reason == "Backoff"
        assert self.end(on_hold=True).reason == "TenantStopped"

    def test_it_is_the_size_of_the_next_attempt_that_counts(self) -> None:
        assert self.end(memory=1024**3).reason == "Backoff"
        status = self.end(memory=1024**3 - 1)
        assert status.reason == "NeverFits"
        assert status.next_attempt_time
        assert status.completion_time is None


class TestWhatStays:
    """Numbers that change with what others use are written with the place; those of the quota when it changes."""

    def shown(self, before: LongTaskStatus | None, message: str, *, position: int = 10, of: int = 5) -> LongTaskStatus:
        held_back = HeldBack(reason=R.QUOTA_EXHAUSTED, message=message, position=position, lasting=(f" of {of}",))
        task = a_longtask(None, before or BEGUN)
        status = reconcile(seen(task, held_back=held_back, terms=terms()), POLICY).status
        assert status
        return status

    def test_what_is_used_changes_nothing_alone(self) -> None:
        before = self.shown(None, "uses 5 of 5")
        assert self.shown(before, "uses 4 of 5", position=9) == before

    def test_a_noticeable_move_brings_the_present_numbers(self) -> None:
        after = self.shown(self.shown(None, "uses 5 of 5"), "uses 4 of 5", position=8).queue
        assert after
        assert (after.message, after.position) == ("uses 4 of 5", 8)

    def test_another_quota_does_too(self) -> None:
        after = self.shown(self.shown(None, "uses 5 of 5"), "uses 5 of 3", of=3).queue
        assert after
        assert (after.message, after.position) == ("uses 5 of 3", 10)

    def test_what_never_fits_says_the_present_quota(self) -> None:
        status = decide({R.NEVER_FITS, R.BACKOFF}).status
        assert status
        limits = Limits(cpu=50)
        there = terms_of("team-a", limits, Room({"team-a": (limits, NO_AMOUNTS)}))
        after = reconcile(seen(a_longtask(None, status), terms=there), POLICY).status
        assert after
        assert after.queue
        assert after.queue.message == "the attempt needs 250m CPU and no quota has 50m in all"

    def test_a_start_that_did_not_come_is_estimated_anew_and_the_place_stays(self) -> None:
        pace = Pace(quick=10, slow=20, samples=40, live=5)

        def look(before: LongTaskStatus | None, second: float, position: int = 4) -> Decision:
            held_back = HeldBack(reason=R.QUOTA_EXHAUSTED, message="uses 5 of 5", position=position, lasting=(" of 5",))
            task = a_longtask(None, before or BEGUN)
            sight = seen(task, held_back=held_back, terms=terms(), pace=pace, now=at(second))
            return reconcile(sight, POLICY)

        said = look(None, 10)
        assert said.again_at == at(10 + 20 + 60)
        assert look(said.status, 89).status == said.status
        anew = look(said.status, 90)
        assert anew.can_wait
        assert anew.status
        assert anew.status.queue
        assert anew.status.queue.position == 4
        estimate = anew.status.queue.estimated_start
        assert estimate
        assert (estimate.earliest, estimate.latest) == (wire(90), wire(90 + 60))
        assert anew.again_at == at(90 + 60 + 60)
        assert look(anew.status, 91) == replace(anew, candidate=look(anew.status, 91).candidate)

    def test_that_a_budget_did_not_recover_when_it_was_to_is_said(self) -> None:
        """What runs goes on to spend: the moment that was named passes, and nothing else tells of that."""
        spent = "budget day of a quota is spent: {} of 10 CPU-hours in 1 days; it recovers from {}"
        status: LongTaskStatus | None = None
        said = []
        for second, used, recovers in ((10, "10.0", 60), (59, "11.0", 90), (60, "11.1", 120), (61, "11.2", 150)):
            limits = Limits(spent=spent.format(used, wire(recovers)))
            there = terms_of("team-a", limits, Room({"team-a": (limits, NO_AMOUNTS)}))
            sight = seen(a_longtask(None, status or BEGUN), terms=there, now=at(second), waiting_since=at(0))
            status = reconcile(sight, POLICY).status
            assert status
            assert status.queue
            said.append(status.queue.message)
        assert said == [spent.format(used, wire(until)) for used, until in [("10.0", 60)] * 2 + [("11.1", 120)] * 2]


class TestWhoIsToldLater:
    def test_thousands_of_a_stopped_tenant_are_told_one_after_the_other(self) -> None:
        own = decide({R.BACKOFF}).status
        stopped = decide({R.BACKOFF, R.TENANT_STOPPED}, own)
        assert stopped.can_wait
        assert decide({R.BACKOFF}, stopped.status).can_wait

    def test_that_it_can_never_fit_is_said_at_once(self) -> None:
        assert not decide({R.BACKOFF, R.NEVER_FITS}, decide({R.BACKOFF}).status).can_wait

    def test_so_is_what_has_nothing_to_do_with_the_quota(self) -> None:
        assert not decide({R.REFUSED_BY_CLUSTER}, decide({R.BACKOFF}).status).can_wait

    def test_what_else_is_recorded_in_the_same_write_does_not_wait(self) -> None:
        own = decide({R.DUPLICATE}).status
        assert own
        assert not decide({R.RELEASING_PREVIOUS, R.TENANT_STOPPED}, own).can_wait  # the other task is named no more


def test_without_a_word_of_the_quota_the_own_reason_is_shown() -> None:
    task = a_longtask(None, BEGUN | {"nextAttemptTime": wire(20)})
    for said in (None, replace(terms(), limits=UNLIMITED)):
        status = reconcile(seen(task, terms=said), POLICY).status
        assert status
        assert status.reason == "Backoff"
    assert reconcile(seen(task, terms=terms(R.TENANT_STOPPED)), POLICY).again_at == at(0) + timedelta(seconds=20)
