from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.core.ledger import (
    LONGEST_LINE,
    LONGEST_PERSON,
    MAX_BYTES,
    MAX_ENTRIES,
    LedgerEntry,
    entries_beside,
    entries_with_persons,
    format_entries,
    parse_entries,
    with_changes,
)
from longtask_operator.core.sizing import Size
from tests.builders import SMALLEST

UIDS = st.from_regex(r"[0-9a-f]{8}-[0-9a-f]{4}", fullmatch=True)
ENTRIES = st.builds(
    lambda uid, attempt, generation, cpu, mib, sidecar, handed_over: LedgerEntry(
        uid=uid,
        attempt=attempt,
        generation=generation,
        size=Size(cpu=cpu, memory=mib * 1024**2),
        sidecar=sidecar,
        handed_over=handed_over,
    ),
    UIDS,
    st.integers(1, 10**6),
    st.integers(1, 10**6),
    st.integers(1, 64_000),
    st.integers(1, 10**6),
    st.booleans(),
    st.booleans(),
)


def entry(uid: str = "u", attempt: int = 1, generation: int = 1) -> LedgerEntry:
    return LedgerEntry(uid=uid, attempt=attempt, generation=generation, size=SMALLEST)


def test_a_line_per_entry_in_order_of_uid() -> None:
    assert format_entries([entry("b", 2, 3), entry("a")]) == "a 1 1 250 512\nb 2 3 250 512\n"


def test_the_sidecar_is_charged_and_told_apart() -> None:
    held = LedgerEntry(uid="u", attempt=1, generation=1, size=SMALLEST, sidecar=True)
    assert format_entries([held]) == "u 1 1 260 544 sidecar\n"
    assert parse_entries("u 1 1 260 544 sidecar\n") == {"u": held}


def test_what_kueue_admits_is_told_apart() -> None:
    handed_over = LedgerEntry(uid="u", attempt=1, generation=1, size=SMALLEST, sidecar=True, handed_over=True)
    assert format_entries([handed_over]) == "u 1 1 260 544 sidecar kueue\n"
    assert parse_entries("u 1 1 250 512 kueue\n")["u"].handed_over
    assert (handed_over.held, handed_over.pod_size) == (Size(cpu=0, memory=0), Size(cpu=260, memory=544 * 1024**2))


def test_memory_is_written_in_whole_mebibytes_and_never_less() -> None:
    odd = LedgerEntry(uid="u", attempt=1, generation=1, size=Size(cpu=1, memory=1024**2 + 1))
    assert format_entries([odd]) == "u 1 1 1 2\n"


@given(st.lists(ENTRIES, unique_by=lambda one: one.uid))
def test_what_is_written_is_read_back(entries: list[LedgerEntry]) -> None:
    assert parse_entries(format_entries(entries)) == {one.uid: one for one in entries}


def test_a_full_ledger_fits_into_an_object() -> None:
    largest = Size(cpu=64_000, memory=1024**4)
    uid = "7c9d4f00-0000-4000-8000-{:012d}"
    words = {"sidecar": True, "handed_over": True}
    full = [
        LedgerEntry(uid=uid.format(n), attempt=999_999, generation=999_999, size=largest, **words)
        for n in range(MAX_ENTRIES)
    ]
    assert len(format_entries(full)) <= MAX_ENTRIES * LONGEST_LINE < 0.8 * MAX_BYTES


@pytest.mark.parametrize("carried", [0, 100_000, 500_000, 900_000, 2_000_000])
def test_what_a_ledger_carries_along_takes_room_from_entries(carried: int) -> None:
    most = entries_beside(carried)
    assert (most == MAX_ENTRIES) == (carried <= 100_000)
    assert most == 0 or most * LONGEST_LINE + carried <= 0.9 * MAX_BYTES


@pytest.mark.parametrize("count", [0, 4_000, 9_990, 10_000, 12_000])
@pytest.mark.parametrize("carried", [0, 500_000, 2_000_000])
def test_those_who_bring_their_persons_need_more_room(carried: int, count: int) -> None:
    most = entries_beside(carried)
    new = entries_with_persons(most, count) - count
    assert new >= 0
    assert (new == 0) == (most - count <= 2)
    if new:
        assert (count + new) * LONGEST_LINE + new * LONGEST_PERSON + carried <= 0.9 * MAX_BYTES


@pytest.mark.parametrize("text", ["u 1 1 250", "u 1 1 250 512 9", "u one 1 250 512", "a 1 1 1 1\n\nb 1 1 1 1", "{}"])
def test_a_broken_line_breaks_the_ledger(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_entries(text)


def test_a_broken_line_is_named_with_what_is_wrong_in_it() -> None:
    """Whoever repairs a ledger by hand reads no Python."""
    good = "a 1 1 250 512\n"
    with pytest.raises(ValueError, match=r"^line 2 of the ledger has 3 fields instead of 5: 'u 1 1'$"):
        parse_entries(f"{good}u 1 1")
    words = r"^line 2 of the ledger has words where four whole numbers are to follow the uid: 'u 1 1 250 lots'$"
    with pytest.raises(ValueError, match=words):
        parse_entries(f"{good}u 1 1 250 lots\n")


class TestChanges:
    def test_added_and_released_in_one(self) -> None:
        before = {"a": entry("a"), "b": entry("b")}
        assert with_changes(before, added=[entry("c")], released=[("a", 1)]) == {"b": entry("b"), "c": entry("c")}
        assert set(before) == {"a", "b"}

    def test_a_release_of_another_attempt_changes_nothing(self) -> None:
        assert with_changes({"a": entry("a", 2)}, released=[("a", 1), ("x", 1)]) == {"a": entry("a", 2)}

    def test_the_same_attempt_may_be_admitted_anew(self) -> None:
        assert with_changes({"a": entry("a", 2, 1)}, added=[entry("a", 2, 5)]) == {"a": entry("a", 2, 5)}

    def test_an_older_attempt_never_replaces_a_newer_one(self) -> None:
        assert with_changes({"a": entry("a", 3)}, added=[entry("a", 2)]) == {"a": entry("a", 3)}

    def test_released_and_added_again_in_one_stays(self) -> None:
        assert with_changes({"a": entry("a")}, added=[entry("a")], released=[("a", 1)]) == {"a": entry("a")}
