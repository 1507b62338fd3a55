"""Rules that hold for whatever a reconcile may see, also for states that no order of events should bring about.

What holds along whole stories is in `tests/unit/engines/test_simulation.py`.
"""

from __future__ import annotations

import os
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from longtask_operator.api.longtask import LongTask
from longtask_operator.api.reasons import Cause, ConditionType
from longtask_operator.api.status import LongTaskStatus
from longtask_operator.core.conditions import is_true
from longtask_operator.core.current import Observed
from longtask_operator.core.decision import CreateJob, Decision, KeepEntry, ReleaseEntry, ReleasePod
from longtask_operator.core.quota import NO_AMOUNTS, Limits
from longtask_operator.core.reconcile import reconcile
from longtask_operator.core.room import Room
from longtask_operator.core.terms import terms_of
from tests.builders import (
    FINISHED,
    POLICY,
    a_job,
    a_longtask,
    a_longtask_body,
    a_pod,
    a_running_pod,
    an_ended_pod,
    an_entry,
    at,
    seen,
    wire,
)
from tests.support.sim_api import check_status

EXAMPLES = 5_000 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 300
NUMBERS = st.integers(1, 3)

SPECS = st.fixed_dictionaries(
    {},
    optional={
        "cancel": st.booleans(),
        "suspend": st.booleans(),
        "deadlineSeconds": st.sampled_from([5, 500]),
        "startTimeoutSeconds": st.sampled_from([3, 500]),
        "redrive": st.sampled_from(["", "1", "2"]),
        "ttlSecondsAfterFinished": st.sampled_from([0, 60]),
        "retry": st.sampled_from([{"limits": {"application": 0}}, {"limits": {"neverStarted": 9}}]),
        "resources": st.sampled_from([{"cpu": "1"}, {"cpu": "3"}]),
    },
)
ATTEMPTS = st.fixed_dictionaries(
    {"run": st.just(1), "generation": st.integers(0, 2)},
    optional={
        "cause": st.sampled_from([*(str(cause) for cause in Cause), "NewWord"]),
        "completionTime": st.just(wire(5)),
        "startTime": st.just(wire(1)),
        "podUid": st.sampled_from(["pod-1", "pod-2", "other"]),
        "cpu": st.just("250m"),
        "memory": st.just("512Mi"),
    },
)


@st.composite
def statuses(draw: st.DrawFn) -> dict[str, Any]:
    """Return a status as an operator may have written it, or none."""
    kind = draw(st.sampled_from(["none", "finished", "open"]))
    if kind == "none":
        return {}
    if kind == "finished":
        return FINISHED | {"lastRedrive": draw(st.sampled_from(["", "1"])), "attemptTotals": {"completed": 1}}
    attempts = [{"number": n, **one} for n, one in enumerate(draw(st.lists(ATTEMPTS, max_size=3)), start=1)]
    given_up = draw(st.integers(0, 1))
    for attempt in attempts:
        if given_up or attempt is not attempts[-1] or "completionTime" in attempt:
            attempt |= {"completionTime": wire(5), "cause": attempt.get("cause", "Lost")}
    return {
        "run": 1,
        "attempt": len(attempts) + given_up,
        "tenant": "team-a",
        "runStartTime": wire(0),
        "attempts": attempts,
        **draw(st.fixed_dictionaries({}, optional={"nextAttemptTime": st.sampled_from([wire(5), wire(50)])})),
    }


JOBS = st.builds(
    a_job, attempt=NUMBERS, run=st.integers(1, 2), generation=st.integers(0, 2), deleting=st.booleans(),
    finished=st.booleans(),
)  # fmt: skip
PODS = st.builds(
    lambda make, changes: make(**changes),
    st.sampled_from([a_pod, a_running_pod, an_ended_pod]),
    st.fixed_dictionaries(
        {"attempt": NUMBERS, "held": st.booleans(), "uid": st.sampled_from(["pod-1", "pod-2", "other"])},
        optional={"deleted_at": st.just(at(30)), "grace_seconds": st.just(30), "node": st.none()},
    ),
)
TASKS = st.builds(
    lambda spec, status, generation: a_longtask(spec, status, generation=generation),
    SPECS,
    statuses(),
    st.integers(1, 2),
)
LIMITS = [Limits(), Limits(max_cpu=100), Limits(on_hold=True), Limits(spent="budget month is spent")]
TERMS = [terms_of("team-a", own, Room({"team-a": (own, NO_AMOUNTS)})) for own in LIMITS]
SIGHTS: st.SearchStrategy[Observed] = st.builds(
    seen,
    TASKS,
    entry=st.none() | st.builds(an_entry, attempt=NUMBERS, generation=st.integers(0, 2)),
    jobs=st.lists(JOBS, max_size=2, unique_by=lambda job: job.attempt).map(tuple),
    pods=st.lists(PODS, max_size=3, unique_by=lambda pod: pod.uid).map(tuple),
    tenant=st.sampled_from(["team-a", "team-a", "team-a", None]),
    now=st.sampled_from([at(1), at(10), at(1000)]),
    terms=st.none() | st.sampled_from(TERMS),
)


def decided(observed: Observed) -> tuple[Decision, LongTaskStatus]:
    decision = reconcile(observed, POLICY)
    return decision, decision.status or observed.task.status


def newest_child(observed: Observed) -> int:
    return max([0, *(job.attempt for job in observed.jobs), *(pod.attempt for pod in observed.pods)])


def is_finished(task: LongTask) -> bool:
    return is_true(task.status, ConditionType.FINISHED)


many = settings(max_examples=EXAMPLES, deadline=None)


@many
@given(SIGHTS)
def test_every_status_is_one_that_the_api_server_takes(observed: Observed) -> None:
    _, status = decided(observed)
    before = a_longtask_body(status=observed.task.status)
    after = status.model_dump(by_alias=True, exclude_none=True, mode="json")
    check_status(before, {**before, "status": orjson.loads(orjson.dumps(after))})


@many
@given(SIGHTS)
def test_a_status_that_was_written_is_wanted_again(observed: Observed) -> None:
    decision, status = decided(observed)
    if decision.status is None or observed.task.metadata.deletion_timestamp:
        return
    begun = status.run != (observed.task.status.run or 1)
    ended = sum((status.attempt_totals or {}).values()) > sum((observed.task.status.attempt_totals or {}).values())
    task = observed.task.model_copy(update={"status": status})
    there = ("entry", "jobs", "pods", "now", "terms")
    again, wanted = decided(seen(task, **{name: getattr(observed, name) for name in there}))
    if not begun and not ended and observed.tenant:
        assert wanted == status
        assert again.notices == () or again.notices == decision.notices
    assert sum((wanted.attempt_totals or {}).values()) <= sum((status.attempt_totals or {}).values()) + 1


@many
@given(SIGHTS)
def test_an_attempt_that_ended_is_never_ended_again(observed: Observed) -> None:
    _, status = decided(observed)
    now = {attempt.number: attempt for attempt in status.attempts or ()}
    for attempt in observed.task.status.attempts or ():
        if attempt.completion_time:
            assert now[attempt.number] == attempt
    ends = [a for a in now.values() if a.completion_time and a not in (observed.task.status.attempts or ())]
    counted = sum((status.attempt_totals or {}).values())
    assert counted - sum((observed.task.status.attempt_totals or {}).values()) == len(ends) <= 1


@many
@given(SIGHTS)
def test_a_finished_run_starts_nothing(observed: Observed) -> None:
    decision, status = decided(observed)
    if is_finished(observed.task) and status.run == observed.task.status.run:
        assert decision.candidate is None
        assert not any(isinstance(action, CreateJob) for action in decision.first)
        assert status.phase == observed.task.status.phase


@many
@given(SIGHTS)
def test_a_job_is_created_for_an_admitted_attempt_that_has_none_and_whose_predecessors_ended(
    observed: Observed,
) -> None:
    decision, _ = decided(observed)
    for action in (a for a in decision.first if isinstance(a, CreateJob)):
        assert action.entry == observed.entry
        assert action.entry.generation == observed.task.metadata.generation
        assert action.entry.attempt > newest_child(observed)
        assert not observed.task.spec.cancel
        assert not observed.task.spec.suspend


@many
@given(SIGHTS)
def test_the_next_number_is_above_all_that_were_seen(observed: Observed) -> None:
    decision, status = decided(observed)
    if decision.candidate:
        number = decision.candidate.entry.attempt
        assert number > max(status.attempt or 0, newest_child(observed))
        assert all(pod.is_terminal for pod in observed.pods)


@many
@given(SIGHTS)
def test_a_pod_is_let_go_of_only_when_its_end_stands_in_the_status(observed: Observed) -> None:
    decision, status = decided(observed)
    known = {attempt.number: attempt for attempt in status.attempts or ()}
    newest = max(newest_child(observed), status.attempt or 0, observed.entry.attempt if observed.entry else 0)
    for action in (a for a in decision.then if isinstance(a, ReleasePod)):
        recorded = known.get(action.pod.attempt)
        ended = recorded is not None and recorded.completion_time is not None
        given_up = recorded is None and action.pod.attempt <= (status.attempt or 0)
        # A newer attempt is admitted only after the end of this one was recorded.
        assert ended or given_up or action.pod.attempt < newest


@many
@given(SIGHTS)
def test_the_ledger_lets_go_only_when_nothing_lives(observed: Observed) -> None:
    decision, _ = decided(observed)
    if any(isinstance(action, ReleaseEntry) for action in decision.then):
        assert all(pod.is_terminal for pod in observed.pods)
        assert not any(isinstance(action, KeepEntry) for action in decision.first)
