from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.api.longtask import LongTaskSpec
from longtask_operator.api.quantity import MEBIBYTE
from longtask_operator.api.reasons import SizeSource
from longtask_operator.api.status import Attempt
from longtask_operator.core.attempt_size import Suggestion
from longtask_operator.core.growth import Ceiling
from longtask_operator.core.history import (
    MAX_SAMPLES,
    History,
    HistoryRule,
    Sample,
    kind_of,
    sample_of,
    suggest_from,
    suggestion_within,
)
from longtask_operator.core.quota import Limits
from longtask_operator.core.sizing import SIDECAR
from tests.builders import at, wire

RULE, GI = HistoryRule(), 1024 * MEBIBYTE


def completed(peak: str | None, number: int = 1, second: int = 5) -> Attempt:
    return Attempt(
        number=number,
        run=1,
        generation=1,
        cause="Completed",
        completion_time=wire(second),
        memory="1Gi",
        peak_memory=peak,
    )


def starved(memory: str, number: int = 1, second: int = 5) -> Attempt:
    return Attempt(number=number, run=1, generation=1, cause="OutOfMemory", completion_time=wire(second), memory=memory)


def after(*attempts: Attempt, rule: HistoryRule = RULE) -> Suggestion | None:
    history = History(rule)
    history.learn("team-a", "k", "u1", attempts)
    return history.suggest("team-a", "k", at(10))


class TestSuggestion:
    def test_the_peak_with_headroom(self) -> None:
        found = after(completed("800Mi"))
        assert found is not None
        assert (found.memory, found.source) == (1000 * MEBIBYTE, SizeSource.HISTORY)
        assert found.message == (
            "the last attempt of this kind that succeeded peaked at 800Mi or less; with 25 % headroom 1000Mi"
        )

    def test_the_quantile_leaves_out_the_odd_one(self) -> None:
        attempts = [completed("100Mi", number) for number in range(1, 10)] + [completed("900Mi", 10)]
        found = after(*attempts)
        assert found is not None
        assert found.memory == 125 * MEBIBYTE
        assert found.message.startswith("90 % of the last 10 attempts of this kind")

    def test_more_than_what_ran_out_of_memory_last(self) -> None:
        found = after(completed("100Mi"), starved("2Gi", 2, 3), starved("512Mi", 3, 4))
        assert found is not None
        assert found.memory == 512 * MEBIBYTE + 1
        assert found.message.endswith("512Mi ran out of memory for this kind last")

    def test_memory_that_was_too_little_is_enough_to_know(self) -> None:
        found = after(starved("512Mi"))
        assert found is not None
        assert found.memory == 512 * MEBIBYTE + 1

    @pytest.mark.parametrize(
        "attempts", [[], [completed(None)], [completed("1Gi").model_copy(update={"cause": "Lost"})]]
    )
    def test_nothing_known_is_nothing_suggested(self, attempts: list[Attempt]) -> None:
        assert after(*attempts) is None

    def test_the_past_ages_out(self) -> None:
        rule = HistoryRule(window=timedelta(seconds=4))
        assert after(completed("800Mi", second=5), rule=rule) is None
        assert after(completed("800Mi", second=6), rule=rule) is not None

    def test_it_can_be_off(self) -> None:
        assert after(completed("800Mi"), rule=HistoryRule(enabled=False)) is None

    @given(st.lists(st.tuples(st.booleans(), st.integers(1, 8 * GI)), min_size=1, max_size=MAX_SAMPLES))
    def test_it_is_never_less_than_what_ran_out_last_nor_than_the_quantile(self, told: list[tuple[bool, int]]) -> None:
        samples = [
            Sample(ended=at(n), peak=amount) if fine else Sample(ended=at(n), too_small=amount)
            for n, (fine, amount) in enumerate(told)
        ]
        memory = suggest_from(samples, RULE).memory
        assert all(memory > short for short in [amount for fine, amount in told if not fine][-1:])
        peaks = [amount for fine, amount in told if fine]
        assert sum(peak <= memory for peak in peaks) * 100 >= RULE.quantile_percent * len(peaks)


class TestMemory:
    def test_told_twice_is_known_once(self) -> None:
        once, twice = History(RULE), History(RULE)
        attempts = [completed("100Mi", 1), completed("900Mi", 2)]
        once.learn("team-a", "k", "u1", attempts)
        twice.learn("team-a", "k", "u1", attempts)
        twice.learn("team-a", "k", "u1", attempts)
        assert once.suggest("team-a", "k", at(10)) == twice.suggest("team-a", "k", at(10))

    def test_the_latest_attempts_count(self) -> None:
        attempts = [completed("4Gi", 1, 0), *(completed("100Mi", n, n) for n in range(2, MAX_SAMPLES + 2))]
        history = History(HistoryRule(quantile_percent=100))
        history.learn("team-a", "k", "u1", attempts)
        found = history.suggest("team-a", "k", at(100))
        assert found is not None
        assert found.memory == 125 * MEBIBYTE

    def test_tenants_and_kinds_learn_apart(self) -> None:
        history = History(RULE)
        history.learn("team-a", "k", "u1", [completed("800Mi")])
        assert history.suggest("team-b", "k", at(10)) is None
        assert history.suggest("team-a", "l", at(10)) is None

    def test_kinds_are_bounded_and_used_ones_stay(self) -> None:
        history = History(RULE, max_kinds=2)
        for kind in ("a", "b"):
            history.learn("team-a", kind, "u1", [completed("800Mi")])
        assert history.suggest("team-a", "a", at(10))
        history.learn("team-a", "c", "u1", [completed("800Mi")])
        assert len(history) == 2
        assert history.suggest("team-a", "b", at(10)) is None
        assert history.suggest("team-a", "a", at(10)) is not None

    def test_an_attempt_that_lives_tells_nothing(self) -> None:
        assert sample_of(completed("1Gi").model_copy(update={"completion_time": None})) is None


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ({"image": "r:5000/team/app:1.4"}, "r:5000/team/app"),
        ({"image": "r/app@sha256:00"}, "r/app"),
        ({"image": "app", "command": ["python", "-m", "wordcount", "--top"]}, "app python -m wordcount"),
        ({"image": "app", "args": ["wordcount:main", "100"]}, "app wordcount:main"),
        ({"image": "app", "args": ["s3://bucket/x"]}, "app"),
        ({"image": "app", "args": ["--verbose"]}, "app"),
        ({"image": "app", "args": ["17"]}, "app"),
    ],
)
def test_a_kind_is_what_runs_not_what_it_runs_on(spec: dict[str, Any], kind: str) -> None:
    assert kind_of(LongTaskSpec.model_validate(spec)) == kind


class TestBound:
    SOME = Suggestion(memory=GI, source=SizeSource.HISTORY, message="")

    def test_it_is_the_least_of_quota_and_max_size(self) -> None:
        limits = Limits(cpu=4000, memory=2 * GI, max_cpu=1000, max_memory=4 * GI)
        assert suggestion_within(self.SOME, limits, sidecar=False).most == Ceiling(cpu=1000, memory=2 * GI)

    def test_the_sidecar_needs_its_part_of_the_quota(self) -> None:
        most = suggestion_within(self.SOME, Limits(cpu=1000, memory=2 * GI), sidecar=True).most
        assert most == Ceiling(cpu=1000 - SIDECAR.cpu, memory=2 * GI - SIDECAR.memory)

    def test_no_limits_are_no_bound(self) -> None:
        assert suggestion_within(self.SOME, Limits(), sidecar=True).most == Ceiling()
