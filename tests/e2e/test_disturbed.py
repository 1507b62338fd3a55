"""Somebody else deletes pods and Jobs, takes names, writes ledgers: the task goes on and nothing runs twice."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e.stage import Played, Stage, played, says, stoppable
from tests.support.auditor import Expected
from tests.support.live import Json, await_, condition
from tests.support.operator_process import NAMESPACE, OPERATOR_USER

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
QUICK: Json = {"initialSeconds": 1, "factor": 1, "jitterPercent": 0}
#: Works until stopped in its first attempt, and succeeds in its second.
SECOND_SUCCEEDS = f"test $LONGTASK_ATTEMPT -ge 2 || {{ {stoppable()}; }}; " + says({"second": True})


def pod_deleted(stage: Stage) -> Json:
    stage.tasks.create("pod-deleted", SECOND_SUCCEEDS, retry={"limits": {"application": 0}, "backoff": QUICK})
    stage.tasks.until_phase("pod-deleted", "Running")
    delete_pod(stage, "pod-deleted")
    return stage.tasks.until_finished("pod-deleted")


def pod_force_deleted(stage: Stage) -> Json:
    stage.tasks.create("pod-forced", SECOND_SUCCEEDS, retry={"limits": {"application": 0}, "backoff": QUICK})
    stage.tasks.until_phase("pod-forced", "Running")
    delete_pod(stage, "pod-forced", gracePeriodSeconds="0")
    return stage.tasks.until_finished("pod-forced")


def delete_pod(stage: Stage, task: str, **query: str) -> None:
    (pod,) = stage.tasks.pods(task)
    stage.client.request("DELETE", f"/api/v1/namespaces/{stage.namespace}/pods/{pod['metadata']['name']}", query=query)


def delete_job(stage: Stage, task: str, policy: str) -> None:
    (job,) = stage.tasks.jobs(task)
    path = f"/apis/batch/v1/namespaces/{stage.namespace}/jobs/{job['metadata']['name']}"
    stage.client.request("DELETE", path, query={"propagationPolicy": policy})


def job_deleted(stage: Stage) -> Json:
    stage.tasks.create("job-deleted", SECOND_SUCCEEDS, retry={"limits": {"application": 0}, "backoff": QUICK})
    stage.tasks.until_phase("job-deleted", "Running")
    delete_job(stage, "job-deleted", "Background")
    return stage.tasks.until_finished("job-deleted")


def orphaned(stage: Stage) -> Json:
    """A pod whose Job is gone still runs and holds the attempt; a cancel must reach it."""
    stage.tasks.create("orphaned", stoppable())
    stage.tasks.until_phase("orphaned", "Running")
    delete_job(stage, "orphaned", "Orphan")
    await_("no Job", lambda: not stage.tasks.jobs("orphaned"), 30)
    stage.tasks.change("orphaned", cancel=True)
    status = stage.tasks.until_finished("orphaned")
    await_("no pod either", lambda: not stage.tasks.pods("orphaned"), 30)
    return status


def name_taken(stage: Stage) -> tuple[Json, Json]:
    """A Job of the name that the attempt needs stands there and belongs to somebody else."""
    created = stage.tasks.create("name-taken", says({"mine": True}), suspend=True)
    name = f"name-taken-{created['metadata']['uid'][:6]}-1"
    container = {"name": "c", "image": stage.tasks.image, "command": ["true"]}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": template}}
    jobs = f"/apis/batch/v1/namespaces/{stage.namespace}/jobs"
    stage.client.request("POST", jobs, job)
    stage.tasks.change("name-taken", suspend=False)
    held = stage.tasks.until("name-taken", "refused", lambda s: s.get("reason") == "RefusedByCluster")
    stage.client.request("DELETE", f"{jobs}/{name}", query={"propagationPolicy": "Background"})
    return held, stage.tasks.until_finished("name-taken")


def no_room(stage: Stage) -> tuple[Json, Json]:
    """A ResourceQuota of the namespace refuses the Job until it is raised."""
    path = f"/api/v1/namespaces/{stage.namespace}/resourcequotas"
    quota = {"metadata": {"name": "jobs"}, "spec": {"hard": {"count/jobs.batch": "0"}}}
    stage.client.request("POST", path, {"apiVersion": "v1", "kind": "ResourceQuota", **quota})
    await_(
        "the quota at work", lambda: (stage.client.request("GET", f"{path}/jobs").get("status") or {}).get("hard"), 30
    )
    stage.tasks.create("no-room", says({"room": True}))
    held = stage.tasks.until("no-room", "refused", lambda s: s.get("reason") == "RefusedByCluster")
    stage.client.request("DELETE", f"{path}/jobs")
    return held, stage.tasks.until_finished("no-room")


def ledger_touched(stage: Stage) -> Json:
    """The ledger was written by another leader, so the next write conflicts."""
    stage.tasks.create("ledger-first", "exit 0")
    stage.tasks.until_finished("ledger-first")
    await_("the ledger touched", lambda: touch_ledger(stage), 30)
    stage.tasks.create("ledger-touched", "exit 0")
    return stage.tasks.until_finished("ledger-touched")


def touch_ledger(stage: Stage) -> bool:
    """Write the ledger as the operator's user; False where the operator was quicker."""
    ledger = stage.client.request("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps/{stage.ledger_name}")
    ledger["metadata"]["annotations"] = {"touched": "yes"}
    body = json.dumps(ledger)
    return bool(
        stage.cluster.kubectl("--as", OPERATOR_USER, "replace", "-f", "-", input=body, check=False).returncode == 0
    )


def recreated(stage: Stage) -> tuple[Json, Json]:
    """A task of the same name is another task: it takes over nothing from the one before."""
    first = stage.tasks.create("recreated", stoppable())
    stage.tasks.until_phase("recreated", "Running")
    stage.tasks.delete("recreated")
    await_("the first gone", lambda: stage.tasks.find("recreated") is None, 30)
    stage.tasks.create("recreated", says({"new": True}))
    return first, stage.tasks.until_finished("recreated")


def redrive_too_early(stage: Stage) -> Json:
    stage.tasks.create("too-early", stoppable())
    stage.tasks.until_phase("too-early", "Running")
    stage.tasks.change("too-early", redrive="now")
    stage.tasks.until("too-early", "recorded", lambda s: s.get("lastRedrive") == "now")
    stage.tasks.change("too-early", cancel=True)
    return stage.tasks.until_finished("too-early")


#: `no_room` stops every new Job of its namespace and plays alone.
SCENARIOS = (
    pod_deleted,
    pod_force_deleted,
    job_deleted,
    orphaned,
    name_taken,
    ledger_touched,
    recreated,
    redrive_too_early,
)


@pytest.fixture(scope="module")
def play(stage: Stage) -> Iterator[Played]:
    with played(stage, *SCENARIOS) as found:
        yield found


@pytest.fixture(scope="module")
def crowded(new_stage: object) -> Iterator[Played]:
    assert callable(new_stage)
    with played(new_stage("crowded"), no_room) as found:
        yield found


def causes(status: Json) -> list[str]:
    return [attempt["cause"] for attempt in status["attempts"]]


def test_a_deleted_pod_costs_no_application_retry(play: Played) -> None:
    status = play.of(pod_deleted)
    assert (status["phase"], causes(status)) == ("Succeeded", ["Disruption", "Completed"])


def test_a_pod_deleted_by_force_is_kept_by_our_finalizer_until_its_end_is_known(play: Played) -> None:
    status = play.of(pod_force_deleted)
    assert status["phase"] == "Succeeded"
    assert causes(status) == ["Disruption", "Completed"]  # its kubelet lives and says how it ended


def test_a_deleted_job_is_followed_by_another_attempt_once_its_pod_is_gone(play: Played) -> None:
    status = play.of(job_deleted)
    assert (status["phase"], causes(status)) == ("Succeeded", ["Disruption", "Completed"])


def test_a_pod_without_its_job_is_stopped_by_a_cancel(play: Played) -> None:
    status = play.of(orphaned)
    assert (status["phase"], causes(status)) == ("Cancelled", ["Cancelled"])


def test_a_job_of_somebody_else_is_never_adopted(play: Played) -> None:
    held, status = play.of(name_taken)
    assert "belongs to somebody else" in condition(held, "Admitted")["message"]
    assert (status["phase"], status["result"]["value"]) == ("Succeeded", {"mine": True})


def test_a_refusal_by_the_cluster_is_told_and_asked_again(crowded: Played) -> None:
    held, status = crowded.of(no_room)
    assert "exceeded quota" in condition(held, "Admitted")["message"]
    assert (status["phase"], status["result"]["value"]) == ("Succeeded", {"room": True})


def test_a_ledger_written_by_another_is_read_again(play: Played) -> None:
    assert play.of(ledger_touched)["phase"] == "Succeeded"


def test_a_task_of_the_same_name_starts_afresh(play: Played) -> None:
    first, status = play.of(recreated)
    assert (status["phase"], status["attempt"], causes(status)) == ("Succeeded", 1, ["Completed"])
    assert first["metadata"]["uid"][:6] not in status["jobName"]


def test_a_redrive_of_an_unfinished_task_is_recorded_and_ignored(play: Played, stage: Stage) -> None:
    status = play.of(redrive_too_early)
    assert (status["phase"], status["run"], status["attempt"]) == ("Cancelled", 1, 1)
    await_("an Event", lambda: "RedriveIgnored" in str(stage.tasks.events("too-early")), 20)


def test_the_auditor_agrees(play: Played, stage: Stage) -> None:
    play.wait()
    violations = stage.audit(
        {
            "pod-deleted": Expected(phase="Succeeded", result={"second": True}),
            "job-deleted": Expected(phase="Succeeded", result={"second": True}),
            "recreated": Expected(phase="Succeeded", causes=("Completed",), result={"new": True}),
            "name-taken": Expected(phase="Succeeded", causes=("Completed",)),
            "ledger-touched": Expected(phase="Succeeded", causes=("Completed",)),
        }
    )
    assert violations == []
