"""What the operator waits for and what the SDK does, which share no code."""

from __future__ import annotations

from longtask_operator.adapters.report_probe import TIMEOUT_SECONDS
from longtask_operator.core.liveness import COMES_BACK
from longtask_operator.engines.report_listener import LIFE_SECONDS
from longtask_worker.pacing import LONGEST_BACKOFF, Pace


def test_a_worker_whose_reports_failed_is_back_before_its_silence_counts() -> None:
    longest = Pace(failures=1000).wait(0.999)
    assert longest >= LONGEST_BACKOFF
    assert longest + LIFE_SECONDS < COMES_BACK.total_seconds()


def test_a_probe_waits_as_long_as_a_report() -> None:
    assert TIMEOUT_SECONDS == LIFE_SECONDS
