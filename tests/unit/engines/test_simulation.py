"""The operator's real engines against a model of the cluster, with faults and races between any two requests.

Hypothesis chooses what happens next and shrinks a failure to its shortest story. The
thorough profile (`HYPOTHESIS_PROFILE=thorough`) looks at fifty times as many stories.
Stories that once went wrong are told again, each as a test of its own.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

from tests.support.sim_story import Story, tell

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
TestStory = Story.TestCase
TestStory.settings = settings(
    max_examples=int(os.environ.get("EX", "7500")) if THOROUGH else 150,
    stateful_step_count=60 if THOROUGH else 40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
    report_multiple_bugs=False,
    phases=[phase for phase in Phase if phase is not Phase.explain],
)


def settle(story: Story) -> None:
    """Let the operator answer until it waits."""
    while story.answer_all():
        pass


def test_a_task_that_goes_before_an_operator_starts_leaves_no_ledger_entry() -> None:
    def story(state: Story) -> None:
        state.begin(spec={})
        settle(state)
        state.fault("crash")
        state.mischief("delete task")
        state.start_operator()
        settle(state)

    tell(story)


def test_a_list_older_than_a_deletion_does_not_bring_the_task_back() -> None:
    def story(state: Story) -> None:
        state.begin(spec={})
        state.execute(0, "later")  # the first list has been read, its answer is under way
        state.mischief("delete task")
        state.deliver("longtasks")
        state.deliver("longtasks")
        settle(state)
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
        settle(state)

    tell(story)
