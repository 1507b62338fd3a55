"""Checkpoints against a model of the cluster: what stands never goes backwards, whatever fails between two requests."""

from __future__ import annotations

import pytest

from tests.support.sim_checkpoints import SAVES, CheckpointStory, tell_saving
from tests.support.sim_story import story_settings

#: Timers that may fire before what is awaited.
PATIENCE = 300
TestCheckpointStory = CheckpointStory.TestCase
TestCheckpointStory.settings = story_settings(40)


def wait_for_acceptance(story: CheckpointStory, count: int) -> None:
    """Let time pass, and nothing end, until so many checkpoints were accepted."""
    for _ in range(PATIENCE):
        story.settle()
        if story.accepted >= count:
            return
        story.pass_time()
    raise AssertionError(f"only {story.accepted} of {count} accepted")


def until_status_write(story: CheckpointStory) -> int:
    """Let time pass until the operator is about to write the status; return the number of that request."""
    for _ in range(PATIENCE):
        story.loop.settle()
        for number, pending in enumerate(story.requests()):
            if "/status" in str(pending.request):
                return number
        story.answer_all() or story.pass_time()
    raise AssertionError("no write of the status")


def until_running(story: CheckpointStory) -> None:
    for _ in range(PATIENCE):
        story.settle()
        if any(container.lives for container in story.world.containers.values()):
            story.settle()
            return
        story.natural_move("success") or story.pass_time()
    raise AssertionError("nothing runs")


def test_what_is_saved_is_accepted_and_the_next_attempt_starts_from_it() -> None:
    def story(state: CheckpointStory) -> None:
        state.begin(SAVES)
        until_running(state)
        state.save(0)
        wait_for_acceptance(state, 1)
        state.advance(12, "error")
        assert state.resumed >= 1

    tell_saving(story)


def test_a_zombie_and_a_rival_operator_change_nothing() -> None:
    def story(state: CheckpointStory) -> None:
        state.begin(SAVES)
        until_running(state)
        state.save(0)
        wait_for_acceptance(state, 1)
        state.mischief("pod vanishes")
        state.advance(12, "nothing ends")
        state.start_operator()
        for operator in (0, 1):
            state.save(0, operator)
            state.settle()
        (task,) = state.tasks()
        assert (task["status"]["attempt"], task["status"]["checkpoint"]["attempt"]) == (2, 1)
        assert task["status"]["checkpoint"]["uri"].endswith("/1/1/manifest.json")

    tell_saving(story)


@pytest.mark.parametrize("reply", ["lost", "not sent", "later"])
def test_an_operator_that_dies_at_the_acceptance_loses_nothing(reply: str) -> None:
    def story(state: CheckpointStory) -> None:
        state.begin(SAVES)
        until_running(state)
        for count in (1, 2, 3):
            state.save(0)
            state.execute(until_status_write(state), reply)
            state.fault("restart")
            state.settle()
            state.save(count - 1, again=True)  # the worker was told nothing, so it says so again
            wait_for_acceptance(state, count)
        (task,) = state.tasks()
        assert task["status"]["checkpoint"]["uri"].endswith("/1/3/manifest.json")

    tell_saving(story)


def test_what_lies_below_the_prefix_of_another_attempt_is_not_accepted() -> None:
    def story(state: CheckpointStory) -> None:
        state.begin(SAVES)
        until_running(state)
        state.save(0)
        wait_for_acceptance(state, 1)
        state.mischief("pod vanishes")
        while len(state.world.containers) < 2 or not list(state.world.containers.values())[1].lives:
            state.advance(1, "nothing ends")
        state.settle()
        containers = list(state.world.containers.values())
        state.save(1)
        wait_for_acceptance(state, 2)
        assert state.saved[containers[1].pod].count == 1
        state.steal(1)  # attempt 2, the current one, names a place of attempt 1
        for _ in range(20):
            state.settle()
            state.pass_time()
        assert state.accepted == 2

    tell_saving(story)


def test_what_an_attempt_went_on_from_is_what_its_worker_says() -> None:
    def story(state: CheckpointStory) -> None:
        state.begin(SAVES)
        until_running(state)
        for count in (1, 2):
            state.save(0)
            wait_for_acceptance(state, count)
        state.advance(1, "error")
        while len(state.world.containers) < 2 or not list(state.world.containers.values())[1].lives:
            state.advance(1, "nothing ends")
        state.settle()
        newest, older = state.given[next(iter(state.world.containers.values())).task, 2]
        for number, expected in ((1, older), (3, older), (2, None), (0, newest)):
            state.save(number)  # the older one; one of its own, which was never given; none; the newest
            for _ in range(20):
                state.settle()
                state.pass_time()
            (task,) = state.tasks()
            assert task["status"]["attempts"][1].get("resumedFrom") == expected, number

    tell_saving(story)
