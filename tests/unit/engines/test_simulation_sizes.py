"""Tasks that ask for another size at any time, against a model of the cluster: no quota is exceeded, none is lost."""

from __future__ import annotations

import pytest

from tests.support.sim_api import Json
from tests.support.sim_operator import Pending
from tests.support.sim_sizes import QUICK, SIZES, SizeStory, tell_sizes
from tests.support.sim_story import story_settings

TestSizeStory = SizeStory.TestCase
TestSizeStory.settings = story_settings(40)


CREATE_JOB = "POST /apis/batch/v1"


def being_admitted(state: SizeStory, size: str) -> Pending:
    """Let a task come and its entry be written; return the write, which nobody has heard of yet."""
    state.world.apply("a", resources=SIZES[size], **QUICK)
    for _ in range(50):
        state.loop.settle()
        for pending in state.requests():
            if pending.request.method == "PUT" and "/configmaps" in pending.request.path:
                pending.execute(state.api)
                return pending
        state.answer_all() or state.pass_time()
    raise AssertionError("it is not admitted")


def hear_of(state: SizeStory, write: Pending, how: str) -> None:
    """Let the operator hear of its *write*, or its successor read what stands."""
    if how == "answered":
        write.deliver()
    elif how == "lost":
        write.lose()
    else:
        state.fault("restart")
    state.loop.settle()
    state.settle()


def status(state: SizeStory) -> Json:
    found: Json = state.tasks()[0]["status"]
    return found


@pytest.mark.parametrize("how", ["answered", "lost", "restart"])
def test_an_entry_that_is_too_small_by_now_is_given_up_with_its_number(how: str) -> None:
    def story(state: SizeStory) -> None:
        write = being_admitted(state, "small")
        state.resize(0, "as large as the quota")
        hear_of(state, write, how)
        state.advance(30, "success")
        assert [(one["number"], one["cpu"]) for one in status(state)["attempts"]] == [(2, "1")]

    tell_sizes(story)


@pytest.mark.parametrize("before", ["small", "as large as the quota"])
def test_a_job_whose_answer_was_lost_is_known_of_before_its_entry_changes(before: str) -> None:
    """It is there, and the news of it under way, when another size is asked for."""

    def story(state: SizeStory) -> None:
        state.world.apply("a", resources=SIZES[before], **QUICK)
        while not (jobs := [one for one in state.requests() if str(one.request).startswith(CREATE_JOB)]):
            state.loop.settle()
            state.answer_all() or state.pass_time()
        jobs[0].execute(state.api)
        jobs[0].lose()
        state.resize(0, "small" if before != "small" else "as large as the quota")
        for _ in range(30):  # the news of Jobs come last
            state.loop.settle()
            for request in state.requests():
                request.execute(state.api)
                request.deliver()
            state.loop.settle()
            if not state.requests():
                break
        for _ in range(20):
            state.settle()
            state.nobody_has_more_than_the_quota()
            state.natural_move("success") or state.pass_time()
        assert [(one["number"], one["cpu"]) for one in status(state)["attempts"]] == [(1, SIZES[before]["cpu"])]

    tell_sizes(story)


@pytest.mark.parametrize("change", [{"resources": SIZES["of no rung"]}, {"suspend": True}, {"cancel": True}])
def test_one_of_which_nothing_is_to_come_is_released(change: Json) -> None:
    """Nothing was made of it, so that its number is free."""

    def story(state: SizeStory) -> None:
        write = being_admitted(state, "small")
        state.world.edit(state.tasks()[0], **change)
        while state.operators[0].inbox["longtasks"]:
            state.deliver("longtasks")
        hear_of(state, write, "answered")
        for _ in range(2):
            state.pass_time()
            state.settle()
        assert [config["data"]["attempts"] for config in state.api.of("configmaps")] == [""]
        state.world.edit(state.tasks()[0], resources=SIZES["small"], suspend=None)

    tell_sizes(story)


@pytest.mark.parametrize("how", ["answered", "lost", "restart"])
def test_one_that_is_large_enough_is_admitted_anew(how: str) -> None:
    def story(state: SizeStory) -> None:
        write = being_admitted(state, "as large as the quota")
        state.resize(0, "small")
        hear_of(state, write, how)
        state.advance(30, "success")
        assert [(one["number"], one["cpu"]) for one in status(state)["attempts"]] == [(1, "250m")]

    tell_sizes(story)
