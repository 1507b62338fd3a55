"""When a checkpoint is due. Times are numbers."""

from __future__ import annotations

import pytest

from longtask_worker.checkpoints.schedule import RETRY_SECONDS, Schedule


@pytest.mark.parametrize(("interval", "early"), [(60, 1.0), (10, 1.0), (2, 0.2), (1, 0.1)])
def test_it_is_due_shortly_before_each_interval_is_over(interval: float, early: float) -> None:
    schedule = Schedule(interval, now=1000)
    assert not schedule.due(1000 + interval - early - 0.01)
    assert schedule.due(1000 + interval - early + 0.01)
    schedule.saved(schedule.begin(), now=1075)
    assert not schedule.due(1075 + interval - early - 0.01)
    assert schedule.due(1075 + interval - early + 0.01)


def test_a_failed_save_is_tried_again_soon_but_not_at_once() -> None:
    schedule = Schedule(600, now=0)
    schedule.failed(schedule.begin(), now=600)
    assert not schedule.due(601)
    assert schedule.due(600 + RETRY_SECONDS)
    schedule = Schedule(2, now=0)
    schedule.failed(schedule.begin(), now=2)
    assert schedule.due(4)


def test_who_asks_gets_one_checkpoint_however_often_he_repeats_it() -> None:
    schedule = Schedule(60, now=0)
    assert schedule.ask(True)
    assert not schedule.ask(True)
    assert schedule.due(1)
    schedule.saved(schedule.begin(), now=1)
    assert not schedule.ask(True)  # the operator has not yet read of it
    assert not schedule.due(2)
    schedule.ask(False)
    assert schedule.ask(True)
    assert schedule.due(3)


def test_a_save_that_began_before_the_request_does_not_answer_it() -> None:
    schedule = Schedule(60, now=0)
    begun = schedule.begin()
    schedule.ask(True)
    schedule.saved(begun, now=5)
    assert schedule.requested
    assert schedule.due(6)


def test_a_request_that_ended_unanswered_is_still_answered_once() -> None:
    schedule = Schedule(60, now=0)
    schedule.ask(True)
    schedule.ask(False)
    assert schedule.due(1)
    schedule.saved(schedule.begin(), now=1)
    assert not schedule.requested
