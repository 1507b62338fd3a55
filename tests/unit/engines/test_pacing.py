from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from longtask_operator.engines.pacing import LastWrites, Postponement, WriteBudget


def takes(budget: WriteBudget, times: int) -> int:
    return sum(budget.take() for _ in range(times))


def test_a_second_holds_a_seconds_worth() -> None:
    now = [0.0]
    budget = WriteBudget(5, lambda: now[0])
    assert takes(budget, 20) == 5
    now[0] = 0.4
    assert takes(budget, 20) == 2
    now[0] = 100.0
    assert takes(budget, 20) == 5


def test_less_than_one_a_second_is_one_now_and_then() -> None:
    now = [0.0]
    budget = WriteBudget(0.1, lambda: now[0])
    assert takes(budget, 5) == 1
    now[0] = 9.0
    assert takes(budget, 5) == 0
    now[0] = 10.5
    assert takes(budget, 5) == 1


def test_progress_and_checkpoints_have_their_own_pace() -> None:
    now = datetime(2026, 1, 31, 8, 0, tzinfo=UTC)
    written = LastWrites()
    assert (written.progress_wait(now, 10), written.checkpoint_wait(now)) == (0, 0)
    written = LastWrites(progress=now, checkpoint=now - timedelta(seconds=1))
    later = now + timedelta(seconds=1)
    assert (written.progress_wait(later, 10), written.checkpoint_wait(later)) == (9, 1)
    assert written.checkpoint_wait(now + timedelta(seconds=60)) == 0


def test_few_are_shown_at_once_the_others_later() -> None:
    now = [100.0]
    shown = Postponement(2, 5, lambda: now[0])
    assert [shown.wait(uid) for uid in "abcd"] == [0, 0, 5, 5]
    now[0] = 100.3
    assert shown.wait("c") == pytest.approx(4.7)
    now[0] = 100.6
    assert shown.wait("c") == 0, "the budget has room again"
    now[0] = 105.0
    assert [shown.wait("d"), shown.wait("e"), shown.wait("f"), shown.wait("g")] == [0, 0, 0, 5], "d waited long enough"


def test_what_was_written_otherwise_waits_anew() -> None:
    now = [0.0]
    shown = Postponement(1, 5, lambda: now[0])
    assert [shown.wait("a"), shown.wait("b")] == [0, 5]
    shown.over("b")
    now[0] = 0.9
    assert shown.wait("b") == 5
