"""Tasks whose inputs are asked for, against a model of the cluster: none is lost, none begins with another size."""

from __future__ import annotations

from typing import Any

import pytest

from longtask_operator.api.quantity import MEBIBYTE
from tests.support.sim_inputs import ORDERS, PRICES, SIZES, InputStory, memory_of, reading, tell_reading
from tests.support.sim_story import story_settings

TestInputStory = InputStory.TestCase
TestInputStory.settings = story_settings(60)
JOBS = "POST /apis/batch/v1"


def begun(state: InputStory, *specs: dict[str, Any]) -> None:
    """Let the tasks *specs* come, and the operator do what it can do at once."""
    state.begin(list(specs))
    state.settle()


def later(state: InputStory, seconds: float) -> None:
    """Let so much time pass, and the operator do what is due then."""
    state.loop.elapsed += seconds
    state.loop.settle()
    state.settle()


def until_request(state: InputStory, text: str) -> None:
    """Answer everything until a request that contains *text* waits to be executed."""
    for _ in range(100):
        state.loop.settle()
        if any(text in str(pending.request) and not pending.executed for pending in state.requests()):
            return
        if not state.answer_all():
            state.pass_time()
    raise AssertionError(f"no request with {text}")


def sizes(state: InputStory) -> dict[str, int]:
    """Return the MiB of each task's newest Job, by the task's name."""
    return {job["metadata"]["labels"]["longtask.dev/task"]: memory_of(job) // MEBIBYTE for job in state.api.of("jobs")}


def status(state: InputStory, name: str = "a") -> Any:
    return next(task["status"] for task in state.tasks() if task["metadata"]["name"] == name)


def asked(state: InputStory) -> list[str]:
    return [question.uri for operator in state.operators for question in operator.store.questions]


def test_a_task_waits_for_the_answer_and_begins_with_that_size() -> None:
    def story(state: InputStory) -> None:
        begun(state, reading(ORDERS, PRICES), {})
        assert (sizes(state), asked(state)) == ({"b": 512}, [ORDERS, PRICES])
        later(state, 2)
        assert status(state)["queue"]["message"] == "the sizes of its inputs are asked for"
        state.answer(size=SIZES[1])
        state.settle()
        assert "a" not in sizes(state)
        state.answer(size=SIZES[1])
        state.settle()
        assert sizes(state)["a"] == 2048

    tell_reading(story)


@pytest.mark.parametrize(
    ("said", "why"),
    [(403, "403"), (503, "503"), (None, "the store has not answered yet")],
    ids=["refused", "away", "silent"],
)
def test_without_an_answer_it_begins_with_the_next_source_within_the_bound(said: int | None, why: str) -> None:
    def story(state: InputStory) -> None:
        begun(state, reading(ORDERS))
        if said:
            state.answer(size=said)
        else:
            later(state, 5)
        state.settle()
        assert sizes(state) == {"a": 512}
        state.advance(6, "success")
        assert f"the size of input i0 is not known: {why}" in status(state)["sizing"]["message"]

    tell_reading(story)


def test_a_restart_while_it_waits_asks_anew() -> None:
    def story(state: InputStory) -> None:
        begun(state, reading(ORDERS))
        later(state, 2)
        state.fault("restart")
        state.settle()
        assert (sizes(state), asked(state)) == ({}, [ORDERS])
        state.answer()
        state.settle()
        assert sizes(state) == {"a": 1024}

    tell_reading(story)


def test_what_was_admitted_keeps_its_size_whatever_the_store_says_to_the_next_leader() -> None:
    def story(state: InputStory) -> None:
        begun(state, reading(ORDERS))
        state.answer()
        until_request(state, JOBS)
        state.fault("restart")
        state.late.clear()
        state.settle()
        assert sizes(state) == {"a": 1024}
        state.advance(6, "success")
        assert status(state)["attempts"][0]["memory"] == "1Gi"
        assert status(state)["sizing"]["source"] == "InputHint"

    tell_reading(story)


def test_what_is_admitted_anew_since_its_spec_changed_awaits_the_size_anew() -> None:
    """Else a change of its priority would begin it with the smallest size after a restart."""

    def story(state: InputStory) -> None:
        begun(state, reading(ORDERS))
        state.answer()
        until_request(state, JOBS)
        state.fault("crash")
        state.late.clear()
        state.edit(0, {"priority": 5})
        state.start_operator()
        state.settle()
        assert (sizes(state), asked(state)) == ({}, [ORDERS])
        state.answer()
        state.settle()
        assert sizes(state) == {"a": 1024}

    tell_reading(story)


def test_a_later_attempt_keeps_the_size_and_asks_nobody() -> None:
    def story(state: InputStory) -> None:
        begun(state, reading(ORDERS))
        state.answer()
        state.advance(6, "error")
        state.fault("restart")
        state.advance(8, "success")
        assert [attempt["memory"] for attempt in status(state)["attempts"]] == ["1Gi", "1Gi"]
        assert asked(state) == []

    tell_reading(story)


def test_a_store_that_is_away_keeps_the_next_task_not_waiting_at_all() -> None:
    def story(state: InputStory) -> None:
        begun(state, reading(ORDERS))
        state.answer(size=503)
        state.world.apply("c", **reading(PRICES))
        state.settle()
        assert sizes(state) == {"a": 512, "c": 512}

    tell_reading(story)


def test_an_answer_while_the_ledger_is_written_changes_no_size() -> None:
    """The Job of the size that is being written may be made at once, whatever is written next."""

    def story(state: InputStory) -> None:
        begun(state, reading(ORDERS))
        state.loop.elapsed += 5
        until_request(state, "PUT /api/v1")
        state.answer()
        state.settle()
        assert sizes(state) == {"a": 512}
        assert list(state.admitted.values()) == [512]

    tell_reading(story)
