"""Preemption against a model of the cluster: one gives way, whatever fails between two requests."""

from __future__ import annotations

import pytest

from tests.support.sim_api import Json
from tests.support.sim_operator import KINDS, Pending, SimOperator
from tests.support.sim_preemption import KEY, PreemptStory, tell_preempting
from tests.support.sim_story import story_settings

TestPreemptStory = PreemptStory.TestCase
TestPreemptStory.settings = story_settings(60)


def task_of(state: PreemptStory, name: str) -> Json:
    return next(task for task in state.tasks() if task["metadata"]["name"] == name)


def status_of(state: PreemptStory, name: str) -> Json:
    found: Json = task_of(state, name)["status"]
    return found


def causes(state: PreemptStory, name: str) -> list[str]:
    return [attempt["cause"] for attempt in status_of(state, name)["attempts"]]


def until_two_run(state: PreemptStory) -> None:
    """Let `a` and `b` run in a quota of two."""
    state.set_quota(concurrency={"nominal": 2})
    for name in "ab":
        state.world.apply(name)
    for _ in range(300):
        state.settle()
        if sum(container.lives for container in state.world.containers.values()) == 2:
            state.settle()
            return
        quiet_move(state) or state.pass_time()
    raise AssertionError("they do not run")


def quiet_move(state: PreemptStory) -> bool:
    """Let the cluster do the first thing that ends nobody by itself; return whether there was one."""
    moves = [move for name, move in state.world.moves() if not name.startswith(("end ", "evict "))]
    if moves:
        moves[0]()
    return bool(moves)


def unsent(state: PreemptStory) -> Pending | None:
    """Return the oldest write that nobody executed yet."""
    return next((one for one in state.requests() if one.request.method != "GET" and not one.executed), None)


def until_urgent_runs(state: PreemptStory, number: int, how: str) -> bool:
    """Let an urgent task come, and the write of that *number* from then on fail; return whether there was one."""
    state.world.apply("c", priority=9)
    met, writes = False, 0
    for _ in range(600):
        state.loop.settle()
        if any(one.lives for one in state.world.containers.values() if one.task == uid_of(state, "c")):
            return met
        if write := unsent(state):
            writes += 1
            if writes == number:
                met = True
                state.fail(write, how)
                continue
            write.execute(state.api)
            write.deliver()
            continue
        state.answer_all() or quiet_move(state) or state.pass_time()
    raise AssertionError(f"the urgent task does not run: {status_of(state, 'c')}")


def uid_of(state: PreemptStory, name: str) -> str:
    return str(task_of(state, name)["metadata"]["uid"])


@pytest.mark.parametrize("how", ["before", "after", "lost"])
def test_one_gives_way_whichever_write_fails(how: str) -> None:
    """The other one runs on; who gave way comes back, and it is said why."""
    met: list[bool] = []

    def story(state: PreemptStory) -> None:
        until_two_run(state)
        met.append(until_urgent_runs(state, len(met) + 1, how))
        assert len(state.stopped) == 1
        (said,) = state.stopped.values()
        assert said == "gives way to a task of this tenant with a higher priority"
        state.come_to_rest()
        assert causes(state, "c") == ["Completed"]
        ends = sorted([causes(state, "a"), causes(state, "b")])
        assert ends == [["Completed"], ["Preempted", "Completed"]]

    while all(met):
        tell_preempting(story)
    assert len(met) > 8


def test_nobody_gives_way_to_a_task_that_is_cancelled_before_it_is_told() -> None:
    """The claim stands, and its reply is under way when the user cancels."""

    def story(state: PreemptStory) -> None:
        until_two_run(state)
        state.world.apply("c", priority=9)
        for _ in range(300):
            state.loop.settle()
            write = unsent(state)
            if write and "/configmaps/" in write.request.path:
                write.execute(state.api)
                break
            state.answer_all() or state.pass_time()
        assert state.named
        state.world.edit(task_of(state, "c"), cancel=True)
        state.fault("restart")
        state.settle()
        assert state.stopped == {}

    tell_preempting(story)


def test_an_operator_that_took_over_asks_nobody_else() -> None:
    def story(state: PreemptStory) -> None:
        until_two_run(state)
        state.world.apply("c", priority=9)
        while not state.named:
            state.loop.settle()
            state.answer_all() or state.pass_time()
        for _ in range(3):
            state.fault("failover")
            state.settle()
        assert len(state.named) == 1

    tell_preempting(story)


def test_a_task_that_does_not_fit_its_schema_any_more_keeps_neither_claim_nor_place() -> None:
    """Nobody starts it, so nobody gives way to it; once it is corrected it is as any other."""

    def story(state: PreemptStory) -> None:
        until_two_run(state)
        state.world.apply("c", priority=9)
        while not state.named:
            state.loop.settle()
            state.answer_all() or state.pass_time()
        state.world.edit(task_of(state, "c"), image=5)
        state.settle()
        assert all(not config["data"].get(KEY) for config in state.api.of("configmaps"))
        state.set_quota(concurrency={"nominal": 9})
        state.settle()
        assert uid_of(state, "c") not in str(state.api.of("configmaps"))
        state.world.edit(task_of(state, "c"), image="i")
        state.come_to_rest()
        assert causes(state, "c") == ["Completed"]

    tell_preempting(story)


def test_who_waits_for_a_place_gets_it_once_the_priority_of_who_runs_is_lowered() -> None:
    """Nothing else happens that would make anybody look."""

    def story(state: PreemptStory) -> None:
        state.world.apply("a", priority=9)
        while not any(container.lives for container in state.world.containers.values()):
            state.settle()
            quiet_move(state) or state.pass_time()
        state.world.apply("c", priority=5)
        for _ in range(10):
            state.settle()
            state.pass_time()
        assert not state.named
        state.world.edit(task_of(state, "a"), priority=0)
        state.settle()
        assert state.named == {(uid_of(state, "a"), 1)}

    tell_preempting(story)


def until_claimed(state: PreemptStory) -> None:
    """Let a task of a high priority come, and a claim be made for it; what follows from that waits to be executed."""
    state.world.apply("c", priority=9)
    while not state.named:
        state.loop.settle()
        state.answer_all() or state.pass_time()


def work_alone(operator: SimOperator, state: PreemptStory) -> None:
    """Answer that operator, and nobody else, until it asks nothing more."""
    for _ in range(100):
        state.loop.settle()
        requests, events = operator.requests, [kind for kind in KINDS if operator.inbox[kind]]
        for request in requests:
            request.execute(state.api)
            request.deliver()
        for kind in events:
            operator.deliver(kind)
        if not requests and not events:
            return
    raise AssertionError("it asks on and on")


def test_nobody_gives_way_for_a_claim_that_another_operator_has_dropped() -> None:
    """Both lead, and the first is about to stop one for a task of which the second knows that it waits no more."""

    def story(state: PreemptStory) -> None:
        until_two_run(state)
        until_claimed(state)
        first, second = state.operators[0], SimOperator(state.api, state.loop)
        state.operators.append(second)
        state.world.edit(task_of(state, "c"), cancel=True)
        work_alone(second, state)
        assert all(not config["data"].get(KEY) for config in state.api.of("configmaps"))
        for request in first.requests:
            request.execute(state.api)
            request.deliver()
        state.loop.settle()
        while first.inbox["longtasks"]:
            first.deliver("longtasks")
        work_alone(first, state)
        assert state.stopped == {}
        state.operators.remove(first)
        first.crash()
        state.come_to_rest()
        assert [causes(state, name) for name in "ab"] == [["Completed"], ["Completed"]]

    tell_preempting(story)


def test_who_waits_asks_another_once_the_node_of_who_was_to_leave_is_lost() -> None:
    """Nothing but time shows that."""

    def story(state: PreemptStory) -> None:
        until_two_run(state)
        state.world.edit(task_of(state, "b"), cancel=True)
        state.settle()
        while gone := [move for name, move in state.world.moves() if name.startswith("gc ")]:
            gone[0]()
            state.settle()
        state.world.apply("c", priority=9)
        state.settle()
        assert not state.named, "the room of b is about to be free"
        while state.loop.elapsed < 200 and not state.named:
            state.settle()
            assert state.pass_time()
        assert state.named == {(uid_of(state, "a"), 1)}

    tell_preempting(story)


def test_what_stops_fitting_its_schema_before_it_has_a_job_gives_its_place_back() -> None:
    def story(state: PreemptStory) -> None:
        state.world.apply("a")
        while not (write := unsent(state)) or "/configmaps" not in write.request.path:
            state.answer_all() or state.pass_time()
            state.loop.settle()
        write.execute(state.api)
        state.world.edit(task_of(state, "a"), image=5)
        while state.operators[0].inbox["longtasks"]:
            state.deliver("longtasks")
            state.loop.settle()
        write.deliver()
        state.world.apply("b")
        state.advance(30, "success")
        assert status_of(state, "b")["phase"] == "Succeeded"
        assert uid_of(state, "a") not in str(state.api.of("configmaps"))
        state.world.edit(task_of(state, "a"), image="i")

    tell_preempting(story)
