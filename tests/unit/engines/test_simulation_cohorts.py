"""Tenants that share in a cohort, against a model of the cluster: nothing is over-admitted, nor lost in a move."""

from __future__ import annotations

import pytest

from tests.support.sim_cohorts import GUEST, HOST, CohortStory, tell_of_cohorts
from tests.support.sim_operator import Pending
from tests.support.sim_story import story_settings

TestCohortStory = CohortStory.TestCase
TestCohortStory.settings = story_settings(40)


def lives(state: CohortStory) -> int:
    return sum(container.lives for container in state.world.containers.values())


def quiet_move(state: CohortStory) -> bool:
    """Let the cluster do the first thing that ends nobody by itself; return whether there was one."""
    moves = [move for name, move in state.world.moves() if not name.startswith(("end ", "evict "))]
    if moves:
        moves[0]()
    return bool(moves)


def go_on(state: CohortStory, rounds: int = 40) -> None:
    """Let the operator and the cluster go on while nobody ends."""
    for _ in range(rounds):
        state.settle()
        state.what_lives_stands_in_a_ledger()
        quiet_move(state) or state.pass_time()


def test_one_borrows_what_the_other_does_not_use_and_no_more() -> None:
    def story(state: CohortStory) -> None:
        for name in ("a", "b", "c"):
            state.world.apply(name, HOST)
        go_on(state)
        assert lives(state) == 2
        state.world.apply("g", GUEST)
        go_on(state)
        assert lives(state) == 2

    tell_of_cohorts(story)


def unsent(state: CohortStory) -> Pending | None:
    """Return the oldest write of a ledger that nobody executed yet."""
    writes = [one for one in state.requests() if state.is_ledger_write(one) and not one.executed]
    return next(iter(writes), None)


@pytest.mark.parametrize("how", ["before", "after", "lost"])
def test_whichever_write_of_a_move_fails_what_lives_stands_in_a_ledger(how: str) -> None:
    """A move is two writes, and a third one takes what ended meanwhile out of the ledger that was left."""
    met: list[bool] = []

    def story(state: CohortStory) -> None:
        state.world.apply("a", HOST)
        for name in ("g", "waits"):  # so that the ledger that is left is looked at, and first
            state.world.apply(name, GUEST)
        go_on(state)
        assert lives(state) == 2
        state.move(HOST, "d")
        number, writes, failed = len(met) + 1, 0, False
        for _ in range(60):
            state.loop.settle()
            if write := unsent(state):
                writes += 1
                if writes == number:
                    failed = True
                    state.fail(write, how)
                    continue
                write.execute(state.api)
                write.deliver()
            elif not state.answer_all():
                state.pass_time()
            state.what_lives_stands_in_a_ledger()
        met.append(failed)
        assert lives(state) == 2

    while all(met):
        tell_of_cohorts(story)
    assert len(met) > 2
