"""Growing in place, told through `reconcile`: from a report that is near the limit to the size in the status."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from longtask_operator.api.quantity import GIBIBYTE, MEBIBYTE
from longtask_operator.api.status import Attempt, LongTaskStatus
from longtask_operator.core.decision import Decision, KeepEntry, LowerEntry, ResizePod, UndoResize
from longtask_operator.core.live_growth import LiveGrowth, ResizeTrouble
from longtask_operator.core.observe import PodSizes, PodView
from longtask_operator.core.reconcile import reconcile
from longtask_operator.core.resizing import memory_in_force
from longtask_operator.core.sizing import Size
from tests.builders import (
    POLICY,
    SMALLEST,
    a_container_end,
    a_job,
    a_longtask,
    a_running_pod,
    an_entry,
    at,
    seen,
    wire,
)

LARGER = Size(cpu=250, memory=GIBIBYTE)
NEAR = SMALLEST.memory * 8 // 10
ATTEMPT = {
    "number": 1, "run": 1, "generation": 1, "jobName": "wordcount-7c9d4f-1", "cpu": "250m", "memory": "512Mi",
    "podUid": "pod-1", "startTime": wire(1),
}  # fmt: skip
STARTED: dict[str, Any] = {
    "run": 1, "attempt": 1, "tenant": "team-a", "runStartTime": wire(0), "attempts": [ATTEMPT],
}  # fmt: skip
REFUSED = {**STARTED, "attempts": [{**ATTEMPT, "resizeRefused": "Infeasible: no room"}]}
RAISED = an_entry(size=LARGER)


def a_sized_pod(asked: Size = SMALLEST, in_force: Size | None = SMALLEST, **changes: Any) -> PodView:
    sizes = {key: changes.pop(key) for key in ("pending", "message", "in_progress") if key in changes}
    return a_running_pod(sizes=PodSizes(asked=asked, in_force=in_force, **sizes), **changes)


def decide(
    pod: PodView, *, spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **there: Any
) -> Decision:
    there = {"entry": an_entry(), "jobs": (a_job(),), "memory_used": NEAR, **there}
    policy = there.pop("policy", POLICY)
    return reconcile(seen(a_longtask(spec, status or STARTED), pods=(pod,), **there), policy)


def attempt_of(decision: Decision) -> Attempt:
    assert decision.status is not None
    assert decision.status.attempts
    return decision.status.attempts[-1]


def steps(decision: Decision) -> list[Any]:
    kinds = (ResizePod, UndoResize, LowerEntry, KeepEntry)
    return [action for action in (*decision.first, *decision.then) if isinstance(action, kinds)]


class TestWanting:
    def test_a_report_near_the_limit_asks_for_the_next_rung(self) -> None:
        pod = a_sized_pod()
        decision = decide(pod)
        assert decision.then == (ResizePod(pod=pod, entry=RAISED),)
        assert attempt_of(decision).memory == "512Mi"  # until the node has done it

    def test_cpu_rises_only_where_the_ladder_demands_it(self) -> None:
        two = Size(cpu=250, memory=2 * GIBIBYTE)
        status = {**STARTED, "attempts": [{**ATTEMPT, "memory": "2Gi"}]}
        decision = decide(a_sized_pod(two, two), status=status, entry=an_entry(size=two), memory_used=2 * GIBIBYTE)
        (step,) = steps(decision)
        assert step.entry.size == Size(cpu=500, memory=3 * GIBIBYTE)

    @pytest.mark.parametrize(
        ("changes", "pod"),
        [
            pytest.param({"memory_used": NEAR - 1}, {}, id="enough left"),
            pytest.param({"memory_used": None}, {}, id="nobody reports"),
            pytest.param({"spec": {"resources": {"growth": "NextAttempt"}}}, {}, id="next attempt"),
            pytest.param({"spec": {"resources": {"growth": "Never"}}}, {}, id="never"),
            pytest.param({"spec": {"resources": {"maxMemory": "512Mi"}}}, {}, id="ceiling"),
            pytest.param({"spec": {"resources": {"maxMemory": "x"}}}, {}, id="unreadable ceiling"),
            pytest.param({"status": REFUSED}, {}, id="refused before"),
            pytest.param({"entry": None}, {}, id="no entry yet"),
            pytest.param({"entry": an_entry(handed_over=True)}, {}, id="admitted by Kueue"),
            pytest.param({"status": {**STARTED, "attempts": []}}, {}, id="start not recorded"),
            pytest.param({"policy": replace(POLICY, live_growth=LiveGrowth(threshold_percent=0))}, {}, id="off"),
            pytest.param({}, {"sizes": None}, id="no sizes"),
            pytest.param({}, {"sizes": PodSizes(asked=SMALLEST)}, id="an old kubelet"),
            pytest.param(
                {}, {"sizes": PodSizes(asked=Size(cpu=1, memory=1), in_force=SMALLEST)}, id="a webhook's size"
            ),
            pytest.param({}, {"deleted_at": at(40)}, id="deleted"),
            pytest.param({}, {"node_lost_at": at(5)}, id="lost node"),
            pytest.param({"spec": {"cancel": True}}, {}, id="cancelled"),
        ],
    )
    def test_not_otherwise(self, changes: dict[str, Any], pod: dict[str, Any]) -> None:
        kinds = (ResizePod, UndoResize, LowerEntry)
        decision = decide(replace(a_sized_pod(), **pod), **changes)
        assert [step for step in steps(decision) if isinstance(step, kinds)] == []

    def test_not_while_two_pods_of_the_attempt_are_there(self) -> None:
        pods = (a_sized_pod(), a_sized_pod(name="other", uid="pod-2"))
        decision = reconcile(
            seen(a_longtask({}, STARTED), pods=pods, entry=an_entry(), jobs=(a_job(),), memory_used=NEAR), POLICY
        )
        assert steps(decision) == []

    def test_after_a_lack_of_quota_it_is_tried_again_in_a_while(self) -> None:
        trouble = ResizeTrouble(message="no room", at=at(4), for_good=False)
        decision = decide(a_sized_pod(), resize_trouble=trouble)
        assert (steps(decision), decision.again_at) == ([], at(14))
        assert attempt_of(decision).resize_refused is None
        assert steps(decide(a_sized_pod(), resize_trouble=trouble, now=at(14)))

    def test_what_the_cluster_refused_stands_in_the_status(self) -> None:
        trouble = ResizeTrouble(message="Refused: exceeded quota", at=at(9), for_good=True)
        decision = decide(a_sized_pod(), resize_trouble=trouble, entry=RAISED)
        assert (attempt_of(decision).resize_refused, steps(decision)) == ("Refused: exceeded quota", [])


class TestUnderWay:
    def test_a_raise_without_its_request_is_carried_through_whatever_is_reported(self) -> None:
        pod = a_sized_pod()
        decision = decide(pod, entry=RAISED, memory_used=None)
        assert steps(decision) == [ResizePod(pod=pod, entry=RAISED)]

    def test_the_node_gets_its_time(self) -> None:
        decision = decide(a_sized_pod(LARGER, resizing_since=at(5)), entry=RAISED)
        assert (steps(decision), decision.again_at) == ([], at(65))
        assert attempt_of(decision).memory == "512Mi"

    def test_in_force_it_stands_in_the_status(self) -> None:
        decision = decide(a_sized_pod(LARGER, LARGER), entry=RAISED)
        attempt = attempt_of(decision)
        assert (attempt.cpu, attempt.memory, attempt.resize_time) == ("250m", "1Gi", wire(10))
        assert steps(decision) == []
        assert decision.status is not None
        assert decision.status.sizing is not None
        assert (decision.status.sizing.source, decision.status.sizing.display) == ("Live", "250m/1Gi")
        assert decision.status.usage is not None
        assert decision.status.usage.memory_gib_seconds == 5  # 9 s at 512Mi, rounded up

    def test_in_force_it_may_grow_further(self) -> None:
        pod = a_sized_pod(LARGER, LARGER)
        decision = decide(pod, entry=RAISED, memory_used=GIBIBYTE)
        assert steps(decision) == [ResizePod(pod=pod, entry=an_entry(size=Size(cpu=250, memory=2 * GIBIBYTE)))]

    @pytest.mark.parametrize(
        ("pod", "why"),
        [
            ({"pending": "Infeasible", "message": "no such node"}, "Infeasible: no such node"),
            (
                {"pending": "Deferred", "message": "full", "resizing_since": at(-50)},
                "Deferred: not within 60 s: full",
            ),
            ({"resizing_since": at(-50)}, "Deferred: not within 60 s: the node did not say why"),
        ],
    )
    def test_what_the_node_does_not_give_is_recorded_first(self, pod: dict[str, Any], why: str) -> None:
        decision = decide(a_sized_pod(LARGER, **pod), entry=RAISED)
        assert (attempt_of(decision).resize_refused, steps(decision)) == (why, [])
        assert decision.again_at == at(10)

    def test_what_the_node_has_granted_is_waited_for(self) -> None:
        decision = decide(a_sized_pod(LARGER, in_progress=True, resizing_since=at(-500)), entry=RAISED)
        assert (attempt_of(decision).resize_refused, steps(decision)) == (None, [])

    def test_what_the_node_grants_after_all_is_not_taken_back(self) -> None:
        pod = a_sized_pod(LARGER, in_progress=True)
        assert steps(decide(pod, status=REFUSED, entry=RAISED)) == []
        in_force = decide(a_sized_pod(LARGER, LARGER), status=REFUSED, entry=RAISED)
        assert (attempt_of(in_force).memory, attempt_of(in_force).resize_refused) == ("1Gi", None)

    def test_an_earlier_resize_in_progress_grants_nothing_that_is_still_put_off(self) -> None:
        pod = a_sized_pod(LARGER, in_progress=True, pending="Deferred")
        assert steps(decide(pod, status=REFUSED, entry=RAISED)) == [UndoResize(pod=pod, size=SMALLEST)]

    def test_once_the_pod_asks_for_less_what_the_node_grants_is_that(self) -> None:
        pod = a_sized_pod(in_progress=True)
        (step,) = steps(decide(pod, status=REFUSED, entry=RAISED))
        assert isinstance(step, LowerEntry)

    def test_then_the_pod_asks_for_less_again(self) -> None:
        pod = a_sized_pod(LARGER, pending="Infeasible")
        assert steps(decide(pod, status=REFUSED, entry=RAISED)) == [UndoResize(pod=pod, size=SMALLEST)]

    def test_and_at_last_the_ledger_is_lowered(self) -> None:
        pod = a_sized_pod()
        lower = LowerEntry(pod=pod, entry=an_entry(), tenant="team-a")
        assert steps(decide(pod, status=REFUSED, entry=RAISED)) == [lower]

    def test_a_request_that_came_late_counts_whatever_the_quota_says(self) -> None:
        decision = decide(a_sized_pod(LARGER), status=REFUSED)
        assert decision.first == (KeepEntry(entry=RAISED, tenant="team-a"),)

    def test_a_missing_entry_comes_back_before_anything_else(self) -> None:
        decision = decide(a_sized_pod(LARGER), entry=None)
        assert steps(decision) == [KeepEntry(entry=an_entry(), tenant="team-a")]


class TestTold:
    """What the answer to a report says of the memory that there is."""

    def test_a_raise_under_way_is_not_told_as_memory_that_may_be_used(self) -> None:
        assert memory_in_force([Attempt.model_validate(ATTEMPT)], RAISED) == SMALLEST.memory

    def test_before_its_start_is_recorded_the_entry_counts(self) -> None:
        assert memory_in_force([], RAISED) == LARGER.memory
        assert memory_in_force([Attempt.model_validate(ATTEMPT)], replace(RAISED, attempt=2)) == LARGER.memory

    def test_nothing_is_known_without_an_entry(self) -> None:
        assert memory_in_force([Attempt.model_validate(ATTEMPT)], None) is None


class TestEnding:
    def killed(self, in_force: Size) -> LongTaskStatus:
        end = a_container_end(137, reason="OOMKilled", finished=at(8))
        pod = replace(a_sized_pod(LARGER, in_force), phase="Failed", running_since=None, ended=end)
        status = decide(pod, entry=RAISED).status
        assert status is not None
        return status

    def test_a_kill_climbs_from_the_size_in_force(self) -> None:
        status = self.killed(LARGER)
        assert [(a.memory, a.cause) for a in status.attempts or ()] == [("1Gi", "OutOfMemory")]
        assert status.sizing is not None
        assert (status.sizing.source, status.sizing.display) == ("OutOfMemory", "250m/2Gi")

    def test_a_kill_before_the_node_had_resized_climbs_from_the_old_size(self) -> None:
        status = self.killed(SMALLEST)
        assert [(a.memory, a.resize_time) for a in status.attempts or ()] == [("512Mi", None)]
        assert status.sizing is not None
        assert status.sizing.display == "250m/1Gi"

    def test_a_stop_knows_the_size_in_force(self) -> None:
        decision = decide(a_sized_pod(LARGER, LARGER), entry=RAISED, spec={"cancel": True})
        assert (attempt_of(decision).cause, attempt_of(decision).memory) == ("Cancelled", "1Gi")

    def test_the_size_is_kept_by_later_attempts(self) -> None:
        grown = decide(a_sized_pod(LARGER, LARGER), entry=RAISED).status
        assert grown is not None
        ended = a_container_end(1, finished=at(20))
        pod = replace(a_sized_pod(LARGER, LARGER), phase="Failed", running_since=None, ended=ended)
        after = reconcile(
            seen(a_longtask({}, grown), pods=(pod,), entry=RAISED, jobs=(a_job(),), now=at(20)), POLICY
        ).status
        assert after is not None
        assert after.usage is not None
        assert after.usage.memory_gib_seconds == 5 + 10
        waiting = reconcile(seen(a_longtask({}, after), now=at(60)), POLICY)
        assert waiting.candidate is not None
        assert waiting.candidate.entry.size == LARGER


def test_the_alarm_is_a_share_of_the_memory() -> None:
    assert LiveGrowth().alarm(1000 * MEBIBYTE) == 800 * MEBIBYTE
    assert LiveGrowth(threshold_percent=0).alarm(1000) is None
    assert LiveGrowth().defer_limit == timedelta(seconds=60)
