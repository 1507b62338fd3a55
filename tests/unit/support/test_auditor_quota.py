"""The auditor of quotas adds up what lives at once, whatever ledger and status say."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.auditor_history import Change
from tests.support.auditor_quota import QuotaAuditor

Json = dict[str, Any]


def change(kind: str, name: str, body: Json | None, namespace: str = "team") -> Change:
    return Change(revision=0, kind=kind, namespace=namespace, name=name, body=body)


def labels(uid: str) -> Json:
    return {"longtask.dev/task-uid": uid, "longtask.dev/attempt": "1", "longtask.dev/tenant": "team"}


def quota(nominal: int) -> Change:
    return change("TenantQuota", "team", {"spec": {"concurrency": {"nominal": nominal}}}, "")


def ledger(*uids: str) -> Change:
    text = "".join(f"{uid} 1 1 250 512\n" for uid in uids)
    return change("ConfigMap", "longtask-ledger-tenant-team", {"data": {"attempts": text}}, "longtask-system")


def job(uid: str) -> Change:
    return change("Job", f"job-{uid}", {"metadata": {"labels": labels(uid)}})


def pod(uid: str, phase: str) -> Change:
    body = {"metadata": {"labels": labels(uid)}, "spec": {"nodeName": "n"}, "status": {"phase": phase}}
    return change("Pod", f"pod-{uid}", body)


def sized(uid: str, cpu: str, memory: str, *, kind: str = "Job") -> Change:
    """Return a Job or a running pod whose container asks for so much, and whose sidecar for 50m and 32Mi more."""
    containers, sidecars = ([{"resources": {"limits": of}}] for of in (amounts(cpu, memory), amounts("50m", "32Mi")))
    spec = {"containers": containers, "initContainers": sidecars, "nodeName": "n"}
    body: Json = {"metadata": {"labels": labels(uid)}, "spec": spec, "status": {"phase": "Running"}}
    if kind == "Job":
        body |= {"spec": {"template": {"spec": spec}}, "status": {}}
    return change(kind, f"{kind.lower()}-{uid}", body)


def amounts(cpu: str, memory: str) -> Json:
    return {"cpu": cpu, "memory": memory}


def tenant(name: str = "team", **spec: Json | str) -> Change:
    return change("TenantQuota", name, {"spec": spec}, "")


def rules(*history: Change) -> list[str]:
    return [violation.rule for violation in QuotaAuditor().replay(history).violations]


def test_as_many_as_the_quota_says_are_fine() -> None:
    assert rules(quota(2), job("a"), job("b")) == []


def test_one_more_is_not() -> None:
    assert rules(quota(1), job("a"), job("b")) == ["QuotaExceeded"]


def test_a_pod_that_lives_counts_though_its_job_is_gone() -> None:
    history = [quota(1), job("a"), pod("a", "Running"), change("Job", "job-a", None), job("b")]
    assert rules(*history) == ["QuotaExceeded"]


def test_a_pod_that_is_over_makes_room() -> None:
    assert rules(quota(1), job("a"), pod("a", "Running"), pod("a", "Succeeded"), job("b")) == []


def test_what_kueue_admits_counts_for_no_quota() -> None:
    handed_over = change("Job", "job-k", {"metadata": {"labels": {**labels("k"), "kueue.x-k8s.io/queue-name": "q"}}})
    assert rules(quota(1), handed_over, pod("k", "Running"), job("a"), pod("a", "Running")) == []


def test_a_lowered_quota_does_not_reach_what_was_admitted_before() -> None:
    assert rules(quota(2), job("a"), pod("a", "Running"), ledger("a"), quota(1), job("b")) == ["QuotaExceeded"]
    assert rules(quota(2), job("a"), pod("a", "Running"), ledger("a", "b"), quota(1), job("b")) == []


def test_cpu_and_memory_are_added_up_the_sidecars_included() -> None:
    two = [sized("a", "250m", "512Mi"), sized("b", "1", "2Gi")]
    assert rules(tenant(cpu={"nominal": "1350m"}, memory={"nominal": "2624Mi"}), *two) == []
    assert rules(tenant(cpu={"nominal": "1349m"}), *two) == ["QuotaExceeded"]
    assert rules(tenant(memory={"nominal": "2623Mi"}), *two) == ["QuotaExceeded"]


def test_a_pod_that_has_grown_counts_as_it_is() -> None:
    grown = [sized("a", "250m", "512Mi"), sized("a", "250m", "1Gi", kind="Pod"), sized("b", "250m", "512Mi")]
    assert rules(tenant(memory={"nominal": "1600Mi"}), *grown) == []
    assert rules(tenant(memory={"nominal": "1599Mi"}), *grown) == ["QuotaExceeded"]


@pytest.mark.parametrize(
    ("lent", "borrowing", "found"), [("2", "2", []), ("2", "1", ["QuotaExceeded"]), ("1", "2", ["QuotaExceeded"])]
)
def test_a_member_of_a_cohort_borrows_as_far_as_it_may_and_others_have(
    lent: str, borrowing: str, found: list[str]
) -> None:
    cohort = [
        tenant("lender", cohort="c", cpu={"nominal": lent}),
        tenant(cohort="c", cpu={"nominal": "0", "borrowingLimit": borrowing}),
    ]
    assert rules(*cohort, sized("a", "1", "1Gi")) == found


def task(uid: str, person: str) -> Change:
    annotations = {"longtask.dev/created-by": person}
    return change("LongTask", uid, {"metadata": {"uid": uid, "annotations": annotations}})


def test_each_person_may_have_so_many_also_where_the_task_is_gone() -> None:
    limit, gone = tenant(perUser={"maxConcurrency": 1}), change("LongTask", "a", None)
    both = (job("a"), pod("a", "Running"), change("Job", "job-a", None), gone)
    assert rules(limit, task("a", "eve"), task("b", "eve"), *both, job("b")) == ["QuotaExceeded"]
    assert rules(limit, task("a", "eve"), task("b", "bob"), *both, job("b")) == []
    assert rules(limit, task("a", "system:node"), task("b", "system:node"), *both, job("b")) == []
    assert rules(limit, task("a", "eve"), task("b", "eve"), *both, pod("a", "Succeeded"), job("b")) == []
    raised = tenant(perUser={"maxConcurrency": 2})
    assert rules(raised, task("a", "eve"), task("b", "eve"), *both, ledger("b"), limit, job("b")) == []
