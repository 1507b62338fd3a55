"""Two replicas: the other takes over after a crash, a freeze and a graceful end, and nothing is done twice."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.e2e.stage import UNTIL_LEADING, Detached, Stage, says
from tests.support.auditor import Expected
from tests.support.live import await_
from tests.support.operator_process import NAMESPACE, OperatorProcess

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/longtask-operator"
#: A lease that is soon waited out, and what reading everything afresh may take besides.
SHORT = {"lease_duration_seconds": "8", "lease_renew_deadline_seconds": "6"}
TAKE_OVER = 8 + 20
#: One that nobody waits out in the seconds in which one that was given back is taken.
LONG = {"lease_duration_seconds": "90", "lease_renew_deadline_seconds": "60"}
GIVEN_BACK = 30

Pair = tuple[OperatorProcess, OperatorProcess, Stage]


def start_pair(detached: Detached, new_stage: Callable[..., Stage], lease: dict[str, str]) -> Pair:
    """Return a leader, a second replica that is ready, and a namespace with work under way."""
    leader = detached.leading("leader", **lease)
    other = detached.start("other", **lease)
    other.until("ready", lambda: other.probe("/readyz") == 200, 60)
    assert not other.leads()
    stage = new_stage("pair")
    for number in range(6):
        stage.tasks.create(f"task-{number}", f"sleep {2 + number}; " + says({"n": number}))
    stage.tasks.create("retried", "test $LONGTASK_ATTEMPT -ge 2; " + says({}), retry={"backoff": {"initialSeconds": 3}})
    stage.tasks.until_phase("task-3", "Running")
    return leader, other, stage


@pytest.fixture
def pair(detached: Detached, new_stage: Callable[..., Stage]) -> Pair:
    return start_pair(detached, new_stage, SHORT)


@pytest.fixture
def patient_pair(detached: Detached, new_stage: Callable[..., Stage]) -> Pair:
    return start_pair(detached, new_stage, LONG)


def check_all_done_once(stage: Stage) -> None:
    wanted = {f"task-{n}": Expected(phase="Succeeded", causes=("Completed",), result={"n": n}) for n in range(6)}
    wanted["retried"] = Expected(phase="Succeeded", causes=("Application", "Completed"))
    for name in wanted:
        stage.tasks.until_finished(name)
    assert stage.audit(wanted) == []


def holder(stage: Stage) -> str:
    return str(stage.client.request("GET", LEASE)["spec"].get("holderIdentity") or "")


def writers(operator: OperatorProcess) -> bool:
    """Tell whether it says of any task that it changed it."""
    return any(line.get("logger") == "longtask.task" for line in operator.lines())


def seconds_until_leading(operator: OperatorProcess) -> float:
    started = time.monotonic()
    operator.until_leading(UNTIL_LEADING)
    return time.monotonic() - started


def test_after_a_crash_the_other_takes_over(pair: Pair) -> None:
    leader, other, stage = pair
    leader.kill9()
    assert seconds_until_leading(other) < TAKE_OVER
    assert holder(stage) == other.identity
    check_all_done_once(stage)


def test_after_sigterm_the_lease_is_handed_over_at_once(patient_pair: Pair) -> None:
    leader, other, stage = patient_pair
    assert writers(leader)
    assert not writers(other)
    assert leader.terminate() == 0
    assert seconds_until_leading(other) < GIVEN_BACK
    check_all_done_once(stage)


def test_a_frozen_leader_ends_when_it_wakes_up(pair: Pair) -> None:
    leader, other, stage = pair
    leader.freeze()
    try:
        assert seconds_until_leading(other) < TAKE_OVER
        stage.tasks.create("meanwhile", says({"by": "other"}))
        stage.tasks.until_finished("meanwhile")
    finally:
        leader.thaw()
    await_("the old leader ended", lambda: not leader.runs(), 60)
    assert leader.process.returncode == 1
    assert leader.says("the lease is lost")
    assert other.leads()
    check_all_done_once(stage)
