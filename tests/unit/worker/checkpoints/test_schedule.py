"""When a checkpoint is due. Times are numbers."""

from __future__ import annotations

from longtask_worker.checkpoints.schedule import RETRY_SECONDS, Schedule


def test_it_is_due_at_each_interval() -> None:
    schedule = Schedule(60, now=1000)
    assert not schedule.due(1059)
    assert schedule.due(1060)
    schedule.saved(schedule.begin(), now=1075)
    assert not schedule.due(1134)
    assert schedule.due(1135)


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
