"""The auditor finds every kind of violation that is planted into a clean history, and none in the clean one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.auditor import Auditor, Expected
from tests.support.auditor_history import Change

UID, NS, NAME = "aaaaaa-1", "team", "task"
LEDGER = "longtask-ledger-tenant-team"
Json = dict[str, Any]
History = list[Change]


def change(kind: str, name: str, body: Json | None, namespace: str = NS) -> Change:
    return Change(revision=0, kind=kind, namespace=namespace, name=name, body=copy.deepcopy(body))


def task(**status: Any) -> Change:
    body = {"metadata": {"name": NAME, "namespace": NS, "uid": UID}, "status": status}
    return change("LongTask", NAME, body)


def ledger(*lines: tuple[str, int], name: str = LEDGER, memory: int = 512) -> Change:
    text = "".join(f"{uid} {attempt} 1 250 {memory}\n" for uid, attempt in lines)
    return change("ConfigMap", name, {"metadata": {"name": name}, "data": {"attempts": text}}, "longtask-system")


def job(attempt: int, uid: str = UID) -> Change:
    meta = {"name": f"task-{attempt}", "namespace": NS, "uid": f"job-{attempt}", "labels": labels(attempt, uid)}
    return change("Job", f"task-{attempt}", {"metadata": meta})


def labels(attempt: int, uid: str = UID) -> dict[str, str]:
    return {"longtask.dev/task-uid": uid, "longtask.dev/attempt": str(attempt)}


def pod(
    attempt: int,
    phase: str,
    *,
    exit_code: int | None = None,
    suffix: str = "x",
    held: bool = True,
    memory: str = "512Mi",
) -> Change:
    name = f"task-{attempt}-{suffix}"
    state: Json = {"running": {}} if exit_code is None else {"terminated": {"exitCode": exit_code}}
    meta: Json = {"name": name, "namespace": NS, "uid": name, "labels": labels(attempt)}
    meta["finalizers"] = ["longtask.dev/accounting"] if held else []
    status = {"phase": phase, "containerStatuses": [{"name": "task", "state": state}]}
    container = {"name": "task", "resources": {"limits": {"cpu": "250m", "memory": memory}}}
    spec = {"nodeName": "node-1", "containers": [container]}
    return change("Pod", name, {"metadata": meta, "spec": spec, "status": status})


def ended(number: int, cause: str, exit_code: int | None) -> Json:
    return {"number": number, "run": 1, "cause": cause, "exitCode": exit_code, "completionTime": f"T{number}"}


FAILED_ONCE = ended(1, "Application", 3)
COMPLETED = ended(2, "Completed", 0)
FINISHED = [{"type": "Finished", "status": "True"}]


def succeeded(**changes: Any) -> Change:
    status = {
        "phase": "Succeeded",
        "run": 1,
        "attempt": 2,
        "attempts": [FAILED_ONCE, COMPLETED],
        "attemptTotals": {"application": 1, "completed": 1},
        "completionTime": "T",
        "result": {"value": {"n": 1}},
        "conditions": FINISHED,
    }
    return task(**{**status, **changes})


def running(attempt: int, *ends: Json, **more: Any) -> Change:
    return task(phase="Running", run=1, attempt=attempt, attempts=[*ends, {"number": attempt, "run": 1}], **more)


def backoff() -> Change:
    return task(phase="Backoff", run=1, attempt=1, attempts=[FAILED_ONCE], attemptTotals={"application": 1})


# A task that fails once and then succeeds; the positions are named for the plants below.
STEPS = (
    "created",
    "admitted 1",
    "job 1",
    "pod 1 runs",
    "running 1",
    "pod 1 over",
    "backoff",
    "pod 1 let go",
    "released 1",
    "admitted 2",
    "job 2",
    "pod 2 runs",
    "running 2",
    "pod 2 over",
    "succeeded",
    "pod 2 let go",
    "released 2",
)


def clean() -> dict[str, Change]:
    changes = (
        task(),
        ledger((UID, 1)),
        job(1),
        pod(1, "Running"),
        running(1, progress={"done": 5}),
        pod(1, "Failed", exit_code=3),
        backoff(),
        pod(1, "Failed", exit_code=3, held=False),
        ledger(),
        ledger((UID, 2)),
        job(2),
        pod(2, "Running"),
        running(2, FAILED_ONCE, progress={"done": 1}),
        pod(2, "Succeeded", exit_code=0),
        succeeded(),
        pod(2, "Succeeded", exit_code=0, held=False),
        ledger(),
    )
    return dict(zip(STEPS, changes, strict=True))


def audit(history: History, **expected: Expected) -> set[str]:
    wanted = {f"{NS}/{name}": value for name, value in expected.items()}
    found = Auditor().replay(history).finish(wanted)
    return {violation.rule for violation in found}


def after(step: str, *more: Change) -> Callable[[], History]:
    """Return the clean history with *more* put in after *step*."""
    at = STEPS.index(step) + 1
    return lambda: [*list(clean().values())[:at], *more, *list(clean().values())[at:]]


def instead(step: str, *others: Change) -> Callable[[], History]:
    """Return the clean history with *others* in the place of *step*."""
    return lambda: [other for name, found in clean().items() for other in (others if name == step else (found,))]


def test_a_clean_history_has_no_violation() -> None:
    expected = Expected(phase="Succeeded", causes=("Application", "Completed"), result={"n": 1})
    assert audit(list(clean().values()), task=expected) == set()


def test_a_redriven_run_may_change_what_was_terminal() -> None:
    again = task(phase="Queued", run=2, attempt=2, attempts=[FAILED_ONCE, COMPLETED], attemptTotals={"x": 2})
    assert audit([*clean().values(), again]) == {"Unfinished"}


def test_an_attempt_may_move_to_the_ledger_of_a_cohort() -> None:
    cohort = "longtask-ledger-cohort-research"
    moves = after("running 2", ledger((UID, 2), name=cohort), ledger())()
    assert audit([*moves, ledger(name=cohort)]) == set()
    out_before_in = after("running 2", ledger(), ledger((UID, 2), name=cohort))()
    assert audit([*out_before_in, ledger(name=cohort)]) == {"EarlyRelease"}


def test_the_last_attempt_may_stand_a_moment_longer_in_the_ledger_that_was_left() -> None:
    cohort = "longtask-ledger-cohort-research"
    moves = instead("admitted 2", ledger((UID, 1)), ledger((UID, 2), name=cohort))()
    assert audit([*moves, ledger(name=cohort)]) == set()


FOR_ANOTHER = "gives way to a task of this tenant with a higher priority"


def stopped(message: str = FOR_ANOTHER) -> Change:
    attempts = [FAILED_ONCE, {"number": 2, "run": 1, "cause": "Preempted", "message": message}]
    return task(phase="Running", run=1, attempt=2, attempts=attempts)


def claims(*victims: str) -> Change:
    found = ledger((UID, 2))
    assert found.body
    found.body["data"]["preemption.claims"] = " ".join(["bbbbbb-2", "team", "250", "512", *victims]) + "\n"
    return found


@pytest.mark.parametrize(
    "stop", [(claims(f"{UID}/2"), ledger((UID, 2)), stopped()), (stopped("TenantQuota team says stopPolicy Hold"),)]
)
def test_an_attempt_may_be_stopped_once_it_was_claimed_or_for_another_reason(stop: tuple[Change, ...]) -> None:
    assert audit(after("running 2", *stop)()) == set()


PLANTS: dict[str, tuple[Callable[[], History], str]] = {
    "two pods of two attempts live": (after("running 2", pod(1, "Running", suffix="late")), "OneLivePod"),
    "two pods of one attempt": (after("running 1", pod(1, "Failed", exit_code=3, suffix="twin")), "PodPerAttempt"),
    "attempt number used again": (
        after("backoff", change("Job", "task-1", None), ledger((UID, 1)), job(1), ledger()),
        "AttemptReused",
    ),
    "attempt number left out": (instead("job 2", ledger((UID, 3)), job(3)), "AttemptGap"),
    "job before its ledger entry": (instead("admitted 2"), "LedgerFirst"),
    "ledger entry of another attempt": (instead("admitted 2", ledger((UID, 1))), "LedgerFirst"),
    "released while the pod runs": (after("running 2", ledger()), "EarlyRelease"),
    "a pod asks for more than the ledger": (after("running 2", pod(2, "Running", memory="1Gi")), "SizeUnreserved"),
    "the ledger holds less than a pod asks for": (
        after("running 2", ledger((UID, 2), memory=256), ledger((UID, 2))),
        "SizeUnreserved",
    ),
    "stopped before it was claimed": (after("running 2", stopped(), claims(f"{UID}/2")), "StoppedUnclaimed"),
    "stopped when its earlier attempt was claimed": (
        after("running 2", claims(f"{UID}/1"), stopped()),
        "StoppedUnclaimed",
    ),
    "recorded as ended while the pod runs": (instead("pod 1 over"), "EndedAlive"),
    "phase changes after the end": (after("succeeded", succeeded(phase="Failed")), "TerminalChanged"),
    "completion time changes after the end": (after("succeeded", succeeded(completionTime="U")), "TerminalChanged"),
    "result changes after the end": (after("succeeded", succeeded(result=None)), "TerminalChanged"),
    "status is wiped": (after("succeeded", task()), "TerminalChanged"),
    "an end is rewritten": (
        instead("succeeded", succeeded(attempts=[ended(1, "Lost", 3), COMPLETED])),
        "EndRewritten",
    ),
    "status.attempt falls": (after("running 2", running(1)), "AttemptFell"),
    "status names an attempt without a Job": (after("running 2", running(7)), "AttemptWithoutJob"),
    "progress falls within an attempt": (after("running 1", running(1, progress={"done": 4})), "ProgressFell"),
    "wrong exit code": (
        instead("backoff", task(phase="Backoff", run=1, attempt=1, attempts=[ended(1, "Application", 4)])),
        "ExitCode",
    ),
    "completed with a wrong exit code": (
        instead("backoff", task(phase="Backoff", run=1, attempt=1, attempts=[ended(1, "Completed", 3)])),
        "ExitCode",
    ),
    "lost although the container told": (
        instead("backoff", task(phase="Backoff", run=1, attempt=1, attempts=[ended(1, "Lost", 3)])),
        "OutcomeLost",
    ),
    "never finished": (instead("succeeded"), "Unfinished"),
    "a job without a recorded end": (instead("succeeded", succeeded(attempts=[FAILED_ONCE])), "Unaccounted"),
    "counts that do not add up": (instead("succeeded", succeeded(attemptTotals={"completed": 1})), "Counts"),
    "finalizer left": (instead("pod 2 let go"), "LeftFinalizer"),
    "ledger entry left": (instead("released 2"), "LeftLedgerEntry"),
}


def test_a_pod_may_grow_once_the_ledger_has() -> None:
    raised, lowered = ledger((UID, 2), memory=1024), ledger((UID, 2))
    grows = after("running 2", raised, pod(2, "Running", memory="1Gi"), pod(2, "Running"), lowered)
    assert audit(grows()) == set()


@pytest.mark.parametrize("held", [True, False])
def test_that_a_job_replaces_a_pod_that_was_erased_is_not_the_operators_doing(held: bool) -> None:
    """With our finalizer on it no API takes a pod away; without, its attempt had let go of it."""
    twin = {"exit_code": 3, "suffix": "twin"}
    told = {
        "running 1": [running(1), pod(1, "Running", held=held)],
        "pod 1 over": [change("Pod", "task-1-x", None), pod(1, "Failed", **twin)],
        "pod 1 let go": [pod(1, "Failed", held=False, **twin)],
    }
    found = audit([one for step, known in clean().items() for one in told.get(step, [known])])
    assert found == (set() if held else {"PodPerAttempt"})


def refused(**queue: str) -> Change:
    return task(phase="Queued", run=1, attempt=1, queue={"reason": "RefusedByCluster", **queue})


def given_up(*, said: bool = True, with_pod: bool = False) -> History:
    """Attempt 1 gets a Job and is never recorded as ended; attempt 2 completes."""
    ends = {"attempts": [COMPLETED], "attemptTotals": {"completed": 1}}
    told = {"running 1": [], "pod 1 over": [], "backoff": [refused()] if said else [], "succeeded": [succeeded(**ends)]}
    if not with_pod:
        told |= {"pod 1 runs": [], "pod 1 let go": []}
    told["running 2"] = [running(2)]
    return [one for step, known in clean().items() for one in told.get(step, [known])]


def test_an_attempt_whose_pod_the_cluster_refused_needs_no_end() -> None:
    assert audit(given_up()) == set()


@pytest.mark.parametrize("there", [{"said": False}, {"with_pod": True}])
def test_but_one_that_had_a_pod_or_was_not_said_to_be_refused_does(there: dict[str, bool]) -> None:
    assert "Unaccounted" in audit(given_up(**there))


def begun_by_nobody(**told: list[Change]) -> History:
    """Attempt 1 is admitted, and its number counted before it has a Job; attempt 2 completes."""
    ends = {"attempts": [COMPLETED], "attemptTotals": {"completed": 1}}
    steps = {name: [] for name in ("pod 1 runs", "running 1", "pod 1 over", "backoff", "pod 1 let go")}
    steps |= {"job 1": [task(phase="Queued", run=1, attempt=1)], "running 2": [running(2)]}
    steps |= {"succeeded": [succeeded(**ends)]} | {name.replace("_", " "): changes for name, changes in told.items()}
    return [one for step, known in clean().items() for one in steps.get(step, [known])]


def test_an_attempt_that_was_admitted_may_be_given_up_before_its_job() -> None:
    assert audit(begun_by_nobody()) == set()


def test_but_not_one_that_never_was_and_its_number_is_never_used_again() -> None:
    assert audit(begun_by_nobody(admitted_1=[])) == {"AttemptWithoutJob", "AttemptGap", "Unaccounted"}
    assert audit(begun_by_nobody(backoff=[job(1)])) == {"AttemptReused"}


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_violation_is_found(plant: str) -> None:
    history, rule = PLANTS[plant]
    assert rule in audit(history())


def deleted(grace: int) -> Change:
    """Return the first pod, still running on its node and deleted with *grace*."""
    found = pod(1, "Running")
    assert found.body
    found.body["metadata"] |= {"deletionTimestamp": "T", "deletionGracePeriodSeconds": grace}
    return found


@pytest.mark.parametrize(
    ("grace", "cause", "found"),
    [(0, "Lost", set()), (30, "Lost", {"EndedAlive"}), (0, "Disruption", {"EndedAlive"})],
)
def test_only_a_pod_deleted_by_force_may_be_lost_while_it_shows(grace: int, cause: str, found: set[str]) -> None:
    ends = [ended(1, cause, None), COMPLETED]
    told = {"run": 1, "attempt": 1, "attempts": ends[:1], "attemptTotals": {cause.lower(): 1}}
    steps = clean() | {
        "pod 1 over": deleted(grace),
        "backoff": task(phase="Backoff", **told),
        "pod 1 let go": change("Pod", "task-1-x", None),
        "running 2": running(2, ends[0]),
        "succeeded": succeeded(attempts=ends, attemptTotals={cause.lower(): 1, "completed": 1}),
    }
    assert audit(list(steps.values())) == found


@pytest.mark.parametrize(
    "wanted",
    [
        Expected(phase="Failed"),
        Expected(phase="Succeeded", causes=("Completed",)),
        Expected(phase="Succeeded", result={"n": 2}),
    ],
)
def test_an_end_other_than_the_script_predicts_is_found(wanted: Expected) -> None:
    assert audit(list(clean().values()), task=wanted) == {"Expected"}


def test_a_task_that_vanished_is_found() -> None:
    gone = change("LongTask", NAME, None)
    assert audit([*clean().values(), gone], task=Expected(phase="Succeeded")) == {"LostTask"}


def test_what_a_deleted_task_leaves_is_found() -> None:
    leaves = [*list(clean().values())[:-3], change("LongTask", NAME, None)]
    assert audit(leaves) == {"LeftFinalizer", "LeftLedgerEntry"}


def test_objects_without_our_labels_are_left_alone() -> None:
    stranger = {"metadata": {"name": "web", "namespace": NS, "uid": "w"}, "status": {"phase": "Running"}}
    other = change("ConfigMap", "settings", {"metadata": {"name": "settings"}, "data": {"attempts": "not a ledger"}})
    history = [change("Pod", "web", stranger), change("Job", "web", stranger), other, change("Pod", "web", None)]
    assert audit([*clean().values(), *history]) == set()
