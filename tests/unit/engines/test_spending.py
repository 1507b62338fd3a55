from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from longtask_operator.core.budgets import Budget
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.ledger_layout import Content, Tenants, ledger_name
from longtask_operator.engines.ledgers import Ledgers
from longtask_operator.engines.spending import Spendings
from tests.builders import SMALLEST, START
from tests.support.stories import how_many

HOUR = timedelta(hours=1)
DAY = Budget(name="day", window=timedelta(days=1), cpu_hours=1)
LIVE = {"team-a": {"u": LedgerEntry(uid="u", attempt=1, generation=1, size=SMALLEST)}}
LONE = ledger_name("team-a")
RESEARCH, SALES = ledger_name("team-a", "research"), ledger_name("team-a", "sales")


class Setup:
    """One tenant with a budget, and ledgers that are set by hand."""

    def __init__(self, *carried: tuple[str, str]) -> None:
        nothing: Any = None
        self.budgets, self.unreadable = {"team-a": (DAY,)}, False
        self.ledgers, self.time, self.cohort = Ledgers(nothing, "longtask-system"), START, ""
        self.spendings = Spendings(
            self.ledgers,
            self.budgets,
            lambda tenant: ledger_name(tenant, self.cohort),
            lambda: self.time,
            lambda tenant: self.unreadable,
        )
        for name, text in carried:
            self.spendings.take_in(name, text)

    def write(self, name: str, after: Tenants) -> str:
        """Change a ledger as `Ledgers.write` does; return what it carries then."""
        ledger = self.ledgers.ledger(name)
        text = self.spendings.text(name, ledger.tenants, after)
        self.ledgers._set(ledger, "1", Content(tenants=after), {})
        self.spendings.take_in(name, text)
        return text

    def at(self, moment: datetime) -> Setup:
        self.time = moment
        return self

    def of(self, cohort: str) -> Setup:
        self.cohort = cohort
        return self

    @property
    def hours(self) -> float:
        (use,) = self.spendings.uses("team-a")
        return use.cpu_hours


def test_what_lives_is_counted_while_it_lives_and_between_writes() -> None:
    setup = Setup()
    setup.write(LONE, LIVE)
    assert setup.at(START + HOUR).hours == 0.25
    setup.write(LONE, {})
    assert setup.at(START + 5 * HOUR).hours == 0.25


def test_a_restart_loses_nothing_and_counts_the_time_in_between() -> None:
    setup = Setup()
    setup.write(LONE, LIVE)
    text = setup.at(START + HOUR).write(LONE, {"team-a": {**LIVE["team-a"]}})
    again = Setup((LONE, text))
    again.ledgers._set(again.ledgers.ledger(LONE), "1", Content(tenants=LIVE), {})
    assert again.at(START + 2 * HOUR).hours == 0.5


def test_a_write_that_failed_changes_nothing() -> None:
    setup = Setup()
    setup.write(LONE, LIVE)
    setup.at(START + HOUR).spendings.text(LONE, LIVE, {})
    assert setup.at(START + 2 * HOUR).hours == 0.5


@pytest.mark.parametrize("order", [1, -1])
def test_of_a_tenant_that_moved_to_a_cohort_the_newest_word_counts(order: int) -> None:
    setup = Setup()
    old = setup.write(LONE, LIVE)
    new = setup.of("research").at(START + HOUR).write(RESEARCH, LIVE)
    assert setup.spendings.text(LONE, LIVE, {}) == ""
    again = Setup(*[(LONE, old), (RESEARCH, new)][::order])
    assert again.at(START + HOUR).hours == 0.25


def test_what_a_tenant_spent_stays_in_the_ledger_it_left_until_its_new_home_is_written() -> None:
    """Nothing of a tenant that has spent its budget starts, so its new home may be written days later."""
    setup = Setup().of("research")
    setup.write(RESEARCH, LIVE)
    setup.at(START + HOUR).write(RESEARCH, {})
    setup.of("sales")
    for hours in (2, 3):
        left = setup.at(START + hours * HOUR).write(RESEARCH, {})
    assert Setup((RESEARCH, left)).of("sales").at(START + 4 * HOUR).hours == 0.25
    setup.write(SALES, {})
    assert setup.write(RESEARCH, {}) == ""


def test_what_ends_in_the_ledger_that_its_tenant_left_counts_up_to_then() -> None:
    setup = Setup().of("research")
    setup.write(RESEARCH, LIVE)
    left = setup.of("sales").at(START + HOUR).write(RESEARCH, {})
    assert setup.at(START + 5 * HOUR).hours == 0.25
    assert Setup((RESEARCH, left)).of("sales").at(START + 5 * HOUR).hours == 0.25


def test_a_tenant_that_comes_back_leaves_nothing_behind() -> None:
    setup = Setup().of("research")
    setup.write(RESEARCH, LIVE)
    setup.of("sales").at(START + HOUR).write(SALES, LIVE)
    setup.of("research")
    assert setup.at(START + 2 * HOUR).write(SALES, {}) != ""
    setup.write(RESEARCH, LIVE)
    assert setup.write(SALES, {}) == ""
    assert setup.at(START + 3 * HOUR).hours == 0.75


def test_what_ends_elsewhere_counts_up_to_then_though_its_tenant_has_come_back() -> None:
    """Both ledgers say what was spent an hour ago; the one with the entry lost that, and what it had held since."""
    setup, both = Setup(), {"team-a": LIVE["team-a"] | {"v": replace(LIVE["team-a"]["u"], uid="v")}}
    setup.write(LONE, LIVE)
    setup.of("research").write(RESEARCH, both)
    left = setup.of("").at(START + HOUR).write(RESEARCH, LIVE)
    assert setup.hours == 0.5
    assert Setup((RESEARCH, left)).at(START + HOUR).hours == 0.5


class Cluster:
    """What the API server has of three ledgers, and a tenant that moves between them; everything may fail."""

    def __init__(self, seed: int) -> None:
        self.random, self.stored, self.held = random.Random(seed), dict[str, tuple[Tenants, str]](), dict[str, float]()
        self.setup, self.count = Setup(), 0
        assert self.setup.hours == 0

    def write(self, name: str, uids: set[str]) -> None:
        """Let a ledger hold *uids*; one write of eight is not executed, and one crash of eight follows."""
        fate, after = self.random.randrange(8), {uid: replace(LIVE["team-a"]["u"], uid=uid) for uid in uids}
        if fate == 0 or after.keys() == self.uids(name):
            return
        tenants = {"team-a": after} if after else {}
        self.stored[name] = (tenants, self.setup.write(name, tenants))
        if fate == 1:
            self.restart()

    def restart(self) -> None:
        again = Setup().of(self.setup.cohort).at(self.setup.time)
        for name in self.random.sample(sorted(self.stored), len(self.stored)):
            tenants, text = self.stored[name]
            again.ledgers._set(again.ledgers.ledger(name), "1", Content(tenants=tenants), {})
            again.spendings.take_in(name, text)
        self.setup = again

    def uids(self, name: str) -> set[str]:
        return {*self.stored.get(name, ({}, ""))[0].get("team-a", {})}

    def live(self) -> set[str]:
        return {uid for name in self.stored for uid in self.uids(name)}

    def begin(self) -> None:
        """Admit one more: a home takes in what stands elsewhere with any write."""
        self.count += 1
        self.write(ledger_name("team-a", self.setup.cohort), self.live() | {f"u{self.count}"})

    def end(self) -> None:
        if live := sorted(self.live()):
            uid = self.random.choice(live)
            for name in self.stored:
                self.write(name, self.uids(name) - {uid})

    def move(self) -> None:
        self.setup.of(self.random.choice(["", "research", "sales"]))

    def settle(self) -> None:
        """Take over what stands elsewhere, then leave there."""
        home = ledger_name("team-a", self.setup.cohort)
        self.write(home, self.live())
        for name in self.stored.keys() - {home}:
            self.write(name, self.uids(name) - self.uids(home))

    def wait(self) -> None:
        seconds = self.random.choice([1, 600, 3600])
        self.setup.at(self.setup.time + timedelta(seconds=seconds))
        for uid in self.live():
            self.held[uid] = self.held.get(uid, 0) + seconds

    def step(self) -> None:
        steps = (self.begin, self.begin, self.end, self.move, self.settle, self.restart, self.wait, self.wait)
        self.random.choice(steps)()


@pytest.mark.parametrize("seed", range(how_many(60)))
def test_all_that_was_held_counts_whatever_moves_ends_and_fails(seed: int) -> None:
    cluster = Cluster(seed)
    for _ in range(30):
        cluster.step()
        if cluster.setup.time < START + 23 * HOUR:  # until then nothing leaves the window
            assert cluster.setup.hours == pytest.approx(sum(cluster.held.values()) * 0.25 / 3600)


def test_what_cannot_be_read_is_counted_anew() -> None:
    setup = Setup((LONE, "tenant team-a\nnonsense"))
    assert setup.hours == 0.0


def test_a_ledger_that_carries_nothing_is_not_one_that_cannot_be_read() -> None:
    with capture_logs() as logs:
        Setup((LONE, ""))
    assert logs == []


def test_who_has_no_budget_costs_nothing() -> None:
    setup = Setup()
    assert setup.spendings.text(ledger_name("team-b"), {}, {}) == ""
    assert setup.spendings.uses("team-b") == []


def test_budgets_that_cannot_be_read_are_not_forgotten_by_anybody() -> None:
    setup = Setup()
    setup.write(LONE, LIVE)
    setup.at(START + HOUR).write(LONE, {})
    setup.budgets.clear()
    setup.unreadable = True
    left = setup.at(START + 2 * HOUR).write(LONE, {})
    assert setup.spendings.uses("team-a") == []
    again = Setup((LONE, left))
    again.budgets.clear()
    again.unreadable = True
    left = again.at(START + 3 * HOUR).write(LONE, {})
    assert Setup((LONE, left)).at(START + 4 * HOUR).hours == 0.25


def test_what_runs_on_while_budgets_cannot_be_read_is_charged_whoever_leads() -> None:
    setup = Setup()
    setup.write(LONE, LIVE)
    setup.at(START + HOUR).write(LONE, LIVE)
    setup.budgets.clear()
    setup.unreadable = True
    setup.spendings.limits_changed("team-a")
    left = setup.at(START + 3 * HOUR).write(LONE, {})
    again = Setup((LONE, left))
    again.budgets.clear()
    again.unreadable = True
    again.at(START + 5 * HOUR).write(LONE, {})
    again.budgets["team-a"], again.unreadable = (DAY,), False
    assert again.at(START + 6 * HOUR).hours == 0.75


def test_budgets_that_are_no_more_are() -> None:
    setup = Setup()
    setup.write(LONE, LIVE)
    setup.budgets.clear()
    assert setup.write(LONE, {}) == ""


@pytest.mark.parametrize("hears", [True, False])
def test_budgets_that_come_back_begin_then(hears: bool) -> None:
    """What ran while there were none, or before, is nothing to them: so another process would count as well."""
    setup = Setup()
    setup.write(LONE, LIVE)
    setup.at(START + HOUR).budgets.clear()
    if hears:
        setup.spendings.limits_changed("team-a")
    setup.write(LONE, {})
    setup.at(START + 10 * HOUR).write(LONE, LIVE)
    setup.at(START + 11 * HOUR).budgets["team-a"] = (DAY,)
    assert setup.hours == 0
    assert setup.at(START + 13 * HOUR).hours == 0.5


def test_budgets_that_come_back_begin_then_also_where_no_ledger_ever_had_them() -> None:
    setup = Setup()
    assert setup.hours == 0
    setup.budgets.clear()
    setup.spendings.limits_changed("team-a")
    setup.at(START + 10 * HOUR).write(LONE, LIVE)
    setup.at(START + 11 * HOUR).budgets["team-a"] = (DAY,)
    assert setup.hours == 0


def test_a_budget_beside_another_begins_when_it_is_set() -> None:
    setup = Setup()
    setup.write(LONE, LIVE)
    setup.at(START + 10 * HOUR).budgets["team-a"] = (DAY, replace(DAY, name="other"))
    setup.write(LONE, LIVE)
    setup.at(START + 12 * HOUR)
    assert [use.cpu_hours for use in setup.spendings.uses("team-a")] == [3.0, 0.5]
