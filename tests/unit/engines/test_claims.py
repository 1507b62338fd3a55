"""Claims as the engines keep them: who is told to give way, and when no more."""

from __future__ import annotations

import pytest

from longtask_operator.core.preemption import Claim, format_claims
from longtask_operator.engines.claims import Claims
from tests.builders import SMALLEST

NAME, OTHER = "ledger-1", "ledger-2"


def claim(uid: str, *victims: str) -> Claim:
    """Return a claim of *uid* for which the first attempts of *victims* give way."""
    return Claim(uid=uid, tenant="own", held=SMALLEST, victims=tuple((victim, 1) for victim in victims))


class Setup:
    """Claims; *woken* are the tasks that are looked at."""

    def __init__(self) -> None:
        self.woken: list[str] = []
        self.claims = Claims(self.woken.append)
        self.waiting = {"a", "b"}

    def cycle(self, *claims: Claim, name: str = NAME) -> None:
        """Plan, write and tell as the admission loop does."""
        self.claims.plan(name, claims)
        self.claims.take_in(name, self.claims.text(name, {}, {}))
        self.claims.tell(name, lambda uid: uid in self.waiting)

    def read(self, *claims: Claim) -> None:
        """Read what others wrote."""
        self.claims.take_in(NAME, format_claims(claims))

    def gives_way(self, uid: str, attempt: int = 1) -> str:
        found = self.claims.for_whom(uid, attempt)
        return found.uid if found else ""

    def news(self) -> list[str]:
        """Return who was woken since."""
        woken, self.woken[:] = list(self.woken), []
        return woken


@pytest.fixture
def setup() -> Setup:
    return Setup()


def test_nobody_gives_way_before_the_claim_stands(setup: Setup) -> None:
    setup.claims.plan(NAME, (claim("a", "x"),))
    assert (setup.gives_way("x"), setup.news(), setup.claims.of(NAME)) == ("", [], ())
    setup.cycle(claim("a", "x"))
    assert (setup.gives_way("x"), setup.gives_way("x", 2), setup.gives_way("y")) == ("a", "", "")


def test_each_is_woken_once_and_the_task_is_told_that_room_is_made(setup: Setup) -> None:
    setup.cycle(claim("a", "x", "y"))
    assert setup.news() == ["a", "x", "y"]
    setup.cycle(claim("a", "x", "y"))
    setup.cycle(claim("a", "y"))
    assert setup.news() == []
    setup.cycle(claim("a", "y", "z"), claim("b"))
    assert setup.news() == ["z", "b"]


def test_who_is_not_needed_any_more_is_spared_from_the_plan_on(setup: Setup) -> None:
    """The write may be under way for long, or fail: to wait is right then."""
    setup.cycle(claim("a", "x", "y"))
    setup.claims.plan(NAME, (claim("a", "y"),))
    assert (setup.gives_way("x"), setup.gives_way("y")) == ("", "a")
    setup.read(claim("a", "x", "y"))
    assert setup.gives_way("x") == ""
    setup.cycle(claim("a", "x", "y"))
    assert setup.gives_way("x") == "a"


def test_who_need_not_give_way_after_all_is_spared_until_it_is_told_again(setup: Setup) -> None:
    setup.cycle(claim("a", "x", "y"))
    setup.claims.spare("x", 1)
    assert (setup.gives_way("x"), setup.gives_way("y")) == ("", "a")
    setup.cycle(claim("a", "x", "y"))
    assert setup.gives_way("x") == "a"


def test_nobody_gives_way_to_a_task_that_waits_no_more(setup: Setup) -> None:
    setup.cycle(claim("a", "x"))
    assert setup.claims.gone("a") == [NAME]
    assert setup.gives_way("x") == ""
    assert setup.claims.gone("b") == []


def test_of_who_gives_way_it_is_heard_where_it_does(setup: Setup) -> None:
    """Its node may be lost meanwhile: then another one has to be asked."""
    setup.cycle(claim("a", "x"))
    assert setup.claims.gone("x") == [NAME]
    assert setup.gives_way("x") == "a"


def test_of_a_claim_that_is_being_written_it_is_heard_too(setup: Setup) -> None:
    """Else it would stand for ever: nobody would look at that ledger again."""
    setup.claims.plan(NAME, (claim("a", "x"),))
    assert setup.claims.gone("a") == [NAME]


def test_after_a_restart_nobody_gives_way_until_it_is_heard_that_the_task_still_waits(setup: Setup) -> None:
    setup.waiting = set()
    setup.read(claim("a", "x"))
    assert (setup.news(), setup.claims.is_unheard("a"), setup.claims.names()) == (["a"], True, [NAME])
    setup.cycle(claim("a", "x"))
    assert (setup.gives_way("x"), setup.claims.is_unheard("a")) == ("", True)
    setup.waiting = {"a"}
    setup.claims.heard("a")
    setup.cycle(claim("a", "x"))
    assert (setup.gives_way("x"), setup.news(), setup.claims.is_unheard("a")) == ("a", ["a", "x"], False)


def test_a_write_of_ours_whose_answer_was_lost_is_no_claim_of_others(setup: Setup) -> None:
    setup.claims.plan(NAME, (claim("a", "x"),))
    setup.read(claim("a", "x"))
    assert not setup.claims.is_unheard("a")
    setup.claims.plan(NAME, ())
    setup.read(claim("a", "x"))
    assert not setup.claims.is_unheard("a")


def test_claims_that_are_gone_are_waited_for_no_more(setup: Setup) -> None:
    setup.read(claim("a", "x"))
    setup.read()
    assert (setup.claims.is_unheard("a"), setup.claims.names()) == (False, [])


def test_ledgers_have_claims_of_their_own(setup: Setup) -> None:
    setup.cycle(claim("a", "x"))
    setup.cycle(claim("b", "y"), name=OTHER)
    setup.cycle(name=OTHER)
    assert (setup.gives_way("x"), setup.gives_way("y"), setup.claims.names()) == ("a", "", [NAME])


def test_what_cannot_be_read_is_no_claim(setup: Setup) -> None:
    setup.cycle(claim("a", "x"))
    setup.claims.take_in(NAME, "nonsense")
    assert (setup.gives_way("x"), setup.claims.of(NAME)) == ("", ())
