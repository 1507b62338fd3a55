"""A LongTask deleted in any phase goes at once and leaves nothing: no Job, Pod, finalizer or ledger line."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.e2e.stage import Played, Stage, played, stoppable
from tests.support.live import await_

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
NO_RETRY = {"limits": {"application": 0, "neverStarted": 0}}


def deleted(stage: Stage, name: str, phase: str) -> bool:
    """Wait for *phase*, delete, and return once nothing is left."""
    uid = stage.tasks.get(name)["metadata"]["uid"]
    stage.tasks.until_phase(name, phase)
    stage.tasks.delete(name)
    stage.tasks.until_gone(name, 90)
    await_(f"no ledger line of {name}", lambda: uid not in stage.ledger(), 30)
    return True


def suspended(stage: Stage) -> bool:
    stage.tasks.create("suspended", "true", suspend=True)
    return deleted(stage, "suspended", "Suspended")


def starting(stage: Stage) -> bool:
    stage.tasks.create("starting", image="registry.invalid/absent:1")
    return deleted(stage, "starting", "Starting")


def running(stage: Stage) -> bool:
    stage.tasks.create("running", stoppable())
    return deleted(stage, "running", "Running")


def backoff(stage: Stage) -> bool:
    stage.tasks.create("backoff", "exit 1", retry={"backoff": {"initialSeconds": 600}})
    return deleted(stage, "backoff", "Backoff")


def cancelling(stage: Stage) -> bool:
    stage.tasks.create("cancelling", "trap '' TERM; while true; do sleep 1; done")
    stage.tasks.until_phase("cancelling", "Running")
    stage.tasks.change("cancelling", cancel=True)
    return deleted(stage, "cancelling", "Cancelling")


def succeeded(stage: Stage) -> bool:
    stage.tasks.create("succeeded", "true")
    return deleted(stage, "succeeded", "Succeeded")


def failed(stage: Stage) -> bool:
    stage.tasks.create("failed", "exit 1", retry=NO_RETRY)
    return deleted(stage, "failed", "Failed")


def cancelled(stage: Stage) -> bool:
    stage.tasks.create("cancelled", stoppable())
    stage.tasks.until_phase("cancelled", "Running")
    stage.tasks.change("cancelled", cancel=True)
    return deleted(stage, "cancelled", "Cancelled")


def at_once(stage: Stage) -> bool:
    """Deleted before the operator has done anything for it, or just after: whichever comes first."""
    for number in range(5):
        stage.tasks.create(f"at-once-{number}", stoppable())
        stage.tasks.delete(f"at-once-{number}")
    for number in range(5):
        stage.tasks.until_gone(f"at-once-{number}", 60)
    return True


def in_the_foreground(stage: Stage) -> bool:
    """The API server keeps the task until its Jobs are gone; they must go although the task is being deleted."""
    stage.tasks.create("foreground", stoppable())
    stage.tasks.until_phase("foreground", "Running")
    path = f"{stage.tasks.path}/foreground"
    stage.client.request("DELETE", path, query={"propagationPolicy": "Foreground"})
    stage.tasks.until_gone("foreground", 60)
    return True


def as_an_orphan(stage: Stage) -> bool:
    """The Job is left without an owner: the operator ends it nevertheless."""
    stage.tasks.create("orphan", stoppable())
    stage.tasks.until_phase("orphan", "Running")
    stage.client.request("DELETE", f"{stage.tasks.path}/orphan", query={"propagationPolicy": "Orphan"})
    stage.tasks.until_gone("orphan", 60)
    return True


PHASES = (
    suspended,
    starting,
    running,
    backoff,
    cancelling,
    succeeded,
    failed,
    cancelled,
    at_once,
    in_the_foreground,
    as_an_orphan,
)


@pytest.fixture(scope="module")
def play(stage: Stage) -> Iterator[Played]:
    with played(stage, *PHASES) as found:
        yield found


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.__name__)
def test_a_deleted_task_leaves_nothing(play: Played, phase: Callable[[Stage], bool]) -> None:
    assert play.of(phase)


def test_nothing_at_all_is_left(play: Played, stage: Stage) -> None:
    play.wait()
    assert stage.audit() == []
    for path in (stage.tasks.path, *children(stage)):
        assert stage.client.items(path) == []


def children(stage: Stage) -> list[str]:
    return [f"/apis/batch/v1/namespaces/{stage.namespace}/jobs", f"/api/v1/namespaces/{stage.namespace}/pods"]


def test_a_deleted_namespace_goes_with_all_its_tasks(new_stage: Callable[..., Stage]) -> None:
    stage = new_stage("going")
    stage.tasks.create("running", stoppable())
    stage.tasks.create("waiting", "true", suspend=True)
    stage.tasks.until_phase("running", "Running")
    stage.tasks.until_phase("waiting", "Suspended")
    stage.close()
    path = f"/api/v1/namespaces/{stage.namespace}"
    # Its controller looks again after a while that grows with what is left.
    await_("the namespace gone", lambda: stage.client.find(path) is None, 180)
    await_("an empty ledger", lambda: not stage.ledger().strip(), 30)
