"""Growing in place against a model of the cluster: the ledger is first, whatever fails between two requests."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.sim_resizes import QUICK, ResizeStory, memory_in, tell_growing
from tests.support.sim_story import story_settings

TestResizeStory = ResizeStory.TestCase
TestResizeStory.settings = story_settings(60)
MEMORY = "/resize"


def running(state: ResizeStory, spec: dict[str, Any] = QUICK) -> None:
    """Let a task run, and its start stand in the status."""
    state.begin(spec)
    for _ in range(200):
        state.settle()
        if any(attempt.get("startTime") for attempt in attempts(state)):
            return
        moves = [move for name, move in state.world.moves() if not name.startswith(("end ", "evict "))]
        if moves:
            moves[0]()
        else:
            state.pass_time()
    raise AssertionError("nothing runs")


def attempts(state: ResizeStory) -> list[Any]:
    return state.tasks()[0]["status"].get("attempts") or []


def move(state: ResizeStory, name: str) -> None:
    """Let the cluster do what begins with *name*."""
    next(act for known, act in state.world.moves() if known.startswith(name))()
    state.settle()


def until_request(state: ResizeStory, text: str) -> int:
    """Answer everything until a request that contains *text* waits; return its number."""
    for _ in range(100):
        state.loop.settle()
        for number, pending in enumerate(state.requests()):
            if text in str(pending.request) and not pending.executed:
                return number
        state.answer_all() or state.pass_time()
    raise AssertionError(f"no request with {text}")


def ledger(state: ResizeStory) -> int:
    entry = state.entry(state.tasks()[0]["metadata"]["uid"])
    return int(entry.size.memory >> 20)


def asked_for(state: ResizeStory) -> int:
    (pod,) = state.api.of("pods")
    return memory_in(pod["spec"]["containers"][0]) >> 20


def test_a_report_near_the_limit_raises_the_ledger_then_the_pod_then_the_status() -> None:
    def story(state: ResizeStory) -> None:
        running(state)
        state.report()
        until_request(state, MEMORY)
        assert ledger(state) == 1024
        state.settle()
        move(state, "resize ")
        assert [(a["memory"], bool(a["resizeTime"])) for a in attempts(state)] == [("1Gi", True)]
        state.report(percent=99)
        state.settle()
        assert (state.asked, ledger(state)) == (2, 2048)

    tell_growing(story)


@pytest.mark.parametrize("reply", ["lost", "not sent"])
def test_a_request_whose_answer_is_lost_is_repeated_where_that_is_needed(reply: str) -> None:
    def story(state: ResizeStory) -> None:
        running(state)
        state.report()
        state.execute(until_request(state, MEMORY), reply)
        state.settle()
        state.wait(2)
        state.settle()
        move(state, "resize ")
        assert [a["memory"] for a in attempts(state)] == ["1Gi"]
        assert state.asked == 1

    tell_growing(story)


@pytest.mark.parametrize("answer", ["Infeasible", "Deferred"])
def test_what_the_node_does_not_give_is_taken_back_and_not_asked_for_again(answer: str) -> None:
    def story(state: ResizeStory) -> None:
        running(state)
        state.report()
        state.settle()
        move(state, f"{answer} resize")
        if answer == "Deferred":
            assert ledger(state) == 1024
            for _ in range(30):
                state.settle()
                state.pass_time()
                state.report()
        state.settle()
        assert attempts(state)[-1]["resizeRefused"].startswith(answer)
        assert (asked_for(state), ledger(state)) == (512, 512)
        state.report()
        state.settle()
        assert state.asked == 1

    tell_growing(story)


def test_what_the_cluster_forbids_gives_the_ledger_back() -> None:
    def story(state: ResizeStory) -> None:
        running(state)
        state.forbid()
        state.report()
        state.settle()
        assert attempts(state)[-1]["resizeRefused"] == "Refused: exceeded quota"
        state.pass_time()
        state.settle()
        assert ledger(state) == 512

    tell_growing(story)


def test_the_next_leader_carries_through_what_stands_in_the_ledger() -> None:
    def story(state: ResizeStory) -> None:
        running(state)
        state.report()
        until_request(state, MEMORY)
        state.fault("restart")
        state.settle()
        assert state.asked == 1
        state.late.clear()
        move(state, "resize ")
        assert [a["memory"] for a in attempts(state)] == ["1Gi"]

    tell_growing(story)


def test_a_kill_by_the_kernel_climbs_from_what_the_pod_had_then() -> None:
    def story(state: ResizeStory) -> None:
        running(state)
        state.report()
        state.settle()
        next(act for name, act in state.world.moves() if name.startswith("resize "))()
        next(act for name, act in state.world.moves() if name.endswith(": out of memory"))()
        state.settle()
        assert [(a["memory"], a["cause"]) for a in attempts(state)] == [("1Gi", "OutOfMemory")]
        assert state.tasks()[0]["status"]["sizing"]["display"] == "250m/2Gi"

    tell_growing(story)
