"""Two operators that lead at once for as long as it takes, against a model of the cluster.

Where they know a ledger of different age they may show a task to and fro until one of them has to write the ledger.
That ends by itself, within seconds: so each answer takes some time here.
"""

from __future__ import annotations

from hypothesis.stateful import rule

from longtask_operator.engines.wiring import TOGETHER_SECONDS
from tests.support.sim_api import Broken
from tests.support.sim_cohorts import CohortStory
from tests.support.sim_operator import SimOperator
from tests.support.sim_preemption import PreemptStory
from tests.support.sim_story import MOST_ROUNDS, Story, story_settings
from tests.unit.engines.test_simulation_keys import KeyStory

ANSWER_SECONDS = 0.01


class Leaders(Story):
    """Two that lead; neither knows of the other."""

    @rule()
    def another_leads(self) -> None:
        """A second one takes the lead, and the first one goes on."""
        self.start_operator()

    def start_operator(self) -> None:
        if len(self.operators) < 2:
            self.operators.append(SimOperator(self.api, self.loop))
            self.loop.settle()

    def answer_all(self) -> bool:
        if not (found := super().answer_all()):
            return False
        self.loop.elapsed += ANSWER_SECONDS
        self.loop.settle()
        return found

    def settle(self) -> None:
        for _ in range(3 * MOST_ROUNDS):
            if not self.answer_all() and not self.pass_time(at_most=TOGETHER_SECONDS):
                return
        raise Broken("two that lead never agree")


class LeadersOfKeys(Leaders, KeyStory):
    """Two that lead, and tasks with one key."""


class LeadersOfCohorts(Leaders, CohortStory):
    """Two that lead, and tenants that come and go."""


class LeadersThatPreempt(Leaders, PreemptStory):
    """Two that lead, and tasks that give way."""


TestLeadersOfKeys = LeadersOfKeys.TestCase
TestLeadersOfKeys.settings = story_settings(40)
TestLeadersOfCohorts = LeadersOfCohorts.TestCase
TestLeadersOfCohorts.settings = story_settings(40)
TestLeadersThatPreempt = LeadersThatPreempt.TestCase
TestLeadersThatPreempt.settings = story_settings(40)
