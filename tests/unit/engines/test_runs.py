"""What is known of live attempts, read from their tasks in the cache."""

from __future__ import annotations

from typing import Any

import pytest

from longtask_operator.adapters.tasks import observe_task
from longtask_operator.core.node_loss import OVERDUE
from longtask_operator.core.preemption import Run
from longtask_operator.engines.context import new_caches
from longtask_operator.engines.runs import Runs
from tests.builders import START, UID, a_longtask_body, a_running_pod, an_entry, at, wire


class Setup:
    """Runs on a cache of their own, and one task in it."""

    def __init__(self) -> None:
        caches = new_caches()
        self.tasks, self.pods, self.version, self.now = caches.tasks, caches.pods, 0, START
        self.runs = Runs(self.tasks, self.pods, lambda: self.now)

    def put(self, spec: Any = None, uid: str = UID, meta: Any = None, **status: Any) -> None:
        self.version += 1
        further = {"uid": uid, "resourceVersion": str(self.version), **(meta or {})}
        self.tasks.put(observe_task(a_longtask_body(spec, status, **further)))

    def run(self, attempt: int = 1, uid: str = UID) -> Run | None:
        return self.runs.of(an_entry(uid=uid, attempt=attempt))

    @property
    def known(self) -> Run:
        found = self.run()
        assert found is not None
        return found


@pytest.fixture
def setup() -> Setup:
    return Setup()


def one(**attempt: Any) -> dict[str, Any]:
    return {"attempts": [{"number": 1, "startTime": wire(10), **attempt}]}


def test_an_attempt_of_which_nothing_stands_yet_has_lost_nothing(setup: Setup) -> None:
    setup.put({"priority": 3})
    assert setup.run() == Run(key="team-a/wordcount", priority=3, queued_at=START)


def test_compute_counts_from_the_start_or_from_its_own_last_checkpoint(setup: Setup) -> None:
    setup.put(**one())
    assert setup.run() == Run(key="team-a/wordcount", priority=0, queued_at=START, since=at(10))
    setup.put(**one(), checkpoint={"attempt": 1, "time": wire(40)})
    assert setup.known.since == at(40)
    setup.put(**one(), checkpoint={"attempt": 2, "time": wire(40)})
    assert setup.known.since == at(10)


def test_the_place_is_that_of_its_run(setup: Setup) -> None:
    setup.put(runStartTime=wire(500))
    assert setup.known.queued_at == at(500)


@pytest.mark.parametrize(
    ("spec", "attempt", "meta"),
    [
        ({}, {"cause": "Preempted", "stopTime": wire(20)}, {}),
        ({}, {"completionTime": wire(20)}, {}),
        ({"cancel": True}, {}, {}),
        ({"suspend": True}, {}, {}),
        ({}, {}, {"deletionTimestamp": wire(20)}),
    ],
)
def test_what_is_stopped_or_about_to_be_leaves(setup: Setup, spec: Any, attempt: Any, meta: Any) -> None:
    setup.put(**one())
    assert not setup.known.leaving
    setup.put(spec, meta=meta, **one(**attempt))
    assert setup.known.leaving


def test_the_end_of_an_older_attempt_says_nothing_of_this_one(setup: Setup) -> None:
    setup.put(**one(cause="Preempted", completionTime=wire(20)))
    assert setup.run(attempt=2) == Run(key="team-a/wordcount", priority=0, queued_at=START)


def test_an_attempt_on_a_lost_node_cannot_be_reached_until_that_is_back(setup: Setup) -> None:
    changed: list[str] = []
    setup.runs.on_change = changed.append
    setup.put(**one())
    for version, since in enumerate((None, at(20), None), start=1):
        setup.pods.put(a_running_pod(version=version, node_lost_at=since))
        assert setup.known.unreachable == bool(since)
    assert changed == [UID, UID]


def test_of_a_task_that_is_gone_nothing_leaves_while_its_node_is_lost(setup: Setup) -> None:
    """Its line stays in the ledger as long as its pod does: whoever waits for that room would wait for ever."""
    setup.put(phase="Running", **one())
    setup.pods.put(a_running_pod(deleted_at=at(60), grace_seconds=30))
    setup.tasks.remove("team-a", "wordcount", UID)
    setup.now = at(60) + OVERDUE
    assert setup.known.unreachable
    setup.pods.remove("team-a", a_running_pod().name, a_running_pod().uid)
    assert setup.run() is None


def test_that_a_priority_is_another_is_told(setup: Setup) -> None:
    changed: list[str] = []
    setup.runs.on_change = changed.append
    setup.put({"priority": 3})
    setup.put({"priority": 3}, phase="Running")
    assert changed == []
    setup.put({"priority": 2}, phase="Running")
    assert changed == [UID]


def test_an_attempt_whose_node_is_lost_while_it_is_being_stopped_cannot_be_reached(setup: Setup) -> None:
    """Its status says for what it is stopped; the pod lives until the node is back, and so does what it holds."""
    setup.put(reason="Preempted", **one(cause="Preempted", stopTime=wire(20)))
    setup.pods.put(a_running_pod(deleted_at=at(60), grace_seconds=30))
    setup.now = at(60)
    assert not setup.known.unreachable
    setup.now = at(60) + OVERDUE
    assert setup.known.unreachable
    assert setup.run(attempt=2) == Run(key="team-a/wordcount", priority=0, queued_at=START)


def test_of_a_task_that_is_gone_or_finished_nothing_is_known(setup: Setup) -> None:
    assert (setup.run(), setup.runs.key(UID)) == (None, "")
    setup.put(phase="Running", **one())
    assert setup.runs.key(UID) == "team-a/wordcount"
    setup.put(phase="Succeeded", **one())
    assert (setup.run(), setup.runs.key(UID)) == (None, "")
    setup.put(phase="Running", run=2)
    assert setup.runs.key(UID) == "team-a/wordcount"
    setup.put(uid="u2")
    assert (setup.run(), setup.runs.key(UID), setup.runs.key("u2")) == (None, "", "team-a/wordcount")
    setup.tasks.remove("team-a", "wordcount", "u2")
    assert (setup.run(uid="u2"), setup.runs.key("u2")) == (None, "")


def test_tasks_that_were_there_before_are_known(setup: Setup) -> None:
    setup.put()
    assert Runs(setup.tasks, setup.pods, lambda: START).key(UID) == "team-a/wordcount"
