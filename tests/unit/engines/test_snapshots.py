from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.ledger_layout import ledger_name
from longtask_operator.core.quota import Limits
from longtask_operator.engines.snapshots import NoLimits, Snapshots
from tests.builders import SMALLEST


class Tenants(NoLimits):
    """All of one cohort, or each alone."""

    def __init__(self, cohort: str) -> None:
        self.own = Limits(concurrency=5, cohort=cohort)

    def limits(self, tenant: str) -> Limits:
        return self.own

    def of_cohort(self, cohort: str) -> list[str]:
        return ["team-a", "team-b"] if cohort else []


class Counted(dict[str, LedgerEntry]):
    """Entries that count how often somebody goes through all of them."""

    looks = 0

    def values(self) -> Any:
        self.looks += 1
        return super().values()


@pytest.mark.parametrize("cohort", ["", "research"])
def test_what_lives_is_summed_once_however_many_are_told_why_they_wait(cohort: str) -> None:
    """In a cohort each of them summed all that lives of all members, for the decayed usage: 5 ms at 10,000."""
    snapshots = Snapshots(Tenants(cohort), lambda uid: None, lambda name: 10_000)
    one = LedgerEntry(uid="a", attempt=1, generation=1, size=SMALLEST)
    entries, name = Counted(a=one, b=replace(one, uid="b")), ledger_name("team-a", cohort)
    seen = [snapshots.of(name, {"team-a": entries}, ["team-a"]) for _ in range(3)]
    assert [snapshot.members["team-a"].usage.concurrency for snapshot in seen] == [2, 2, 2]
    assert entries.looks == 1
