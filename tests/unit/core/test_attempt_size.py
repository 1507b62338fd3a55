from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.api.errors import SpecError
from longtask_operator.api.longtask import Resources
from longtask_operator.api.reasons import SizeSource
from longtask_operator.api.status import Attempt, LongTaskStatus, Sizing
from longtask_operator.core.attempt_size import (
    Suggestion,
    choice_after_oom,
    choose_size,
    requested_text,
    size_of_attempt,
    sizing_at_start,
    sizing_of,
)
from longtask_operator.core.growth import Ceiling
from longtask_operator.core.sizing import Size
from tests.builders import LADDER, SMALLEST, START, a_longtask, wire

GI = 1024**3


def asks(**values: Any) -> Resources:
    return Resources.model_validate(values)


def an_attempt(number: int, memory: str, cause: str | None = "OutOfMemory", cpu: str = "250m") -> Attempt:
    ended = wire(5) if cause else None
    return Attempt(number=number, run=1, generation=1, cpu=cpu, memory=memory, cause=cause, completion_time=ended)


def a_status(*attempts: Attempt, sizing: Sizing | None = None) -> LongTaskStatus:
    return LongTaskStatus(run=1, attempts=list(attempts), sizing=sizing)


def grown(memory: str, cpu: str = "250m", source: str = "OutOfMemory", requested: str = "Auto/Auto") -> Sizing:
    message = "1Gi ran out of memory in attempt 1"
    return Sizing(
        cpu=cpu, memory=memory, display=f"{cpu}/{memory}", source=source, message=message, requested=requested
    )


def chosen(status: LongTaskStatus, **values: Any) -> tuple[str, str, str]:
    choice = choose_size(asks(**values), status, LADDER)
    return choice.size.display, str(choice.source), choice.message


NEW = LongTaskStatus()


class TestStart:
    @pytest.mark.parametrize(
        ("values", "display", "source"),
        [
            ({}, "250m/512Mi", "Smallest"),
            ({"cpu": "1"}, "1/2Gi", "Requested"),
            ({"memory": "3Gi"}, "500m/3Gi", "Requested"),
            ({"maxMemory": "4Gi", "growth": "Never"}, "250m/512Mi", "Smallest"),
            ({"memory": "2Gi", "maxMemory": "2Gi", "cpu": "1", "maxCpu": 1}, "1/2Gi", "Requested"),
        ],
    )
    def test_without_a_past(self, values: dict[str, Any], display: str, source: str) -> None:
        assert chosen(NEW, **values)[:2] == (display, source)

    @pytest.mark.parametrize(
        ("values", "error"),
        [
            ({"cpu": "3"}, "spec.resources: cpu must be one of"),
            ({"maxCpu": "3"}, "spec.resources.maxCpu: must be one of 250m, 500m, 1, 2, 4, or left out"),
            ({"maxMemory": "16Gi"}, "spec.resources.maxMemory: must be one of 512Mi, 1Gi"),
            ({"cpu": "1", "maxCpu": "500m"}, "spec.resources.maxCpu: 500m is less than cpu, 1; raise it or leave it"),
            ({"memory": "2Gi", "maxMemory": "1Gi"}, "spec.resources.maxMemory: 1Gi is less than memory, 2Gi; raise"),
            ({"memory": "4Gi", "maxCpu": "250m"}, "spec.resources: maxCpu and maxMemory leave no size; raise one"),
            ({"maxCpu": "much"}, "spec.resources.maxCpu: 'much' is not a quantity"),
        ],
    )
    def test_what_contradicts_itself_is_answered_with_advice(self, values: dict[str, Any], error: str) -> None:
        with pytest.raises(SpecError) as caught:
            chosen(NEW, **values)
        assert str(caught.value).startswith(error)


class TestFromInputs:
    HINT = Suggestion(memory=3 * GI, source=SizeSource.INPUT_HINT, message="one input of 2Gi")
    UNKNOWN = Suggestion(memory=None, source=SizeSource.INPUT_HINT, message="the size of input a is not known: why")

    def test_it_is_kept_for_later_attempts(self) -> None:
        choice = choose_size(None, NEW, LADDER, self.HINT)
        assert (choice.size.display, choice.source, choice.message) == ("500m/3Gi", "InputHint", "one input of 2Gi")
        status = a_status(an_attempt(1, "3Gi", "Disruption", "500m"), sizing=sizing_of(choice, None))
        assert chosen(status) == ("500m/3Gi", "InputHint", "one input of 2Gi")

    @pytest.mark.parametrize(
        ("asked", "start"), [({}, "no size was asked for; this is the smallest"), ({"cpu": "1"}, "asked")]
    )
    def test_why_there_is_no_hint_is_told(self, asked: dict[str, Any], start: str) -> None:
        choice = choose_size(asks(**asked), NEW, LADDER, self.UNKNOWN)
        assert choice.message.startswith(start)
        assert choice.message.endswith("; the size of input a is not known: why")

    def test_an_admitted_size_that_no_status_tells_of_keeps_its_source(self) -> None:
        size, past = Size(cpu=500, memory=3 * GI), Suggestion(memory=GI, source=SizeSource.HISTORY, message="the past")
        owed = replace(past, asked=START)  # the store has not told the next leader what it told the one before
        for suggestion, source in (
            (self.UNKNOWN, "InputHint"),
            (owed, "InputHint"),
            (past, "History"),
            (None, "History"),
        ):
            found = sizing_at_start(size, a_longtask(), NEW, LADDER, suggestion)
            assert (found.display, found.source) == ("500m/3Gi", source)
            assert found.message == "as decided when the attempt was admitted"


class TestAfterMemoryRanOut:
    def test_the_next_attempt_is_one_step_larger(self) -> None:
        assert chosen(a_status(an_attempt(3, "1Gi"))) == (
            "250m/2Gi", "OutOfMemory", "1Gi ran out of memory in attempt 3"
        )  # fmt: skip

    def test_other_ends_change_nothing(self) -> None:
        for cause in ("Application", "Disruption", None):
            assert chosen(a_status(an_attempt(1, "512Mi", cause)))[0] == "250m/512Mi"

    def test_the_size_is_kept_over_whatever_ends_later_attempts(self) -> None:
        later = [an_attempt(number, "2Gi", "Disruption") for number in range(3, 13)]
        assert chosen(a_status(*later, sizing=grown("2Gi"))) == (
            "250m/2Gi", "OutOfMemory", "1Gi ran out of memory in attempt 1"
        )  # fmt: skip

    def test_a_kept_size_grows_further(self) -> None:
        status = a_status(an_attempt(2, "2Gi"), sizing=grown("2Gi"))
        assert chosen(status)[0] == "500m/3Gi"

    def test_another_request_starts_afresh(self) -> None:
        status = a_status(an_attempt(1, "1Gi"), sizing=grown("2Gi"))
        assert chosen(status, memory="512Mi")[:2] == ("250m/512Mi", "Requested")
        assert chosen(status, memory="4Gi")[:2] == ("500m/4Gi", "Requested")
        assert chosen(status, growth="NextAttempt", maxMemory="8Gi")[0] == "250m/2Gi"

    def test_the_same_request_in_other_words_is_the_same(self) -> None:
        status = a_status(an_attempt(1, "1Gi"), sizing=grown("2Gi", requested="250m/1Gi"))
        assert chosen(status, cpu="0.25", memory="1024Mi")[0] == "250m/2Gi"

    def test_a_lowered_ceiling_holds(self) -> None:
        assert chosen(a_status(an_attempt(2, "4Gi", cpu="500m"), sizing=grown("4Gi")), maxMemory="2Gi")[0] == "250m/2Gi"

    def test_what_ran_out_at_the_top_starts_there_again_after_a_redrive(self) -> None:
        status = a_status(an_attempt(4, "8Gi", cpu="1"), sizing=grown("8Gi", cpu="1"))
        assert chosen(status) == ("1/8Gi", "OutOfMemory", "8Gi ran out of memory in attempt 4 and cannot grow")

    def test_a_raised_ceiling_lets_a_redrive_grow(self) -> None:
        status = a_status(an_attempt(2, "2Gi"), sizing=grown("2Gi"))
        assert chosen(status, maxMemory="2Gi")[0] == "250m/2Gi"
        assert chosen(status, maxMemory="4Gi")[0] == "500m/3Gi"

    def test_a_size_that_the_ladder_lost_is_rounded_up(self) -> None:
        assert chosen(a_status(sizing=grown("2560Mi")))[0] == "500m/3Gi"
        assert chosen(a_status(sizing=grown("64Gi", cpu="16")))[0] == "1/8Gi"

    @given(
        memory=st.sampled_from([rung.memory for rung in LADDER]),
        ceiling=st.none() | st.sampled_from(["512Mi", "1Gi", "2Gi", "4Gi", "8Gi"]),
        cause=st.sampled_from(["OutOfMemory", "Application"]),
        kept=st.none() | st.sampled_from(["1Gi", "3Gi", "8Gi"]),
    )
    def test_whatever_happened_the_size_is_legal_and_within_the_ceiling(
        self, memory: int, ceiling: str | None, cause: str, kept: str | None
    ) -> None:
        status = a_status(an_attempt(1, str(memory), cause), sizing=grown(kept) if kept else None)
        choice = choose_size(asks(maxMemory=ceiling) if ceiling else None, status, LADDER)
        assert choice.size in LADDER
        assert not ceiling or choice.size.memory <= asks_memory(ceiling)


def asks_memory(text: str) -> int:
    return int(text[:-2]) * (GI if text.endswith("Gi") else 1024**2)


def suggests(mebibytes: int, **most: int) -> Suggestion:
    return Suggestion(
        memory=mebibytes * 1024**2, source=SizeSource.HISTORY, message="it needed that", most=Ceiling(**most)
    )


class TestSuggested:
    @pytest.mark.parametrize(
        ("values", "suggestion", "display", "source"),
        [
            ({}, suggests(100), "250m/512Mi", "History"),
            ({}, suggests(513), "250m/1Gi", "History"),
            ({}, suggests(2049), "500m/3Gi", "History"),
            ({"cpu": "1"}, suggests(2049), "1/3Gi", "History"),
            ({"memory": "512Mi"}, suggests(4000), "250m/512Mi", "Requested"),
            ({"maxMemory": "1Gi"}, suggests(4000), "250m/1Gi", "History"),
            ({"maxCpu": "250m"}, suggests(4000), "250m/2Gi", "History"),
            ({}, suggests(99_999), "1/8Gi", "History"),
            ({}, suggests(4000, memory=GI), "250m/1Gi", "History"),
            ({}, suggests(4000, cpu=100), "250m/512Mi", "Smallest"),
        ],
    )
    def test_what_is_known_is_where_a_task_begins(
        self, values: dict[str, str], suggestion: Suggestion, display: str, source: str
    ) -> None:
        choice = choose_size(asks(**values), NEW, LADDER, suggestion)
        assert (choice.size.display, str(choice.source)) == (display, source)

    def test_a_size_that_was_needed_stays_though_less_is_known_now(self) -> None:
        status = a_status(an_attempt(1, "2Gi", "Disruption"), sizing=grown("2Gi", source="History"))
        assert choose_size(None, status, LADDER, suggests(100)).size.display == "250m/2Gi"
        assert choose_size(None, status, LADDER).size.display == "250m/2Gi"
        assert choose_size(None, status, LADDER, suggests(2049)).size.display == "500m/3Gi"

    def test_it_is_said_at_the_start(self) -> None:
        task = a_longtask()
        sizing = sizing_at_start(Size(cpu=250, memory=GI), task, task.status, LADDER, suggests(600))
        assert (sizing.source, sizing.message) == ("History", "it needed that")

    def test_what_nobody_remembers_is_still_called_history(self) -> None:
        task = a_longtask()
        sizing = sizing_at_start(Size(cpu=250, memory=GI), task, task.status, LADDER, suggests(3000))
        assert (sizing.source, sizing.message) == ("History", "as decided when the attempt was admitted")


class TestShown:
    SIZE = Size(cpu=250, memory=GI)

    def test_why_is_said_at_the_start(self) -> None:
        task = a_longtask({"resources": {"memory": "1Gi"}})
        sizing = sizing_at_start(self.SIZE, task, task.status, LADDER)
        assert (sizing.display, sizing.source, sizing.requested) == ("250m/1Gi", "Requested", "Auto/1Gi")

    def test_what_was_said_stays(self) -> None:
        said = grown("1Gi")
        assert sizing_at_start(self.SIZE, a_longtask(), a_status(sizing=said), LADDER) is said

    def test_a_new_request_of_the_same_size_is_said(self) -> None:
        task = a_longtask({"resources": {"memory": "1Gi"}})
        assert sizing_at_start(self.SIZE, task, a_status(sizing=grown("1Gi")), LADDER).source == "Requested"

    @pytest.mark.parametrize("resources", [{}, {"cpu": "3"}])
    def test_an_attempt_of_another_size_than_would_be_chosen_now(self, resources: dict[str, Any]) -> None:
        task = a_longtask({"resources": resources})
        sizing = sizing_at_start(self.SIZE, task, task.status, LADDER)
        assert (sizing.display, sizing.message) == ("250m/1Gi", "as decided when the attempt was admitted")

    def test_a_choice_in_the_status(self) -> None:
        choice = choice_after_oom(self.SIZE, 1, None, LADDER)
        assert choice is not None
        assert sizing_of(choice, None) == grown("2Gi")


def test_what_is_asked_for_in_one_form() -> None:
    assert requested_text(None) == "Auto/Auto"
    assert requested_text(asks(cpu="0.5", memory="1024Mi", maxCpu="4")) == "500m/1Gi"
    assert requested_text(asks(cpu="much")) == "much/None"


def test_the_size_of_an_attempt() -> None:
    assert size_of_attempt(None) is None
    assert size_of_attempt(an_attempt(1, "")) is None
    assert size_of_attempt(an_attempt(1, "512Mi")) == SMALLEST
