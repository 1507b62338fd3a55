"""The operator's real engines against a model of the cluster, with faults and races between any two requests.

Hypothesis chooses what happens next and shrinks a failure to its shortest story. The
thorough profile (`HYPOTHESIS_PROFILE=thorough`) looks at fifty times as many stories.
Stories that once went wrong are told again, each as a test of its own.
"""

from __future__ import annotations

from collections import Counter, deque

import pytest

from longtask_operator.adapters.events import EventPoster
from longtask_operator.api.names import LABEL_TENANT
from longtask_operator.engines.wiring import TOGETHER_SECONDS
from tests.support.sim_api import Json
from tests.support.sim_operator import METRICS, SimOperator
from tests.support.sim_story import Story, story_settings, tell

TestStory = Story.TestCase
TestStory.settings = story_settings(90)


def wait_for(story: Story, text: str) -> int:
    """Let everything be answered until a request that contains *text* waits; return its number."""
    for _ in range(50):
        story.nothing_unexpected()
        for number, pending in enumerate(story.requests()):
            if text in str(pending.request):
                return number
        if not story.answer_all():
            story.pass_time()
    raise AssertionError(f"no request with {text}: {[str(pending.request) for pending in story.requests()]}")


def claim(story: Story) -> None:
    """Label another namespace with the name of that of the tasks, which has no label."""
    story.api.new("namespaces", "", {"metadata": {"name": "other", "labels": {LABEL_TENANT: "team-a"}}})
    story.settle()


CREATE_JOB = "POST /apis/batch/v1/namespaces/team-a/jobs"


def cancel_while_the_job_is_in_doubt(story: Story) -> None:
    """Lose the connection of the creation of a Job, cancel, and let the end be recorded before the Job is made."""
    story.begin({})
    number = wait_for(story, CREATE_JOB)
    create = story.requests()[number]
    story.edit(0, {"cancel": True})
    story.deliver("longtasks")
    create.lose()
    story.loop.settle()
    story.pass_time()
    story.execute(wait_for(story, "/status"))
    assert story.tasks()[0]["status"]["phase"] == "Cancelled"
    create.execute(story.api)
    assert len(story.operators[0].inbox["jobs"]) == 1


def test_how_long_an_attempt_waited_for_admission_is_observed() -> None:
    def observed() -> list[float]:
        names = ("longtask_queue_wait_seconds_count", "longtask_queue_wait_seconds_sum")
        return [METRICS.registry.get_sample_value(name) or 0.0 for name in names]

    def story(state: Story) -> None:
        before = observed()
        state.begin({})
        wait_for(state, "PUT /api/v1/namespaces/longtask-system/configmaps")
        state.loop.elapsed += 20
        state.settle()
        count, seconds = (after - then for after, then in zip(observed(), before, strict=True))
        assert count == 1
        assert 20 <= round(seconds, 6) < 25  # of two sums of floats, to which other tests added before

    tell(story)


def test_a_job_that_appears_after_the_task_was_cancelled_is_stopped() -> None:
    def story(state: Story) -> None:
        cancel_while_the_job_is_in_doubt(state)
        state.settle()
        state.advance(3, "success")
        assert state.api.of("jobs") == []

    tell(story)


def test_a_job_that_appears_after_a_redrive_does_not_become_an_attempt_of_the_new_run() -> None:
    def story(state: Story) -> None:
        cancel_while_the_job_is_in_doubt(state)
        state.edit(0, {"cancel": None, "redrive": "1", "image": "another"})
        while state.operators[0].inbox["longtasks"]:
            state.deliver("longtasks")
            state.loop.settle()
        state.settle()
        state.advance(20, "success")
        task = state.tasks()[0]
        assert (task["status"]["phase"], task["status"]["run"]) == ("Succeeded", 2)
        assert [attempt["number"] for attempt in task["status"]["attempts"]] == [2]

    tell(story)


def test_a_cancellation_that_was_seen_while_the_task_was_suspended_cannot_be_taken_back() -> None:
    def story(state: Story) -> None:
        state.begin({}, steps=3)
        state.settle()
        assert state.tasks()[0]["status"]["phase"] == "Running"
        state.edit(0, {"suspend": True})
        state.settle()
        state.edit(0, {"cancel": True})
        state.settle()
        state.edit(0, {"cancel": None, "suspend": None})
        state.advance(10, "success")
        assert state.tasks()[0]["status"]["phase"] == "Cancelled"

    tell(story)


def test_a_task_that_goes_before_an_operator_starts_leaves_no_ledger_entry() -> None:
    def story(state: Story) -> None:
        state.begin(spec={})
        state.settle()
        state.fault("crash")
        state.mischief("delete task")
        state.start_operator()
        state.settle()

    tell(story)


def test_a_list_older_than_a_deletion_does_not_bring_the_task_back() -> None:
    def story(state: Story) -> None:
        state.begin(spec={})
        state.execute(0, "later")  # the first list has been read, its answer is under way
        state.mischief("delete task")
        state.deliver("longtasks")
        state.deliver("longtasks")
        state.settle()
        assert state.api.of("jobs") == []

    tell(story)


def test_a_task_that_goes_while_its_admission_is_in_doubt_leaves_no_ledger_entry() -> None:
    def story(state: Story) -> None:
        state.begin({}, steps=7, end="error")
        state.wait(11)
        state.loop.settle()
        state.wait(2)  # the backoff is over; nothing but the ledger's answer will wake the task
        state.loop.settle()
        assert [pending.request.method for pending in state.requests()] == ["PUT", "PATCH"]
        state.execute(0, "lost")
        state.mischief("delete task")
        state.settle()

    tell(story)


def test_an_attempt_whose_job_is_gone_is_not_lost_while_its_pod_lives_unseen() -> None:
    def story(state: Story) -> None:
        state.begin({})
        state.settle()
        state.wait(3)  # long enough to be recorded as starting
        state.settle()
        for _ in range(3):
            state.move(0)  # the pod is created, scheduled and started; its events are under way
        state.mischief("delete job")
        for _ in range(3):
            state.deliver("jobs")
        state.loop.settle()
        while state.requests():
            state.execute(0)
            state.loop.settle()
        assert state.tasks()[0]["status"]["attempts"][0].get("cause") is None

    tell(story)


def test_a_job_that_goes_and_leaves_its_pod_unseen_is_not_created_again() -> None:
    def story(state: Story) -> None:
        state.begin(spec={})
        while not state.api.of("pods"):
            state.work(rounds=1)
            state.move(number=0)
        job = state.api.of("jobs")[0]
        state.world.orphan(job)
        while state.operators[0].inbox["jobs"]:  # the pods' watch is behind
            state.deliver("jobs")
            state.loop.settle()
        state.settle()
        assert state.api.of("jobs") == []

    tell(story)


def kueue_story(state: Story) -> None:
    """Begin a task that Kueue queues, and let its first attempt run."""
    state.begin({"queueName": "gpu-queue"})
    state.settle()
    (job,) = state.api.of("jobs")
    assert (job["spec"]["suspend"], state.api.of("pods")) == (True, [])
    state.loop.elapsed += 5
    state.loop.settle()
    state.settle()
    assert state.tasks()[0]["status"]["reason"] == "BehindOthers"
    for _ in range(4):  # admitted, a pod made, placed and started
        state.natural_move("success")
        state.settle()
    assert state.tasks()[0]["status"]["phase"] == "Running"


def test_what_kueue_takes_back_gets_another_job_and_the_first_one_never_another_pod() -> None:
    def story(state: Story) -> None:
        kueue_story(state)
        state.mischief("kueue takes back")
        state.settle()
        assert state.api.of("jobs") == []
        state.advance(30, "success")
        status = state.tasks()[0]["status"]
        assert [attempt["cause"] for attempt in status["attempts"]] == ["Preempted", "Completed"]
        assert len(state.world.containers) == 2

    tell(story)


def test_what_kueue_takes_back_and_lets_go_while_the_operator_is_down_is_preempted_all_the_same() -> None:
    def story(state: Story) -> None:
        kueue_story(state)
        state.loop.elapsed += 5
        state.fault("crash")
        state.mischief("kueue takes back")
        for _ in range(3):  # its pod is deleted and ends, and the Job let go again
            state.natural_move("success")
        state.start_operator()
        state.advance(40, "success")
        status = state.tasks()[0]["status"]
        assert [attempt["cause"] for attempt in status["attempts"]] == ["Preempted", "Completed"]
        assert len(state.world.containers) == 2

    tell(story)


def test_a_job_cache_that_lags_behind_does_not_look_like_a_job_taken_back() -> None:
    def story(state: Story) -> None:
        state.begin({"queueName": "gpu-queue"})
        state.settle()
        for _ in range(4):
            state.natural_move("success")
        while state.operators[0].inbox["pods"]:  # what became of the Job is still under way
            state.deliver("pods")
            state.pass_time(at_most=TOGETHER_SECONDS)
        state.execute(wait_for(state, "GET /apis/batch/v1/namespaces/team-a/jobs/"))
        state.advance(10, "success")
        status = state.tasks()[0]["status"]
        assert [attempt["cause"] for attempt in status["attempts"]] == ["Completed"]

    tell(story)


def test_an_attempt_whose_pod_went_while_two_others_are_there_is_lost_at_once() -> None:
    """It once asked the API server without end whether the other pod is the only one."""

    def story(state: Story) -> None:
        state.begin({"retry": {"backoff": {"initialSeconds": 1}}}, steps=3)
        for kind in ("second pod", "second pod", "pod vanishes"):
            state.settle()
            state.mischief(kind)
        state.settle()
        (attempt,) = state.tasks()[0]["status"]["attempts"]
        assert attempt["cause"] == "Lost"
        assert attempt["message"].endswith("is gone without a word, and its Job made another one")

    tell(story)


def test_what_a_status_that_is_postponed_is_announced_with_is_announced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three start at the same moment, so that some are shown later, and what is asked of them meanwhile is ignored."""
    posted: Counter[str] = Counter()
    monkeypatch.setattr(
        EventPoster, "post", lambda self, task, reason, message, warning=False: posted.update({f"{task.name} {reason}"})
    )

    def story(state: Story) -> None:
        for name in "abc":
            state.world.apply(name, suspend=True)
        state.settle()
        for task in state.tasks():
            state.world.edit(task, suspend=None)
        while sum(container.lives for container in state.world.containers.values()) < 3:
            state.settle()
            moves = [move for name, move in state.world.moves() if not name.startswith(("end ", "evict "))]
            moves[0]() if moves else state.pass_time()
        state.settle()
        unshown = [task for task in state.tasks() if task["status"].get("phase") != "Running"]
        assert unshown
        for task in unshown:
            state.world.edit(task, redrive="7")
        for _ in range(10):
            state.settle()
            state.pass_time()
        assert all(task["status"]["phase"] == "Running" for task in state.tasks())
        ignored = {said: times for said, times in posted.items() if said.endswith("RedriveIgnored")}
        assert ignored == {f"{task['metadata']['name']} RedriveIgnored": 1 for task in unshown}

    tell(story)


def test_an_unlabelled_namespace_waits_while_its_name_is_the_tenant_of_labelled_ones() -> None:
    def story(state: Story) -> None:
        claim(state)
        state.begin({}, steps=5)
        status = state.tasks()[0]["status"]
        assert (status["reason"], status.get("tenant"), state.api.of("jobs")) == ("Invalid", None, [])
        state.api.delete(state.api.objects["namespaces", "", "other"], "namespaces", 0)
        state.advance(20, "success")
        status = state.tasks()[0]["status"]
        assert (status["phase"], status["tenant"]) == ("Succeeded", "team-a")

    tell(story)


def test_what_was_admitted_keeps_its_tenant_also_before_its_status_says_so() -> None:
    def story(state: Story) -> None:
        state.begin({})
        wait_for(state, CREATE_JOB)
        assert "tenant" not in state.tasks()[0].get("status", {})
        claim(state)
        state.advance(20, "success")
        status = state.tasks()[0]["status"]
        assert (status["phase"], status["tenant"]) == ("Succeeded", "team-a")

    tell(story)


def test_a_task_that_is_seen_before_its_new_namespace_gets_the_tenant_of_its_label() -> None:
    def story(state: Story) -> None:
        state.settle()
        state.api.new("namespaces", "", {"metadata": {"name": "new", "labels": {LABEL_TENANT: "red"}}})
        meta = {"name": "a", "generation": 1, "labels": {}, "annotations": {}}
        state.api.new("longtasks", "new", {"metadata": meta, "spec": {"image": "i"}, "status": {}})
        state.deliver("longtasks")
        state.loop.settle()
        while state.pass_time() and (requests := state.requests()):
            for pending in requests:
                pending.execute(state.api)
                pending.deliver()
            state.loop.settle()
        state.settle()
        state.pass_time()
        state.settle()
        assert state.tasks()[0]["status"]["tenant"] == "red"

    tell(story)


@pytest.mark.parametrize("deleted", [False, True], ids=["finished", "deleted"])
def test_an_entry_that_another_operator_brings_back_after_the_end_is_released_again(deleted: bool) -> None:
    """One that leads as well took it over from a ledger that the tenant has left, before it heard of the end."""

    def story(state: Story) -> None:
        state.begin({})
        wait_for(state, CREATE_JOB)
        admitted = state.api.of("configmaps")[0]["data"]
        state.advance(20, "success")
        assert state.tasks()[0]["status"]["phase"] == "Succeeded"
        if deleted:
            state.api.delete(state.tasks()[0], "longtasks")
            state.advance(20, "success")
        ledger = state.api.of("configmaps")[0]
        assert ledger["data"]["attempts"] == ""
        state.api.put("configmaps", {**ledger, "data": admitted})
        state.world.apply("b")  # whoever writes meets what the other one wrote
        state.advance(20, "success")
        assert [task["status"]["phase"] for task in state.tasks()] == ["Succeeded"] * (1 if deleted else 2)
        assert state.api.of("configmaps")[0]["data"]["attempts"] == ""

    tell(story)


@pytest.mark.parametrize("deleted", [False, True], ids=["suspended", "deleted"])
def test_an_entry_that_comes_late_of_a_task_that_asks_for_none_any_more_is_released(deleted: bool) -> None:
    """The last leader's write of the ledger reached the API server after this one had read it."""

    def story(state: Story) -> None:
        state.begin({}, steps=20)
        state.world.apply("b")
        number = wait_for(state, "PUT /api/v1/namespaces/longtask-system/configmaps")
        late = state.requests()[number]
        state.fault("crash")
        if deleted:
            state.mischief("delete task", 1)
        else:
            state.edit(1, {"suspend": True})
        state.start_operator()
        state.settle()
        late.execute(state.api)
        assert state.api.of("configmaps")[0]["data"]["attempts"]
        state.world.apply("c")  # whoever writes meets what the other one wrote
        state.advance(40, "success")
        assert state.api.of("configmaps")[0]["data"]["attempts"] == ""

    tell(story)


class DeafTo(deque[tuple[str, Json]]):
    """The events of an operator that never hears of one task."""

    def append(self, event: tuple[str, Json]) -> None:
        if event[1]["metadata"]["name"] != "b":
            super().append(event)


def test_a_line_of_a_task_that_is_not_heard_of_stays_while_the_task_is_there() -> None:
    """Another operator, which leads as well, has admitted it."""

    def story(state: Story) -> None:
        state.operators.append(SimOperator(state.api, state.loop))
        state.begin({}, steps=20)
        deaf = state.operators[0]
        deaf.inbox["longtasks"] = DeafTo()
        state.world.apply("b")
        while not any(one.lives for one in state.world.containers.values()):
            state.settle()
            moves = [move for name, move in state.world.moves() if not name.startswith(("end ", "evict "))]
            moves[0]() if moves else state.pass_time()
        state.operators.pop().crash()
        line = state.api.of("configmaps")[0]["data"]["attempts"]
        state.world.apply("d")
        for _ in range(100):
            state.settle()
            state.pass_time()
        assert deaf.ledgers.entry(line.split()[0])
        assert line in state.api.of("configmaps")[0]["data"]["attempts"]
        assert deaf.context.caches.tasks.get("team-a", "b"), "it has asked for it"

    tell(story)
