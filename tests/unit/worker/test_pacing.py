"""When the next report is due."""

from __future__ import annotations

import math

import pytest

from longtask_worker.pacing import LONGEST_BACKOFF, MIN_GAP, MIN_INTERVAL, Pace, Timetable
from longtask_worker.wire import Answer

SILENCE = None


def pace_after(*answers: Answer | None) -> Pace:
    pace = Pace()
    for answer in answers:
        pace = pace.after(answer)
    return pace


def ok(interval: float | None = None) -> Answer:
    return Answer(status=200, interval=interval)


def busy(retry_after: float | None = None) -> Answer:
    return Answer(status=503, retry_after=retry_after)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        pytest.param([ok()], 5, id="default"),
        pytest.param([ok(20)], 20, id="as-asked"),
        pytest.param([ok(20), ok()], 20, id="stays-as-asked"),
        pytest.param([ok(0.01)], MIN_INTERVAL, id="never-faster-than-once-a-second"),
        pytest.param([SILENCE], 1, id="first-silence"),
        pytest.param([SILENCE] * 3, 4, id="doubles"),
        pytest.param([SILENCE] * 50, LONGEST_BACKOFF, id="capped"),
        pytest.param([ok(60)] + [SILENCE] * 50, 60, id="cap-not-below-the-interval"),
        pytest.param([busy(15)], 15, id="retry-after"),
        pytest.param([busy(15), SILENCE], 2, id="retry-after-counts-once"),
        pytest.param([SILENCE] * 5 + [busy(2)], 30, id="retry-after-does-not-shorten-the-backoff"),
        pytest.param([SILENCE] * 5 + [ok()], 5, id="recovered"),
    ],
)
def test_wait(answers: list[Answer | None], expected: float) -> None:
    assert pace_after(*answers).wait(jitter=0) == expected


def test_jitter_only_lengthens() -> None:
    assert pace_after(ok(10)).wait(jitter=0.999) == pytest.approx(11, abs=0.01)
    assert pace_after(busy(10)).wait(jitter=0.999) == pytest.approx(15, abs=0.01)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        pytest.param([], 5 / 6, id="default"),
        pytest.param([ok(5)], 5 / 6, id="few-workers"),
        pytest.param([ok(200)], 200 / 6, id="ten-thousand-workers"),
        pytest.param([ok(1)], MIN_GAP, id="never-more-than-twice-a-second"),
        pytest.param([ok(5), SILENCE], math.inf, id="not-while-reports-are-not-taken"),
        pytest.param([ok(5), busy(15)], math.inf, id="not-while-we-are-to-keep-away"),
        pytest.param([SILENCE, ok(5)], 5 / 6, id="recovered"),
    ],
)
def test_gap_between_reports_of_checkpoints(answers: list[Answer | None], expected: float) -> None:
    assert pace_after(*answers).gap() == expected


def table(*, ended: float, wait: float) -> Timetable:
    times = Timetable(0)
    times.begins(0)
    times.ended(ended, wait, taken=True)
    return times


def test_reports_come_in_their_turn() -> None:
    assert Timetable(7).due == 7
    assert table(ended=1, wait=5).due == 6


def test_a_checkpoint_is_reported_at_once_also_right_after_a_report_in_its_turn() -> None:
    times = table(ended=1, wait=5)
    times.advance(1.01, gap=1)
    assert times.due == 1.01
    times.begins(1.01)
    times.ended(1.1, 5, taken=True)
    assert times.due == 6.1, "the turn begins anew"


def test_checkpoints_in_a_row_keep_their_gap() -> None:
    times = table(ended=1, wait=60)
    times.advance(2, gap=12)
    times.begins(2)
    times.ended(2.1, 60, taken=True)
    for now in (3, 4):
        times.advance(now, gap=12)
        assert times.due == 14
    times.begins(14)
    times.ended(14, 60, taken=True)
    times.advance(30, gap=12)
    assert times.due == 30


def test_the_gap_never_delays_a_report_in_its_turn() -> None:
    times = table(ended=1, wait=5)
    times.advance(2, gap=1)
    times.begins(2)
    times.ended(2, 5, taken=True)
    times.advance(2.5, gap=60)
    assert times.due == 7


def test_who_is_waited_for_overtakes_a_checkpoint_that_keeps_its_gap() -> None:
    times = table(ended=1, wait=200)
    times.advance(2, gap=40)
    times.begins(2)
    times.ended(2, 200, taken=True)
    times.advance(5, gap=40)
    times.advance(10, gap=1)
    assert times.due == 10


def test_a_checkpoint_saved_while_a_report_is_under_way_is_in_the_next() -> None:
    times = table(ended=0, wait=5)
    times.begins(5)
    assert times.due == math.inf
    times.advance(5.1, gap=1)
    times.ended(5.4, 5, taken=True)
    assert times.due == 5.1


def test_a_report_that_is_not_taken_is_followed_by_its_backoff_whatever_was_advanced() -> None:
    times = table(ended=0, wait=5)
    times.begins(5)
    times.advance(5.1, gap=1)
    times.ended(5.4, 17, taken=False)
    times.advance(6, gap=math.inf)
    assert times.due == 22.4
