"""Two replicas: the other takes over after a crash, a freeze and a graceful end, and nothing is done twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.stage import Detached, Stage, says, stoppable
from tests.support.auditor import Expected
from tests.support.live import await_
from tests.support.operator_process import NAMESPACE, OperatorProcess

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/longtask-operator"
#: The lease of `operator_process.QUICK_LEASE` and what reading everything afresh may take.
TAKE_OVER = 5 + 10


@pytest.fixture
def pair(
    detached: Detached, new_stage: Callable[..., Stage]
) -> Iterator[tuple[OperatorProcess, OperatorProcess, Stage]]:
    """A leader, a second replica that is ready, and a namespace with work under way."""
    leader = detached.start("leader").until_leading()
    other = detached.start("other")
    other.until("ready", lambda: other.probe("/readyz") == 200)
    assert not other.leads()
    stage = new_stage("pair")
    for number in range(6):
        stage.tasks.create(f"task-{number}", f"sleep {2 + number}; " + says({"n": number}))
    stage.tasks.create("retried", "test $LONGTASK_ATTEMPT -ge 2; " + says({}), retry={"backoff": {"initialSeconds": 3}})
    stage.tasks.until_phase("task-3", "Running")
    try:
        yield leader, other, stage
    finally:
        detached.end_all()


def check_all_done_once(stage: Stage) -> None:
    wanted = {f"task-{n}": Expected(phase="Succeeded", causes=("Completed",), result={"n": n}) for n in range(6)}
    wanted["retried"] = Expected(phase="Succeeded", causes=("Application", "Completed"))
    for name in wanted:
        stage.tasks.until_finished(name)
    assert stage.audit(wanted) == []


def holder(stage: Stage) -> str:
    return str(stage.client.request("GET", LEASE)["spec"].get("holderIdentity") or "")


def seconds_until_leading(operator: OperatorProcess) -> float:
    started = time.monotonic()
    operator.until_leading(TAKE_OVER + 15)
    return time.monotonic() - started


def test_after_a_crash_the_other_takes_over(pair: tuple[OperatorProcess, OperatorProcess, Stage]) -> None:
    leader, other, stage = pair
    leader.kill9()
    assert seconds_until_leading(other) < TAKE_OVER
    assert holder(stage) == "other"
    check_all_done_once(stage)


def test_after_sigterm_the_lease_is_handed_over_at_once(
    pair: tuple[OperatorProcess, OperatorProcess, Stage],
) -> None:
    leader, other, stage = pair
    assert leader.terminate() == 0
    # Less than the lease: it was given back, not waited out.
    assert seconds_until_leading(other) < 4
    check_all_done_once(stage)


def test_a_frozen_leader_ends_when_it_wakes_up(pair: tuple[OperatorProcess, OperatorProcess, Stage]) -> None:
    leader, other, stage = pair
    leader.freeze()
    try:
        assert seconds_until_leading(other) < TAKE_OVER
        stage.tasks.create("meanwhile", says({"by": "other"}))
        stage.tasks.until_finished("meanwhile")
    finally:
        leader.thaw()
    await_("the old leader ended", lambda: not leader.runs(), 20)
    assert leader.process.returncode == 1
    assert leader.says("the lease is lost")
    assert other.leads()
    check_all_done_once(stage)


def test_the_other_replica_stays_out_of_the_way(pair: tuple[OperatorProcess, OperatorProcess, Stage]) -> None:
    leader, other, stage = pair
    stage.tasks.create("stopped", stoppable())
    stage.tasks.until_phase("stopped", "Running")
    stage.tasks.change("stopped", cancel=True)
    assert stage.tasks.until_finished("stopped")["phase"] == "Cancelled"
    check_all_done_once(stage)
    assert not any(line.get("logger") == "longtask.task" for line in other.lines())
    assert any(line.get("logger") == "longtask.task" for line in leader.lines())
