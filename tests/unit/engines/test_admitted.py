from __future__ import annotations

from longtask_operator.engines.admitted import Admitted
from tests.builders import at


def test_an_attempt_is_fresh_once_and_only_for_who_admitted_it() -> None:
    admitted = Admitted()
    admitted.note("a", 1, at(0), anew=False)
    admitted.note("b", 1, at(0), anew=True)
    assert [admitted.take_fresh(*key) for key in (("a", 1), ("a", 1), ("b", 1), ("c", 1))] == [
        True,
        False,
        False,
        False,
    ]


def test_the_first_admission_counts_until_the_attempt_leaves_the_ledger() -> None:
    admitted = Admitted()
    admitted.note("a", 1, at(0), anew=False)
    admitted.note("a", 1, at(5), anew=True)
    assert (admitted.time("a", 1), admitted.time("a", 2)) == (at(0), None)
    admitted.forget("a", 1)
    assert admitted.time("a", 1) is None
    assert not admitted.take_fresh("a", 1)
    admitted.note("a", 1, at(9), anew=False)
    assert admitted.time("a", 1) == at(9)
