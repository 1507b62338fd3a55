from __future__ import annotations

from datetime import UTC, datetime, timedelta

from longtask_operator.engines.pacing import LastWrites, WriteBudget


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
