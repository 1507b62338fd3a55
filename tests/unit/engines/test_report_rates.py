from __future__ import annotations

from longtask_operator.engines.report_rates import BURST, ReportRates


def test_a_burst_is_allowed_then_two_a_second_and_pods_do_not_share() -> None:
    now = [0.0]
    rates = ReportRates(clock=lambda: now[0])
    assert [rates.allow("p") for _ in range(int(BURST) + 2)] == [True] * int(BURST) + [False, False]
    assert rates.allow("q")
    now[0] = 1.0
    assert [rates.allow("p") for _ in range(3)] == [True, True, False]
    now[0] = 1000.0
    assert [rates.allow("p") for _ in range(int(BURST) + 1)] == [True] * int(BURST) + [False]


def test_refused_requests_do_not_lengthen_the_refusal() -> None:
    now = [0.0]
    rates = ReportRates(clock=lambda: now[0])
    for _ in range(100):
        rates.allow("p")
    now[0] = 1.0
    assert rates.allow("p")
