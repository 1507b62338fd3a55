"""Whom attempts count for stands in their ledger, from the write of their line to the write that takes it out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from longtask_operator.core.ledger import MAX_ENTRIES, LedgerEntry, entries_beside
from longtask_operator.core.ledger_layout import Tenants
from longtask_operator.core.quota import UNLIMITED, Limits
from longtask_operator.engines.persons import Persons
from tests.builders import SMALLEST
from tests.support.sim_operator import LogTrap

PER_USER = Limits(origin="a test", per_user=1)


class Tasks:
    """Tenants and tasks; *users* are those that are known."""

    def __init__(self) -> None:
        self.now, self.users = PER_USER, dict[str, str]()

    def limits(self, tenant: str) -> Limits:
        return self.now

    def user(self, uid: str) -> str:
        return self.users.get(uid, "")


class Setup:
    """A rider, and what the ledgers hold and carry."""

    def __init__(self) -> None:
        self.tasks, self.held, self.carried = Tasks(), dict[str, Tenants](), dict[str, str]()
        self.coming: dict[str, str] = {}
        self.persons = self.restarted()

    def most(self, name: str) -> int:
        return entries_beside(len(self.carried.get(name, "")))

    def restarted(self) -> Persons:
        """Return the rider of another process, which has read the ledgers."""
        persons = Persons(self.tasks, self.most, lambda uid: self.coming.get(uid))
        for name, text in self.carried.items():
            persons.take_in(name, text)
        return persons

    def write(self, *entries: LedgerEntry, name: str = "ledger") -> str:
        """Let the ledger hold *entries* and return what it carries for persons."""
        after = {"team-a": {entry.uid: entry for entry in entries}}
        self.carried[name] = self.persons.text(name, self.held.get(name, {}), after)
        self.held[name] = after
        self.persons.take_in(name, self.carried[name])
        return self.carried[name]


@pytest.fixture
def setup() -> Setup:
    return Setup()


def entry(uid: str, attempt: int = 1, *, handed_over: bool = False) -> LedgerEntry:
    return LedgerEntry(uid=uid, attempt=attempt, generation=1, size=SMALLEST, handed_over=handed_over)


def test_a_person_stands_as_long_as_the_line(setup: Setup) -> None:
    setup.coming = {"a": "eve", "b": "eve"}
    assert setup.write(entry("a"), entry("b"), entry("of-nobody")) == 'a b "eve"\n'
    setup.coming = {}
    assert setup.restarted().of("a") == "eve", "whoever leads next knows it as well"
    assert setup.write(entry("b"), entry("of-nobody")) == 'b "eve"\n'
    assert (setup.persons.of("a"), setup.persons.of("b"), setup.persons.of("of-nobody")) == ("", "eve", "")
    assert setup.write() == ""
    assert setup.persons.of("b") == ""


def test_nobody_is_named_where_persons_have_no_limit_and_kueue_admits(setup: Setup) -> None:
    setup.coming = {"a": "eve", "b": "eve"}
    assert setup.write(entry("a", handed_over=True)) == ""
    setup.tasks.now = UNLIMITED
    assert setup.write(entry("b")) == ""


def test_a_limit_that_comes_later_finds_the_persons_of_all_tasks_that_are_there(setup: Setup) -> None:
    """So does a ledger that a version before this one has written."""
    setup.tasks.now, setup.tasks.users = UNLIMITED, {"a": "eve"}
    assert setup.write(entry("a"), entry("gone")) == ""
    assert setup.persons.of("a") == "eve"
    setup.tasks.now = PER_USER
    assert setup.write(entry("a"), entry("gone")) == 'a "eve"\n'


def test_a_limit_that_goes_for_a_while_loses_nobody(setup: Setup) -> None:
    setup.coming = {"a": "eve"}
    setup.write(entry("a"))
    setup.coming, setup.tasks.now = {}, replace(UNLIMITED, unreadable="it cannot be read")
    assert setup.write(entry("a"), entry("b")) == 'a "eve"\n'


def test_an_attempt_counts_for_whom_it_was_admitted(setup: Setup) -> None:
    """A trusted submitter may name another meanwhile: that holds for the next attempt."""
    setup.coming = {"a": "eve"}
    setup.write(entry("a"))
    setup.coming, setup.tasks.users = {}, {"a": "bob"}
    assert setup.write(entry("a"), entry("b")) == 'a "eve"\n'
    assert setup.write(entry("a", 2)) == 'a "bob"\n'


def test_the_next_attempt_of_a_task_that_counts_for_nobody_any_more_counts_for_nobody(setup: Setup) -> None:
    setup.coming = {"a": "eve"}
    setup.write(entry("a"))
    setup.coming.clear()
    assert setup.write(entry("a"), entry("b")) == 'a "eve"\n'
    setup.coming["a"] = ""
    assert setup.write(entry("a", 2), entry("b")) == ""


def test_who_moves_to_another_ledger_takes_the_person_along(setup: Setup) -> None:
    setup.coming = {"a": "eve"}
    setup.write(entry("a"), name="old")
    setup.coming = {}
    assert setup.write(entry("a"), name="new") == 'a "eve"\n'
    setup.write(name="old")
    assert setup.persons.of("a") == "eve"
    setup.write(name="new")
    assert setup.persons.of("a") == ""


def test_what_cannot_be_read_falls_back_to_the_tasks(setup: Setup) -> None:
    setup.carried, setup.tasks.users = {"ledger": "a eve"}, {"a": "eve"}
    trap = LogTrap()
    try:
        setup.persons = setup.restarted()
    finally:
        trap.close()
    assert setup.persons.of("a") == "eve"
    assert setup.write(entry("a")) == 'a "eve"\n'


def test_a_ledger_is_never_made_too_large_by_persons(setup: Setup) -> None:
    """A limit of each person that comes while very much runs: those whom there is no room for count by their tasks."""
    uids = [f"{number:036d}" for number in range(MAX_ENTRIES - 10)]
    setup.tasks.users = {uid: f"person-{uid}" for uid in uids}
    text = setup.write(*map(entry, uids))
    assert 0 < len(text) <= 10 * 80
    assert setup.persons.of(uids[-1]) == f"person-{uids[-1]}"


def test_who_stands_in_a_ledger_is_not_left_out_for_others(setup: Setup) -> None:
    """Its task may be gone: what stands is all that is known."""
    setup.coming["z"] = "zoe"
    setup.write(entry("z"))
    setup.coming.clear()
    uids = [f"{number:036d}" for number in range(MAX_ENTRIES - 10)]
    setup.tasks.users = {uid: f"person-{uid}" for uid in uids}
    setup.write(entry("z"), *map(entry, uids))
    assert setup.persons.of("z") == "zoe"
