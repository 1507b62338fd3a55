"""Which trials a sweep runs."""

from __future__ import annotations

import random

import pytest

from tests.faults.proxy import Mode, Write
from tests.faults.suite import MODES, of_the_first_attempt, plan


def test_all_trials_are_every_fault_at_every_write() -> None:
    trials = plan(7, MODES, 1.0, random.Random(1))
    assert len(trials) == 21
    assert {trial.k for trial in trials} == set(range(1, 8))
    assert sum(trial.mode is Mode.BEFORE for trial in trials) == 7


@pytest.mark.parametrize("share", [0.0, 0.1, 0.34, 0.5])
def test_each_write_is_met_whatever_the_share(share: float) -> None:
    trials = plan(9, MODES, share, random.Random(2))
    assert {trial.k for trial in trials} == set(range(1, 10))
    assert len(trials) == max(9, round(share * 27))


def test_only_who_was_killed_has_a_successor_of_another_name() -> None:
    trials = plan(40, MODES, 1.0, random.Random(3))
    assert any(trial.successor == "new" for trial in trials)
    assert all(trial.mode.kills for trial in trials if trial.successor == "new")


def test_of_the_first_attempt_are_the_trials_from_its_first_status_to_when_its_pod_is_let_go_of() -> None:
    told = "update configmaps, create jobs, patch longtasks/status, delete jobs, delete pods, patch longtasks/status, "
    told += "patch pods, create jobs, patch longtasks/status, patch pods, update configmaps"
    writes = [
        Write(number=number, verb=verb, resource=resource, namespace="", name="", operator=1, at=0.0)
        for number, (verb, resource) in enumerate((one.split() for one in told.split(", ")), 1)
    ]
    trials = plan(len(writes), MODES, 0.0, random.Random(4))
    assert [trial.k for trial in of_the_first_attempt(writes, trials)] == [3, 4, 5, 6, 7]
