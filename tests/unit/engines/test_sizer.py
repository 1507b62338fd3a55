"""What the past suggests as the operator sees it: learned from the cache, before and after a restart."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from longtask_operator.adapters.tasks import observe_task
from longtask_operator.api.quantity import MEBIBYTE
from longtask_operator.core.history import HistoryRule
from longtask_operator.core.input_hint import parse_input_rules
from longtask_operator.core.quota import Limits
from longtask_operator.engines import sizer as sizer_module
from longtask_operator.engines.context import new_caches
from longtask_operator.engines.input_sizes import InputSizes
from longtask_operator.engines.quotas import Quotas
from longtask_operator.engines.sizer import Sizer
from tests.builders import FINISHED, a_longtask, a_longtask_body, at, wire
from tests.support.contexts import context_on

ENDED = {"number": 1, "run": 1, "generation": 1, "memory": "512Mi", "cpu": "250m", "completionTime": wire(5)}


RULES = parse_input_rules("registry.example/import=256Mi+150%")


class Setup:
    def __init__(self) -> None:
        self.caches = new_caches()
        self.context = context_on(self.caches)
        self.sizer = self.restarted()

    def restarted(self, inputs: InputSizes | None = None) -> Sizer:
        quotas = Quotas(self.context, Limits(max_memory=1024 * MEBIBYTE))
        return Sizer(self.context, quotas, HistoryRule(), RULES, inputs)

    def put(self, version: int, **status: Any) -> None:
        body = a_longtask_body(status={"tenant": "team-a", "run": 1} | status, resourceVersion=str(version))
        self.caches.tasks.put(observe_task(body))

    def memory(self, sizer: Sizer | None = None, **spec: Any) -> int | None:
        found = (sizer or self.sizer).suggest(a_longtask(spec), "team-a", at(10))
        assert found is None or found.most.memory == 1024 * MEBIBYTE
        return found.memory // MEBIBYTE if found else None


def test_a_success_teaches_the_next_task() -> None:
    setup = Setup()
    setup.put(1, phase="Running")
    assert setup.memory() is None
    setup.put(2, **FINISHED | {"attempts": [ENDED | {"cause": "Completed", "peakMemory": "800Mi"}]})
    assert setup.memory() == 1000


@pytest.mark.parametrize("phase", ["Backoff", "Queued"])
def test_an_attempt_out_of_memory_teaches_before_its_task_ends(phase: str) -> None:
    """Where something comes before the backoff, as a tenant that is stopped, the phase is Queued."""
    setup = Setup()
    setup.put(1, phase="Running")
    setup.put(2, phase=phase, attempts=[ENDED | {"cause": "OutOfMemory"}])
    assert setup.memory() == 512


def test_a_restart_learns_from_the_tasks_that_are_there() -> None:
    setup = Setup()
    setup.put(2, **FINISHED | {"attempts": [ENDED | {"cause": "Completed", "peakMemory": "800Mi"}]})
    sizer = setup.restarted()
    assert setup.memory(sizer) is None
    sizer.read(setup.caches.tasks)
    assert setup.memory(sizer) == 1000


def test_a_restart_learns_from_the_newest_if_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizer_module, "_MOST_READ", 1)
    setup = Setup()
    for name, version, peak in (("b", 2, "100Mi"), ("c", 4, "800Mi"), ("a", 3, "200Mi")):
        attempts = [ENDED | {"cause": "Completed", "peakMemory": peak}]
        status = {"tenant": "team-a", "run": 1, **FINISHED, "attempts": attempts}
        body = a_longtask_body(status=status, resourceVersion=str(version), name=name, uid=f"uid-{name}")
        setup.caches.tasks.put(observe_task(body))
    sizer = setup.restarted()
    sizer.read(setup.caches.tasks)
    assert setup.memory(sizer) == 1000


def test_memory_that_was_asked_for_needs_no_suggestion() -> None:
    setup = Setup()
    setup.put(1, phase="Running")
    setup.put(2, **FINISHED | {"attempts": [ENDED | {"cause": "Completed", "peakMemory": "800Mi"}]})
    assert setup.memory(resources={"memory": "512Mi"}) is None
    assert setup.memory(resources={"cpu": "1"}) == 1000
    assert setup.sizer.suggest(a_longtask(status={"phase": "Succeeded"}), "team-a", at(10)) is None


def importing(*sizes: int | None) -> dict[str, Any]:
    inputs = [{"name": f"i{n}", "uri": "s3://b/k", "sizeBytes": size} for n, size in enumerate(sizes)]
    return {"image": "registry.example/import:2", "inputs": inputs}


def test_inputs_come_before_the_past() -> None:
    setup = Setup()
    setup.put(2, **FINISHED | {"attempts": [ENDED | {"cause": "Completed", "peakMemory": "800Mi"}]})
    assert setup.memory(**importing(100 * MEBIBYTE, 100 * MEBIBYTE)) == 556
    assert setup.memory(**importing(0)) == 256
    assert setup.memory(**importing(1), resources={"memory": "512Mi"}) is None


def test_without_inputs_or_a_rule_the_past_counts_alone() -> None:
    setup = Setup()
    assert setup.memory(**importing()) is None
    assert setup.memory(**importing(1) | {"image": "registry.example/other:2"}) is None


def test_an_unknown_input_is_told_beside_what_counts_instead() -> None:
    setup = Setup()
    found = setup.sizer.suggest(a_longtask(importing(1, None)), "team-a", at(10))
    assert found
    assert (found.memory, found.message) == (None, "the size of input i1 is not known: its sizeBytes is not given")


class Asked:
    """A store that answers at once."""

    def __init__(self) -> None:
        self.uris: list[str] = []

    async def size_of(self, uri: str) -> int:
        self.uris.append(uri)
        return 200 * MEBIBYTE


async def test_the_store_is_asked_before_the_first_attempt_of_a_run_and_not_later() -> None:
    setup, store = Setup(), Asked()
    sizer = setup.restarted(InputSizes(store, ("s3://b/",), lambda: at(9), lambda key: None))
    spec = importing(None) | {"resources": {"growth": "Never"}}
    owed = sizer.suggest(a_longtask(spec), "team-a", at(9))
    assert owed
    assert (owed.memory, owed.asked) == (None, at(9))
    for _ in range(10):  # the answer comes without a wait
        await asyncio.sleep(0)
    assert setup.memory(sizer, **spec) == 556
    begun = a_longtask(spec, {"run": 1, "attempts": [ENDED | {"cause": "Disruption"}]})
    assert sizer.suggest(begun, "team-a", at(10)) is None
    again = a_longtask(spec, {"run": 2, "attempts": [ENDED | {"cause": "Disruption"}]})
    assert sizer.suggest(again, "team-a", at(10)) is not None
    assert store.uris == ["s3://b/k"]
