"""Tasks that Kueue admits, on a real node. Kueue is not there: the tests do to the Jobs what it does, as its user.

It does no more than that: it unsuspends a Job, with what its flavor says put into the template by the same request,
and takes it back by suspending it, with the template restored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from longtask_operator.api.times import parse_time
from tests.e2e.stage import Played, Scenario, Stage, held, played, stoppable
from tests.support.auditor import Expected
from tests.support.live import Json, await_

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
KUEUE = "system:serviceaccount:kueue-system:kueue-controller-manager"
QUEUE = {"queueName": "gpu-queue"}
FLAVOR = {"kubernetes.io/os": "linux"}
QUICK = {"backoff": {"initialSeconds": 1, "factor": 1, "maxSeconds": 1}}
#: Works until it is stopped in its first attempt, and is done at once in the next.
WORKS_ONCE = f"""if [ "$LONGTASK_ATTEMPT" = 1 ]; then {stoppable()}; fi"""


def patch(stage: Stage, job: Json, body: Json, *how: str, user: str = KUEUE, check: bool = True) -> Any:
    name, text = job["metadata"]["name"], json.dumps(body)
    return stage.kubectl("--as", user, "patch", "job", name, "--type=merge", *how, "-p", text, check=check)


def admit(stage: Stage, job: Json) -> None:
    """Unsuspend *job* as Kueue does, with a node selector and a label of its own in the template."""
    placed = {"metadata": {"labels": {"kueue.x-k8s.io/podset": "main"}}, "spec": {"nodeSelector": FLAVOR}}
    patch(stage, job, {"spec": {"suspend": False, "template": placed}})


def take_back(stage: Stage, job: Json) -> None:
    """Suspend *job* in the three requests that Kueue makes; before the later ones the operator may have deleted it."""
    stopping = {"kueue.x-k8s.io/stopping": "true"}
    restored = {"metadata": {"labels": {"kueue.x-k8s.io/podset": None}}, "spec": {"nodeSelector": None}}
    patch(stage, job, {"metadata": {"annotations": stopping}, "spec": {"suspend": True}})
    later = [
        patch(stage, job, {"status": {"startTime": None}}, "--subresource=status", check=False),
        patch(
            stage,
            job,
            {"metadata": {"annotations": dict.fromkeys(stopping)}, "spec": {"template": restored}},
            check=False,
        ),
    ]
    for done in later:
        assert done.returncode == 0 or "NotFound" in done.stderr, done.stderr


def held_job(stage: Stage, name: str, attempt: int = 1) -> Json:
    """Wait until Kueue holds the task's Job of that number, and return it."""
    stage.tasks.until(
        name,
        f"attempt {attempt} waits for Kueue",
        lambda status: status.get("attempt") == attempt and (status.get("queue") or {}).get("reason") == "BehindOthers",
        60,
    )
    (job,) = [j for j in stage.tasks.jobs(name) if j["metadata"]["labels"]["longtask.dev/attempt"] == str(attempt)]
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpu-queue"
    return job


def age_of(job: Json) -> float:
    return (datetime.now(UTC) - parse_time(job["metadata"]["creationTimestamp"])).total_seconds()


def waits_then_runs(stage: Stage) -> Json:
    stage.tasks.create("waits", held(), **QUEUE)
    job = held_job(stage, "waits")
    waiting, pods, line = stage.tasks.status("waits"), stage.tasks.pods("waits"), stage.ledger()
    admit(stage, job)
    stage.tasks.until_phase("waits", "Running")
    running = {"quota": stage.quota().get("status"), "pods": stage.tasks.pods("waits")}
    stage.let_end("waits")
    status = stage.tasks.until_finished("waits")
    (after,) = stage.tasks.jobs("waits")
    return {"waiting": waiting, "pods": pods, "ledger": line, "running": running, "status": status, "job": after}


def preempted(stage: Stage) -> Json:
    stage.tasks.create("preempted", WORKS_ONCE, retry=QUICK, **QUEUE)
    first = held_job(stage, "preempted")
    admit(stage, first)
    stage.tasks.until_phase("preempted", "Running")
    take_back(stage, first)
    second = held_job(stage, "preempted", attempt=2)
    jobs = [job["metadata"]["name"] for job in stage.tasks.jobs("preempted")]
    admit(stage, second)
    return {"second": second["metadata"]["name"], "jobs": jobs, "status": stage.tasks.until_finished("preempted")}


def let_go_again_at_once(stage: Stage) -> Json:
    stage.tasks.create("again", WORKS_ONCE, retry=QUICK, **QUEUE)
    first = held_job(stage, "again")
    admit(stage, first)
    stage.tasks.until_phase("again", "Running")
    patch(stage, first, {"spec": {"suspend": True}})
    patch(stage, first, {"spec": {"suspend": False}}, check=False)  # it may be gone by now
    admit(stage, held_job(stage, "again", attempt=2))
    return stage.tasks.until_finished("again")


def cancelled(stage: Stage) -> Json:
    stage.tasks.create("cancelled", "true", **QUEUE)
    held_job(stage, "cancelled")
    stage.tasks.change("cancelled", cancel=True)
    status = stage.tasks.until_finished("cancelled")
    await_("no Job", lambda: not stage.tasks.jobs("cancelled"), 30)
    return status


def suspended(stage: Stage) -> Json:
    stage.tasks.create("suspended", "true", **QUEUE)
    held_job(stage, "suspended")
    stage.tasks.change("suspended", suspend=True)
    stage.tasks.until_phase("suspended", "Suspended")
    await_("no Job", lambda: not stage.tasks.jobs("suspended"), 30)
    stage.tasks.change("suspended", suspend=False)
    admit(stage, held_job(stage, "suspended", attempt=2))
    return stage.tasks.until_finished("suspended")


def clocks(stage: Stage) -> Json:
    limit = 20  # a pod on a machine with much to do starts within that
    stage.tasks.create("clocks", "true", startTimeoutSeconds=limit, **QUEUE)
    job = held_job(stage, "clocks")
    await_("a wait longer than startTimeoutSeconds", lambda: age_of(job) > limit + 2, limit + 20)
    held = stage.tasks.status("clocks")
    admit(stage, job)
    return {"held": held, "status": stage.tasks.until_finished("clocks")}


def deleted(stage: Stage) -> None:
    stage.tasks.create("deleted", "true", **QUEUE)
    held_job(stage, "deleted")
    stage.tasks.delete("deleted")
    stage.tasks.until_gone("deleted")


def guarded(stage: Stage) -> Json:
    stage.tasks.create("guarded", "true", **QUEUE)
    job = held_job(stage, "guarded")
    size = {"cpu": "4", "memory": "8Gi"}  # the API server itself lets resources of a suspended Job change
    container = {**job["spec"]["template"]["spec"]["containers"][0], "resources": {"requests": size, "limits": size}}
    unlabel = ["label", "job", job["metadata"]["name"], "kueue.x-k8s.io/queue-name-"]
    refused = {
        "unsuspend": patch(stage, job, {"spec": {"suspend": False}}, user="alice", check=False),
        "resize": patch(stage, job, {"spec": {"template": {"spec": {"containers": [container]}}}}, check=False),
        "unlabel": stage.kubectl("--as", "alice", *unlabel, check=False),
    }
    stage.tasks.delete("guarded")
    return {what: done.stderr for what, done in refused.items()}


SCENARIOS: tuple[Scenario, ...] = (
    waits_then_runs, preempted, let_go_again_at_once, cancelled, suspended, clocks, deleted, guarded,
)  # fmt: skip


@pytest.fixture(scope="module")
def kueue(cluster: Any) -> Iterator[None]:
    """The rights that Kueue has, and those of somebody who may edit Jobs."""
    verbs, what = "--verb=get,list,watch,update,patch", "--resource=jobs,jobs/status"
    cluster.kubectl("create", "clusterrole", "test-kueue", verbs, what)
    for name, user, role in (("kueue", KUEUE, "test-kueue"), ("alice", "alice", "edit")):
        cluster.kubectl("create", "clusterrolebinding", f"test-{name}", f"--clusterrole={role}", f"--user={user}")
    yield
    cluster.kubectl("delete", "clusterrolebinding", "test-kueue", "test-alice")
    cluster.kubectl("delete", "clusterrole", "test-kueue")


@pytest.fixture(scope="module")
def stage(kueue: None, new_stage: Callable[..., Stage]) -> Stage:
    """A tenant that may start nothing by its own quota."""
    return new_stage("kueue", quota=0)


@pytest.fixture(scope="module")
def done(stage: Stage) -> Iterator[Played]:
    with played(stage, *SCENARIOS) as scenarios:
        yield scenarios


def causes(status: Json) -> list[str]:
    return [attempt["cause"] for attempt in status["attempts"]]


def test_kueue_alone_says_when_it_runs_and_our_quota_counts_nothing(done: Played) -> None:
    found = done.of(waits_then_runs)
    assert found["pods"] == []
    assert (found["waiting"]["phase"], found["waiting"]["reason"]) == ("Queued", "BehindOthers")
    assert "waits in queue gpu-queue of Kueue" in found["waiting"]["queue"]["message"]
    assert found["ledger"].splitlines()[0].split()[5:] == ["kueue"]
    assert found["status"]["phase"] == "Succeeded"
    assert (found["running"]["quota"] or {}).get("admitted", 0) == 0


def test_what_kueue_puts_into_the_template_is_left_alone(done: Played) -> None:
    found = done.of(waits_then_runs)
    template = found["job"]["spec"]["template"]
    assert template["metadata"]["labels"]["kueue.x-k8s.io/podset"] == "main"
    assert template["spec"]["nodeSelector"] == FLAVOR
    assert [pod["spec"]["nodeSelector"] for pod in found["running"]["pods"]] == [FLAVOR]


def test_what_kueue_takes_back_ends_as_preempted_and_goes_on_with_another_job(done: Played) -> None:
    found = done.of(preempted)
    assert causes(found["status"]) == ["Preempted", "Completed"]
    assert found["jobs"] == [found["second"]]
    assert found["status"]["attemptCounts"] == {"preempted": 1, "completed": 1}


def test_a_job_let_go_again_at_once_makes_no_second_attempt_of_the_same_number(done: Played) -> None:
    assert causes(done.of(let_go_again_at_once)) == ["Preempted", "Completed"]


def test_cancelled_suspended_and_deleted_while_kueue_holds_it(done: Played) -> None:
    assert (done.of(cancelled)["phase"], causes(done.of(cancelled))) == ("Cancelled", ["Cancelled"])
    assert causes(done.of(suspended)) == ["Suspended", "Completed"]
    done.of(deleted)


def test_its_clocks_stand_still_while_kueue_holds_it(done: Played) -> None:
    found = done.of(clocks)
    assert found["held"]["phase"] == "Queued"
    assert causes(found["status"]) == ["Completed"]


def test_nobody_but_kueue_lets_it_go_and_kueue_changes_no_container(done: Played) -> None:
    said = done.of(guarded)
    for what in ("unsuspend", "resize", "unlabel"):
        assert "only the LongTask operator changes the spec, labels and annotations" in said[what], what


def test_the_history_holds_no_broken_promise(stage: Stage, done: Played) -> None:
    done.wait()
    stage.tasks.until_gone("guarded")
    expected = {"preempted": Expected(phase="Succeeded", causes=("Preempted", "Completed"))}
    assert stage.audit(expected) == []
