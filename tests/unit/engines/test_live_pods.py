"""What a report's answer says of a task, from the caches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from longtask_operator.adapters.tasks import observe_task
from longtask_operator.core.report_access import LiveTask
from longtask_operator.engines.context import Clock, new_caches
from longtask_operator.engines.ledgers import Ledgers
from longtask_operator.engines.live_pods import CachedPods
from tests.builders import POLICY, a_longtask_body, at, wire
from tests.support.contexts import context_on

FIRST: dict[str, Any] = {"number": 1, "run": 1, "generation": 1, "startTime": wire(1)}
CHECKPOINT = {"checkpoint": {"uri": "s3://bucket/ckpt/"}}


def told(spec: dict[str, Any], *attempts: dict[str, Any], newest: int = 1) -> LiveTask:
    """Return what the answer says at second 5 of a task with *spec* and these *attempts* in its status."""
    nothing: Any = None
    caches = new_caches()
    status = {"run": 1, "attempt": newest, "tenant": "team-a", "attempts": list(attempts)}
    caches.tasks.put(observe_task(a_longtask_body(spec, status, name="t", namespace="ns")))
    clock = Clock(now=lambda: at(5), jitter=lambda: 0.5)
    context = replace(context_on(caches), clock=clock, policy=POLICY)
    found = CachedPods(context, Ledgers(nothing, "longtask-system")).task_of("ns", "t")
    assert found is not None
    return found


def stopped(cause: str, **more: Any) -> dict[str, Any]:
    return {**FIRST, "cause": cause, "stopTime": wire(4), **more}


class TestCancel:
    """Whoever ends by itself, told to, is taken for a failure where nothing says that it was told."""

    def test_a_worker_hears_of_a_cancel_once_the_stop_stands_in_the_status(self) -> None:
        assert not told({"cancel": True}, FIRST).cancel_requested
        assert told({"cancel": True}, stopped("Cancelled")).cancel_requested

    def test_a_cancel_that_was_taken_back_before_the_stop_stood_is_none(self) -> None:
        assert not told({}, FIRST).cancel_requested
        assert told({}, stopped("Cancelled")).cancel_requested

    def test_who_is_asked_for_a_checkpoint_goes_on_until_the_cancel_stands(self) -> None:
        answer = told({"cancel": True} | CHECKPOINT, stopped("Suspended"))
        assert (answer.cancel_requested, answer.checkpoint_requested) == (False, True)
        answer = told({"cancel": True} | CHECKPOINT, stopped("Cancelled"))
        assert (answer.cancel_requested, answer.checkpoint_requested) == (True, False)

    def test_the_stop_of_an_older_attempt_is_not_told_to_a_newer_one(self) -> None:
        assert not told({"cancel": True}, stopped("Suspended"), newest=2).cancel_requested

    def test_a_cancelled_worker_that_lives_on_after_its_recorded_end_is_told_again(self) -> None:
        lost = stopped("Lost", completionTime=wire(4))
        assert told({"cancel": True}, lost).cancel_requested
        assert not told({}, lost).cancel_requested
