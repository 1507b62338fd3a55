"""Tasks that share an idempotency key, against a model of the cluster: never two runs of one key, whatever fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests.support.sim_api import Json
from tests.support.sim_operator import SimOperator
from tests.support.sim_story import NAMES, Story, index, story_settings, tell
from tests.support.sim_world import ENDS

KEY: dict[str, Any] = {"idempotencyKey": "order-4711"}
KEYED: list[dict[str, Any]] = [
    KEY,
    KEY,
    KEY | {"priority": 3},
    KEY | {"args": ["other"]},
    KEY | {"retry": {"limits": {"application": 1}, "backoff": {"initialSeconds": 1}}},
    KEY | {"ttlSecondsAfterFinished": 0},
    KEY | {"suspend": True},
    KEY | {"queueName": "gpu-queue"},
    KEY | {"queueName": "gpu-queue"},
    KEY | {"deadlineSeconds": 40},
    KEY | {"resources": {"cpu": "3"}},
]


class KeyStory(Story):
    """Stories of tasks that nearly all have one key."""

    @initialize(spec=st.sampled_from(KEYED), steps=st.integers(0, 12), end=st.sampled_from(list(ENDS)))
    def begin(self, spec: dict[str, Any], steps: int = 0, end: str = "success") -> None:
        self.world.apply("a", **spec)
        self.advance(steps, end)

    @rule(name=st.sampled_from(NAMES), spec=st.sampled_from(KEYED))
    def twin(self, name: str, spec: dict[str, Any] | None = None) -> None:
        """Another task with the key is created."""
        if all(task["metadata"]["name"] != name for task in self.tasks()):
            self.world.apply(name, **(spec or KEY))

    @rule(number=index)
    def deleted(self, number: int) -> None:
        """A task is deleted, whatever it does."""
        self.mischief("delete task", number)

    @rule(number=index, spec=st.sampled_from(KEYED))
    def anew(self, number: int, spec: dict[str, Any]) -> None:
        """A task is deleted and another one of its name created at once, if nothing holds up the first."""
        if task := self.pick(self.tasks(), number):
            self.api.delete(task, "longtasks")
            self.twin(task["metadata"]["name"], spec)


TestKeyStory = KeyStory.TestCase
TestKeyStory.settings = story_settings(90)


def named(story: Story, name: str) -> Json:
    status: Json = next(task for task in story.tasks() if task["metadata"]["name"] == name)["status"]
    return status


def jobs_of(story: Story) -> list[str]:
    return sorted(job["metadata"]["name"][0] for job in story.api.of("jobs"))


def test_of_two_tasks_created_in_one_second_one_runs_and_both_have_its_result() -> None:
    def story(state: KeyStory) -> None:
        state.begin(KEY)
        state.twin("b")
        state.settle()
        assert jobs_of(state) == ["a"]
        waiting = named(state, "b")
        assert (waiting["reason"], waiting["duplicateOf"]["name"]) == ("Duplicate", "a")
        state.advance(60, "success")
        first, second = named(state, "a"), named(state, "b")
        assert (second["phase"], second["result"]) == ("Succeeded", first["result"])
        assert "attempts" not in second
        assert second["attempt"] == 0
        assert jobs_of(state) == ["a"]

    tell_keys(story)


def test_the_younger_keeps_the_key_when_it_has_its_place_in_the_ledger_first() -> None:
    def story(state: KeyStory) -> None:
        state.world.apply("b", **KEY)
        state.settle()  # b stands in the ledger
        state.loop.elapsed += 0.1
        state.world.apply("a", **KEY)
        task = next(task for task in state.tasks() if task["metadata"]["name"] == "a")
        meta = task["metadata"] | {"creationTimestamp": "2020-01-01T00:00:00Z"}
        state.api.put("longtasks", {**task, "metadata": meta})  # as if it had been created before
        state.settle()
        assert jobs_of(state) == ["b"]
        assert named(state, "a")["duplicateOf"]["name"] == "b"

    tell_keys(story)


def test_a_duplicate_runs_itself_when_the_first_is_deleted_but_not_before_its_pod_is_gone() -> None:
    def story(state: KeyStory) -> None:
        state.begin(KEY, steps=3)
        state.twin("b")
        state.settle()
        assert any(container.lives for container in state.world.containers.values())
        state.mischief("delete task")
        state.settle()
        state.wait(11)
        state.settle()
        assert named(state, "b")["reason"] == "Duplicate"
        state.fault("restart")
        state.settle()
        assert named(state, "b")["reason"] == "Duplicate"
        assert jobs_of(state) in ([], ["a"])
        state.advance(60, "success")
        assert named(state, "b")["attempts"][0]["cause"] == "Completed"
        assert "duplicateOf" not in named(state, "b")

    tell_keys(story)


def test_a_duplicate_of_what_finished_and_went_runs_itself() -> None:
    def story(state: KeyStory) -> None:
        state.begin(KEY, steps=20)
        assert named(state, "a")["phase"] == "Succeeded"
        state.mischief("delete task")
        state.twin("b")
        state.advance(60, "success")
        assert named(state, "b")["attempts"][0]["cause"] == "Completed"

    tell_keys(story)


def test_another_spec_with_the_key_is_a_conflict_until_the_first_goes() -> None:
    def story(state: KeyStory) -> None:
        state.begin(KEY, steps=20)
        state.twin("b", KEY | {"args": ["other"]})
        state.settle()
        status = named(state, "b")
        assert status["reason"] == "KeyConflict"
        assert "spec.args" in status["queue"]["message"]
        assert {c["type"]: c["status"] for c in status["conditions"]}["Stalled"] == "True"
        state.mischief("delete task")
        state.advance(60, "success")
        assert named(state, "b")["phase"] == "Succeeded"
        assert named(state, "b")["attempt"] == 1

    tell_keys(story)


def test_a_redrive_of_the_holder_leaves_what_was_taken_over_as_it_is() -> None:
    def story(state: KeyStory) -> None:
        state.begin(KEY)
        state.twin("b")
        state.advance(60, "success")
        taken = named(state, "b")
        state.wait(2)
        state.redrive(0, 1, image=False)
        state.advance(20, "error")
        assert (named(state, "a")["run"], named(state, "a")["attempt"] > 1) == (2, True)
        assert named(state, "b") == taken

    tell_keys(story)


def test_a_redrive_is_not_answered_by_what_a_newcomer_took_over_meanwhile() -> None:
    """The first has failed and is to run anew, but cannot yet; of its old failure another task still tells."""

    def story(state: KeyStory) -> None:
        state.begin(KEY)
        state.twin("b")
        state.advance(60, "permanent")
        state.wait(2)
        state.world.edit(state.tasks()[0], suspend=True, redrive="1")
        state.settle()
        state.wait(2)
        state.twin("c")
        state.settle()
        assert (named(state, "c")["phase"], named(state, "c")["duplicateOf"]["name"]) == ("Failed", "a")
        state.edit(0, {"suspend": False})
        state.advance(60, "success")
        status = named(state, "a")
        assert (status["run"], status["phase"], status["attempt"]) == (2, "Succeeded", 2)
        assert "duplicateOf" not in status

    tell_keys(story)


def test_a_redriven_duplicate_runs_itself() -> None:
    def story(state: KeyStory) -> None:
        state.begin(KEY)
        state.twin("b")
        state.advance(60, "success")
        state.wait(2)
        state.redrive(1, 1, image=False)
        state.advance(60, "success")
        status = named(state, "b")
        assert (status["run"], status["phase"], status["attempt"]) == (2, "Succeeded", 1)
        assert "duplicateOf" not in status

    tell_keys(story)


def test_a_duplicate_waits_for_the_new_run_of_a_holder_that_was_redriven_before_anybody_saw_its_end() -> None:
    def story(state: KeyStory) -> None:
        state.begin(KEY, steps=20)
        state.fault("crash")
        state.world.apply("b", **KEY)
        state.redrive(0, 1, image=False)
        state.start_operator()
        state.settle()
        state.advance(60, "success")
        assert named(state, "b")["phase"] == "Succeeded"

    tell_keys(story)


def test_a_duplicate_that_is_cancelled_takes_nobody_with_it() -> None:
    def story(state: KeyStory) -> None:
        state.begin(KEY)
        state.twin("b")
        state.twin("c")
        state.settle()
        state.edit(1, {"cancel": True})
        state.settle()
        assert named(state, "b")["phase"] == "Cancelled"
        state.advance(60, "success")
        assert [named(state, name)["phase"] for name in "abc"] == ["Succeeded", "Cancelled", "Succeeded"]

    tell_keys(story)


def test_a_duplicate_outlives_a_restart_before_the_holder_has_a_status() -> None:
    def story(state: KeyStory) -> None:
        state.begin(KEY)
        while not state.api.of("configmaps"):
            state.work(rounds=1)
        state.twin("b")
        state.fault("restart")
        state.settle()
        assert jobs_of(state) == ["a"]
        assert named(state, "b")["duplicateOf"]["name"] == "a"

    tell_keys(story)


def test_of_two_that_lead_the_one_that_has_not_heard_of_the_first_task_does_not_start_the_second() -> None:
    def story(state: KeyStory) -> None:
        state.operators.append(SimOperator(state.api, state.loop))
        state.world.apply("c")
        state.advance(40, "success")
        assert named(state, "c")["phase"] == "Succeeded"  # the ledger knows their tenant, and they the ledger
        late, quick = state.operators
        state.world.apply("a", **KEY)
        state.world.apply("b", **KEY)
        unheard = late.inbox["longtasks"].popleft()
        for operator, number in ((late, 1), (quick, 2)):
            for _ in range(number):
                operator.deliver("longtasks")
        state.loop.settle()  # each is about to write the ledger
        for operator in (quick, late):
            (write,) = [one for one in operator.requests if state.is_ledger_write(one)]
            write.execute(state.api)
            write.deliver()
        state.settle()
        assert [name for name in jobs_of(state) if name != "c"] == ["a"]
        assert named(state, "b")["duplicateOf"]["name"] == "a"
        late.inbox["longtasks"].appendleft(unheard)

    tell_keys(story)


def tell_keys(story: Callable[[KeyStory], None]) -> None:
    """Tell *story* of tasks with keys to its end."""
    tell(story, KeyStory)
