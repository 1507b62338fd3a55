"""The auditor of editions judges each admission by the editions that its ledger names."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.auditor_editions import EditionAuditor
from tests.support.auditor_history import Change
from tests.unit.support.test_auditor_quota import change, job, pod

Json = dict[str, Any]
COHORT, LONE = "longtask-ledger-cohort-c", "longtask-ledger-tenant-team"
SIZE = "250 512"
ONE, TWO = {"nominal": 1}, {"nominal": 2}


def quota(generation: int, tenant: str = "team", *, of: str = "", **spec: Json | str) -> Change:
    """Return a TenantQuota whose editions are called by the tenant and *of*, as in `team/1`."""
    meta = {"name": tenant, "uid": of or tenant, "generation": generation}
    return change("TenantQuota", tenant, {"metadata": meta, "spec": spec}, "")


def ledger(listed: str, *, name: str = LONE, **entries: str) -> Change:
    """Return a version of a ledger.

    *listed* are its editions, as in `team team/1, other other/2 joining`; *entries* its attempts by tenant: `a b` are
    the first ones of tasks a and b, `a.2` is the second one, and `a=500,1024` has other amounts than SIZE.
    """
    lines = {("attempts" if name == LONE else tenant): "".join(map(line, of.split())) for tenant, of in entries.items()}
    editions = "".join(f"{entry.strip()}\n" for entry in listed.split(","))
    data = {"attempts": "", **lines} if name == LONE else lines
    return change("ConfigMap", name, {"data": {**data, "quota.editions": editions}}, "longtask-system")


def line(entry: str) -> str:
    task, _, amounts = entry.partition("=")
    uid, _, attempt = task.partition(".")
    return f"{uid} {attempt or 1} 1 {amounts.replace(',', ' ') or SIZE}\n"


def begins(*listed: str, name: str = LONE) -> list[Change]:
    """Return how a ledger comes to go by editions: its tenants join, then they are settled."""
    return [ledger(", ".join(f"{one} joining" for one in listed), name=name), ledger(", ".join(listed), name=name)]


def cohort(*listed: str) -> list[Change]:
    return begins(*listed, name=COHORT)


def in_cohort(listed: str, **entries: str) -> Change:
    return ledger(listed, name=COHORT, **entries)


def audit(*history: Change) -> EditionAuditor:
    return EditionAuditor().replay(history)


def rules(*history: Change) -> list[str]:
    return [violation.rule for violation in audit(*history).violations]


STARTS = [quota(1, concurrency=TWO), *begins("team team/1")]
LOWERED = quota(2, concurrency=ONE)


def test_as_many_as_the_named_edition_allows_are_fine() -> None:
    found = audit(*STARTS, ledger("team team/1", team="a b"))
    assert (found.violations, found.admissions) == ([], 2)


def test_one_more_is_not() -> None:
    assert rules(*STARTS, ledger("team team/1", team="a b c")) == ["EditionExceeded"]


def test_a_quota_that_is_lowered_ends_nothing() -> None:
    lowered = [*STARTS, ledger("team team/1", team="a b"), LOWERED, ledger("team team/2", team="a b")]
    assert rules(*lowered, ledger("team team/2", team="a")) == []


def test_until_the_ledger_names_the_lowered_quota_the_older_one_may_be_gone_by() -> None:
    assert rules(*STARTS, LOWERED, ledger("team team/1", team="a b")) == []


def test_once_it_does_nothing_is_admitted_by_the_older_one() -> None:
    beyond = [*STARTS, LOWERED, ledger("team team/2", team="a"), ledger("team team/2", team="a b")]
    assert rules(*beyond) == ["EditionExceeded"]


def test_a_ledger_does_not_go_back_to_an_older_edition() -> None:
    back = [*STARTS, LOWERED, ledger("team team/2", team="a"), ledger("team team/1", team="a b")]
    assert rules(*back) == ["EditionBack"]


def test_nor_does_it_after_it_did_not_list_the_tenant_for_a_while() -> None:
    assert rules(*STARTS, LOWERED, ledger("team team/2"), ledger(""), *begins("team team/1")) == ["EditionBack"]


def test_a_ledger_names_no_edition_that_never_was() -> None:
    assert rules(*STARTS, ledger("team team/7")) == ["EditionBack"]


def test_a_quota_that_was_made_anew_is_newer_whatever_its_generation() -> None:
    anew = [change("TenantQuota", "team", None, ""), quota(1, of="new", concurrency=ONE)]
    moved_on = [*STARTS, LOWERED, ledger("team team/2"), *anew]
    assert rules(*moved_on, ledger("team new/1", team="a")) == []
    assert rules(*moved_on, ledger("team new/1"), ledger("team team/2", team="a")) == ["EditionBack"]


def test_a_status_is_no_edition() -> None:
    assert rules(*STARTS, LOWERED, LOWERED, ledger("team team/2"), LOWERED, ledger("team team/2", team="a")) == []


def test_a_tenant_without_a_quota_is_not_limited_here() -> None:
    assert rules(*begins("team -"), ledger("team -", team="a b c")) == []


@pytest.mark.parametrize("policy", ["Hold", "HoldAndDrain"])
def test_nothing_is_admitted_by_an_edition_that_says_so(policy: str) -> None:
    held = [*STARTS, ledger("team team/1", team="a"), quota(2, concurrency=TWO, stopPolicy=policy)]
    assert rules(*held, ledger("team team/2", team="a")) == []
    assert rules(*held, ledger("team team/2", team="a b")) == ["EditionExceeded"]


class TestAmounts:
    MEMORY = (quota(1, memory={"nominal": "2Gi"}), *begins("team team/1"))

    def test_memory_is_added_up(self) -> None:
        assert rules(*self.MEMORY, ledger("team team/1", team="a=250,1024 b=250,1024")) == []
        assert rules(*self.MEMORY, ledger("team team/1", team="a=250,1024 b=250,1025")) == ["EditionExceeded"]

    def test_an_entry_that_grows_takes_more(self) -> None:
        small = [*self.MEMORY, ledger("team team/1", team="a b=250,1024")]
        assert rules(*small, ledger("team team/1", team="a=250,1024 b=250,1024")) == []
        assert rules(*small, ledger("team team/1", team="a=250,1536 b=250,1024")) == ["EditionExceeded"]

    def test_one_that_shrinks_does_not(self) -> None:
        small = quota(2, memory={"nominal": "1Gi"})
        large = ledger("team team/1", team="a=250,2048")
        assert rules(*self.MEMORY, large, small, ledger("team team/2", team="a=250,1536")) == []

    def test_what_kueue_admits_holds_nothing(self) -> None:
        of_kueue = ledger("team team/1", team="a=250,2048 b=250,4096,kueue")
        assert rules(*self.MEMORY, of_kueue) == []


class TestAttempts:
    def test_a_second_attempt_is_an_admission(self) -> None:
        begun = [*STARTS, ledger("team team/1", team="a b"), LOWERED, ledger("team team/2", team="a b")]
        assert rules(*begun, ledger("team team/2", team="a b.2")) == ["EditionExceeded"]

    def test_the_entry_of_one_that_lives_and_comes_back_is_not(self) -> None:
        begun = [*STARTS, ledger("team team/1", team="a b"), job("a"), LOWERED, ledger("team team/2", team="b")]
        assert rules(*begun, ledger("team team/2", team="a b")) == []

    def test_one_that_never_had_a_job_and_comes_back_is(self) -> None:
        begun = [*STARTS, ledger("team team/1", team="a b"), LOWERED, ledger("team team/2", team="b")]
        assert rules(*begun, ledger("team team/2", team="a b")) == ["EditionExceeded"]


class TestJoining:
    def test_a_tenant_joins_before_it_is_admitted_to(self) -> None:
        assert rules(quota(1, concurrency=ONE), ledger("team team/1", team="a")) == ["EditionHome"]

    def test_nobody_is_admitted_while_it_joins(self) -> None:
        early = [quota(1, concurrency=ONE), ledger("team team/1 joining", team="a")]
        assert rules(*early) == ["EditionHome"]

    def test_no_member_of_its_cohort_is_either(self) -> None:
        two = [quota(1, cohort="c"), quota(1, "other", cohort="c"), *cohort("team team/1")]
        assert rules(*two, in_cohort("team team/1, other other/1 joining", team="a")) == ["EditionHome"]

    def test_a_ledger_that_does_not_list_it_takes_nobody_of_it(self) -> None:
        assert rules(*STARTS, ledger("", team="a")) == ["EditionHome"]


class TestMoves:
    """From its own ledger to the one of cohort c, and both have what is admitted for a while."""

    BEFORE = (quota(1, concurrency=TWO), *begins("team team/1"), ledger("team team/1", team="a"))
    MOVES = (*BEFORE, quota(2, concurrency=TWO, cohort="c"), in_cohort("team team/2 joining", team="a"))
    MOVED = (*MOVES, ledger("", team="a"), in_cohort("team team/2", team="a"))

    def test_it_may_be_admitted_where_it_was_until_that_ledger_does_not_list_it(self) -> None:
        assert rules(*self.MOVES, ledger("team team/1", team="a b"), ledger("", team="a b")) == []

    def test_what_stands_in_both_ledgers_counts_once(self) -> None:
        found = audit(*self.MOVED, in_cohort("team team/2", team="a b"), ledger(""))
        assert (found.violations, found.admissions, found.moves) == ([], 2, 1)

    def test_it_is_not_admitted_where_it_was_after_that(self) -> None:
        assert rules(*self.MOVED, ledger("", team="a b")) == ["EditionHome"]

    def test_two_ledgers_do_not_go_by_its_quota_at_once(self) -> None:
        both = in_cohort("team team/2", team="a")
        assert rules(*self.MOVES, both, in_cohort("team team/2", team="a b")) == ["EditionHome"]

    def test_nor_does_one_that_its_edition_does_not_name(self) -> None:
        stays = [*self.BEFORE, quota(2, concurrency=TWO, cohort="c"), ledger("team team/2", team="a b")]
        assert rules(*stays) == ["EditionHome"]

    def test_what_lives_in_the_other_ledger_alone_counts(self) -> None:
        left = [*self.MOVES, ledger("team team/1", team="a b"), ledger("", team="a b")]
        assert rules(*left, in_cohort("team team/2", team="a c")) == ["EditionExceeded"]

    def test_what_is_over_there_does_not(self) -> None:
        left = [*self.MOVES, ledger("team team/1", team="a b"), ledger("", team="a b")]
        assert rules(*left, job("b"), pod("b", "Succeeded"), in_cohort("team team/2", team="a c")) == []


class TestCohorts:
    LENDS = (quota(1, concurrency=TWO, cohort="c"), quota(1, "other", concurrency=ONE, cohort="c"))
    BOTH = "other other/1, team team/1"
    STARTS = (*LENDS, *cohort("other other/1", "team team/1"))

    def test_a_member_takes_what_another_does_not_use(self) -> None:
        found = audit(*self.STARTS, in_cohort(self.BOTH, other="a b c"))
        assert (found.violations, found.borrowed) == ([], 1)

    def test_all_together_never_take_more_than_theirs(self) -> None:
        assert rules(*self.STARTS, in_cohort(self.BOTH, other="a b c d")) == ["EditionExceeded"]
        assert rules(*self.STARTS, in_cohort(self.BOTH, other="a b c", team="d")) == ["EditionExceeded"] * 2

    def test_a_borrowing_limit_is_a_limit(self) -> None:
        least = quota(2, "other", concurrency={"nominal": 1, "borrowingLimit": 1}, cohort="c")
        listed = "other other/2, team team/1"
        assert rules(*self.STARTS, least, in_cohort(listed, other="a b")) == []
        assert rules(*self.STARTS, least, in_cohort(listed, other="a b c")) == ["EditionExceeded"]

    def test_so_is_a_lending_limit(self) -> None:
        keeps = quota(2, concurrency={"nominal": 2, "lendingLimit": 1}, cohort="c")
        listed = "other other/1, team team/2"
        assert rules(*self.STARTS, keeps, in_cohort(listed, other="a b")) == []
        assert rules(*self.STARTS, keeps, in_cohort(listed, other="a b c")) == ["EditionExceeded"]

    def test_a_member_has_what_it_keeps_though_others_have_borrowed_too_much(self) -> None:
        lent = in_cohort(self.BOTH, other="a b c")
        keeps = quota(2, concurrency={"nominal": 2, "lendingLimit": 0}, cohort="c")
        listed = "other other/1, team team/2"
        assert rules(*self.STARTS, lent, keeps, in_cohort(listed, other="a b c", team="d e")) == []

    def test_what_a_tenant_that_has_left_still_holds_is_taken(self) -> None:
        leaves = [in_cohort(self.BOTH, other="a"), quota(2, "other", concurrency=ONE)]
        assert rules(*self.STARTS, *leaves, in_cohort("team team/1", other="a", team="b")) == []
        assert rules(*self.STARTS, *leaves, in_cohort("team team/1", other="a", team="b c")) == ["EditionExceeded"]

    def test_who_limits_no_memory_lends_and_borrows_none(self) -> None:
        memory = [quota(2, memory={"nominal": "1Gi"}, cohort="c"), in_cohort("other other/1, team team/2", other="a")]
        listed = "other other/1, team team/2"
        assert rules(*self.STARTS, *memory, in_cohort(listed, other="a", team="b c")) == []
        assert rules(*self.STARTS, *memory, in_cohort(listed, other="a", team="b c d")) == ["EditionExceeded"]
