"""What is to be written comes together right, however often a write fails."""

from __future__ import annotations

from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.engines.ledger_work import Kept, Work
from tests.builders import SMALLEST

KEPT = Kept("team-a", LedgerEntry(uid="a", attempt=1, generation=1, size=SMALLEST), "ns/a")


def test_what_was_released_while_a_write_failed_is_not_kept_by_the_next_one() -> None:
    """A task that was deleted meanwhile is not looked at again, so its entry would stand for ever."""
    failed, work = Work(), Work()
    failed.keep(KEPT)
    work.release("a", 1)
    work.put_back(failed)
    assert (work.kept, work.released) == ({}, {("a", 1)})


def test_what_a_failed_write_was_to_keep_is_kept_by_the_next_one() -> None:
    failed, work = Work(), Work()
    failed.keep(KEPT)
    work.release("a", 2)
    work.put_back(failed)
    assert work.kept == {"a": KEPT}
