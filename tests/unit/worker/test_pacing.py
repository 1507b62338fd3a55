"""When the next report is due."""

from __future__ import annotations

import pytest

from longtask_worker.pacing import LONGEST_BACKOFF, MIN_INTERVAL, Pace
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
