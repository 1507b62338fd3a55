from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.ledger_layout import (
    Content,
    changed,
    cohort_of,
    format_ledger,
    is_ledger,
    ledger_name,
    parse_ledger,
    still_to_come,
    taken_over,
)
from tests.builders import SMALLEST

LONE, SHARED = ledger_name("team-a"), ledger_name("team-a", "research")


def entry(uid: str = "u", attempt: int = 1, generation: int = 1) -> LedgerEntry:
    return LedgerEntry(uid=uid, attempt=attempt, generation=generation, size=SMALLEST)


def test_a_ledger_is_named_after_its_cohort_or_its_lone_tenant() -> None:
    assert (LONE, SHARED) == ("longtask-ledger-tenant-team-a", "longtask-ledger-cohort-research")
    assert (cohort_of(LONE), cohort_of(SHARED)) == ("", "research")
    assert is_ledger(LONE)
    assert is_ledger(SHARED)
    assert not any(map(is_ledger, ["", "team-a", "longtask-ledger-x", ledger_name(""), "x" + LONE]))


def test_a_lone_tenant_has_one_key_and_keeps_it_empty() -> None:
    assert format_ledger(LONE, Content(tenants={"team-a": {"u": entry()}})) == {"attempts": "u 1 1 250 512\n"}
    assert format_ledger(LONE, Content()) == {"attempts": ""}
    assert parse_ledger(LONE, {"attempts": ""}) == Content()


def test_a_cohort_has_a_key_for_each_tenant_that_runs_something_be_it_named_attempts() -> None:
    content = Content(tenants={"team-a": {"a": entry("a")}, "attempts": {"b": entry("b")}, "idle": {}})
    data = format_ledger(SHARED, content)
    assert data == {"team-a": "a 1 1 250 512\n", "attempts": "b 1 1 250 512\n"}
    assert parse_ledger(SHARED, data).tenants == {"team-a": {"a": entry("a")}, "attempts": {"b": entry("b")}}


@pytest.mark.parametrize("name", [LONE, SHARED])
def test_further_keys_are_carried_along_whoever_wrote_them(name: str) -> None:
    data = format_ledger(name, Content(tenants={"team-a": {"u": entry()}}, further={"usage.decayed": "x", "old.": ""}))
    assert set(data) == {"usage.decayed", "attempts" if name == LONE else "team-a"}
    assert parse_ledger(name, data) == Content(tenants={"team-a": {"u": entry()}}, further={"usage.decayed": "x"})


def test_one_broken_line_breaks_the_whole_ledger() -> None:
    with pytest.raises(ValueError, match=r"^line 1 of team-b in the ledger has 4 fields"):
        parse_ledger(SHARED, {"team-a": "u 1 1 250 512\n", "team-b": "u 1 1 250\n"})


TENANTS = st.dictionaries(
    st.sampled_from(["team-a", "team-b", "attempts"]),
    st.dictionaries(st.sampled_from("abc"), st.integers(1, 3), min_size=1).map(
        lambda uids: {uid: entry(uid, attempt) for uid, attempt in uids.items()}
    ),
)


@given(TENANTS)
def test_what_is_written_is_read_back(tenants: dict[str, dict[str, LedgerEntry]]) -> None:
    assert parse_ledger(SHARED, format_ledger(SHARED, Content(tenants=tenants))).tenants == tenants


def test_a_change_touches_only_those_whom_it_concerns() -> None:
    before = {"team-a": {"a": entry("a")}, "team-b": {"b": entry("b")}, "team-c": {"c": entry("c")}}
    after = changed(before, added=[("team-b", entry("d"))], released=[("a", 1), ("c", 7)])
    assert after == {"team-b": {"b": entry("b"), "d": entry("d")}, "team-c": {"c": entry("c")}}
    assert after["team-c"] is before["team-c"]


def test_a_move_copies_first_and_removes_what_was_copied() -> None:
    old, home = {"team-a": {"a": entry("a"), "b": entry("b", 2)}}, {"team-a": {"b": entry("b")}}
    assert still_to_come(home, old, "team-a") == [entry("a"), entry("b", 2)]
    assert taken_over(home, old, "team-a") == []
    home = changed(home, added=[("team-a", arriving) for arriving in still_to_come(home, old, "team-a")])
    assert taken_over(home, old, "team-a") == [("a", 1), ("b", 2)]
    assert still_to_come(home, old, "team-a") == []
