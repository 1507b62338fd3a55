from __future__ import annotations

from datetime import datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.api.reasons import QueueReason
from longtask_operator.core.admission import Candidate, plan_admissions, queue_order
from longtask_operator.core.ledger import MAX_ENTRIES, LedgerEntry
from tests.builders import SMALLEST, START, at


def a_candidate(uid: str, *, priority: int = 0, queued_at: datetime = START, attempt: int = 1) -> Candidate:
    entry = LedgerEntry(uid=uid, attempt=attempt, generation=1, size=SMALLEST)
    return Candidate(key=f"team-a/{uid}", tenant="team-a", priority=priority, queued_at=queued_at, entry=entry)


def held(*uids: str) -> dict[str, LedgerEntry]:
    return {uid: LedgerEntry(uid=uid, attempt=1, generation=1, size=SMALLEST) for uid in uids}


def admitted(candidates: list[Candidate], entries: Any, limit: int) -> list[str]:
    verdicts = plan_admissions(candidates, entries, max_entries=limit)
    return [verdict.candidate.entry.uid for verdict in verdicts if verdict.held_back is None]


def test_the_queue_goes_by_priority_then_age_then_name() -> None:
    waiting = [
        a_candidate("d", queued_at=at(5)),
        a_candidate("c"),
        a_candidate("b"),
        a_candidate("a", queued_at=at(9), priority=1),
    ]
    assert [candidate.entry.uid for candidate in sorted(waiting, key=queue_order)] == ["a", "b", "c", "d"]


def test_everybody_is_admitted_while_there_is_room() -> None:
    assert admitted([a_candidate("a"), a_candidate("b")], {}, MAX_ENTRIES) == ["a", "b"]


def test_admissions_of_one_cycle_count_for_each_other() -> None:
    waiting = [a_candidate("a"), a_candidate("b", priority=5), a_candidate("c")]
    assert admitted(waiting, held("x"), 3) == ["b", "a"]


def test_who_is_held_back_hears_why() -> None:
    (verdict,) = plan_admissions([a_candidate("a")], held("x", "y"), max_entries=2)
    assert verdict.held_back is not None
    assert verdict.held_back.reason is QueueReason.COHORT_EXHAUSTED
    assert verdict.held_back.message.startswith("2 attempts are live")


def test_a_task_that_holds_an_entry_is_admitted_anew_also_when_the_ledger_is_full() -> None:
    assert admitted([a_candidate("x", attempt=2), a_candidate("a")], held("x"), 1) == ["x"]


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.integers(-5, 5), st.integers(0, 9)), unique_by=lambda row: row[0]
    ),
    st.sets(st.sampled_from("abxyz")),
    st.integers(0, 8),
)
def test_the_limit_holds_and_nobody_is_passed_over(rows: Any, live: set[str], limit: int) -> None:
    candidates = [a_candidate(uid, priority=priority, queued_at=at(age)) for uid, priority, age in rows]
    verdicts = plan_admissions(candidates, held(*live), max_entries=limit)
    assert len(verdicts) == len(candidates)
    new = [v for v in verdicts if v.held_back is None and v.candidate.entry.uid not in live]
    assert len(new) <= max(0, limit - len(live))
    waiting = [v.candidate for v in verdicts if v.held_back]
    assert all(queue_order(v.candidate) < queue_order(w) for v in new for w in waiting)
