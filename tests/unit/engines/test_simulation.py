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
    max_examples=7500 if THOROUGH else 150,
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
        state.crash(0)
        state.delete_task(0)
        state.start_operator()
        settle(state)

    tell(story)


def test_a_list_older_than_a_deletion_does_not_bring_the_task_back() -> None:
    def story(state: Story) -> None:
        state.begin(spec={})
        state.execute(0)  # the first list has been read, its answer is under way
        state.delete_task(0)
        state.deliver("longtasks", 0)
        state.deliver("longtasks", 0)
        settle(state)
        assert state.api.of("jobs") == []

    tell(story)
