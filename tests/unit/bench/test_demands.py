import importlib.util

import pytest

from bench.demands import BENCHES, DEMANDS, Demand


def test_figures_have_names_of_their_own() -> None:
    names = [(demand.bench, demand.name) for demand in DEMANDS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("bench", BENCHES)
def test_each_bench_is_a_module(bench: str) -> None:
    assert importlib.util.find_spec(f"bench.{bench}")


@pytest.mark.parametrize(
    ("sign", "bound", "value", "met"),
    [("≤", 1.3, 1.3, True), ("≤", 1.3, 1.31, False), ("≥", 0.75, 0.75, True), ("<", 1, 1, False), ("≤", 0, 0, True)],
)
def test_a_bound_is_kept_or_not(sign: str, bound: float, value: float, met: bool) -> None:
    assert Demand(bench="b", name="n", title="t", bound=bound, sign=sign).is_met(value) is met


def test_nothing_is_demanded_in_words() -> None:
    assert Demand(bench="b", name="n", title="t", bound=0).demanded == "none"
    assert Demand(bench="b", name="n", title="t", bound=60, unit="ms").demanded == "≤ 60 ms"
