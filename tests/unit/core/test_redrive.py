from __future__ import annotations

from typing import Any

import pytest

from longtask_operator.core.redrive import begin_run
from tests.builders import FINISHED, a_longtask, seen, wire

RUNNING = {"run": 1, "attempt": 1, "tenant": "team-a", "lastRedrive": "1", "phase": "Running", "runStartTime": wire(0)}


class TestFirstSight:
    def test_a_task_gets_its_first_run(self) -> None:
        task = a_longtask(annotations={"longtask.dev/created-by": "alice"})
        status, notices = begin_run(seen(task))
        assert (status.run, status.attempt, status.tenant, status.created_by) == (1, 0, "team-a", "alice")
        assert (status.run_start_time, status.last_redrive) == (wire(0), None)
        assert notices == ()

    def test_the_value_at_first_sight_starts_nothing(self) -> None:
        status, notices = begin_run(seen(a_longtask({"redrive": "7"})))
        assert (status.run, status.last_redrive, notices) == (1, "7", ())

    def test_a_refused_namespace_gives_no_tenant(self) -> None:
        status, _ = begin_run(seen(tenant=None))
        assert status.tenant is None

    def test_a_tenant_is_recorded_later_but_never_changed(self) -> None:
        status, _ = begin_run(seen(a_longtask(status={"run": 1}), tenant="team-b"))
        assert status.tenant == "team-b"
        status, _ = begin_run(seen(a_longtask(status=RUNNING), tenant="team-b"))
        assert status.tenant == "team-a"


@pytest.mark.parametrize("redrive", [None, "", "1"])
@pytest.mark.parametrize("before", [RUNNING, {**FINISHED, "lastRedrive": "1"}])
def test_no_value_and_the_same_value_change_nothing(before: dict[str, Any], redrive: str | None) -> None:
    task = a_longtask({"redrive": redrive}, before)
    assert begin_run(seen(task)) == (task.status, ())


def test_a_value_for_an_unfinished_task_is_recorded_and_ignored() -> None:
    status, (notice,) = begin_run(seen(a_longtask({"redrive": "2"}, RUNNING)))
    assert (status.run, status.last_redrive, status.phase) == (1, "2", "Running")
    assert (notice.reason, notice.warning) == ("RedriveIgnored", True)


def test_a_value_that_was_ignored_starts_nothing_later() -> None:
    task = a_longtask({"redrive": "2"}, {**FINISHED, "lastRedrive": "2"})
    assert begin_run(seen(task))[0].run == 1


class TestNextRun:
    def test_a_new_value_for_a_finished_task_begins_a_run(self) -> None:
        history = {"attemptCounts": {"completed": 1}, "attemptTotals": {"completed": 1}, "result": {"value": 7}}
        task = a_longtask({"redrive": "2"}, FINISHED | history | {"startTime": wire(1), "progress": {"done": 1}})
        status, (notice,) = begin_run(seen(task))
        assert (status.run, status.last_redrive, status.run_start_time) == (2, "2", wire(10))
        assert (status.phase, status.completion_time, status.start_time) == ("Queued", None, None)
        assert (status.reason, status.queue) == ("Queued", None), "what it waits for is not known yet"
        assert (status.result, status.progress, status.attempt_counts) == (None, None, None)
        assert (notice.reason, notice.warning) == ("Redriven", False)

    def test_history_numbers_and_totals_stay(self) -> None:
        task = a_longtask({"redrive": "2"}, FINISHED | {"attemptTotals": {"completed": 1}})
        status, _ = begin_run(seen(task))
        assert status.attempts == task.status.attempts
        assert (status.attempt, status.attempt_totals, status.tenant) == (1, {"completed": 1}, "team-a")

    def test_its_conditions_begin_anew(self) -> None:
        status, _ = begin_run(seen(a_longtask({"redrive": "2"}, FINISHED)))
        conditions = {c.type: (c.status, c.last_transition_time) for c in status.conditions or ()}
        assert conditions["Finished"] == ("False", wire(10))
        assert "Stalled" not in conditions

    @pytest.mark.parametrize(("asked", "kept"), [(None, True), ("Keep", True), ("Discard", False)])
    def test_its_checkpoint_is_kept_unless_the_spec_says_otherwise(self, asked: str | None, kept: bool) -> None:
        spec = {"uri": "s3://b/ckpt/", **({"onRedrive": asked} if asked else {})}
        saved = {"uri": "s3://b/ckpt/u/1/1/manifest.json", "sha256": "ab" * 32, "attempt": 1, "time": wire(4)}
        task = a_longtask({"redrive": "2", "checkpoint": spec}, FINISHED | {"checkpoint": saved})
        status, _ = begin_run(seen(task))
        assert (status.run, status.checkpoint is not None) == (2, kept)
