"""The rules for one tenant on the real API server, with the real Job controller; the test plays the kubelet.

All stories are played at the same time, each with tenants of its own. Those that need containers are in tests/e2e.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.live import MERGE, Json, await_, condition
from tests.support.operating import Stage
from tests.support.pod_process import PlayedNode
from tests.support.tenants import Story, Tenant, Told, numbered, those, told

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


def without_a_quota_five_run_at_once(ground: Stage) -> None:
    tenant = Tenant.open(ground, "unquoted")
    tenant.submit(*numbered("t", 7))
    found = tenant.until(Admitted=5, QuotaExhausted=2)
    for name in those(found, "QuotaExhausted"):
        assert found[name]["queue"]["message"] == "tenant unquoted uses 5 of 5 concurrent tasks"


def cpu_and_memory_have_limits_of_their_own(ground: Stage) -> None:
    cpu = Tenant.open(ground, "cpus", cpu={"nominal": "1"})
    memory = Tenant.open(ground, "memories", memory={"nominal": "2Gi"})
    cpu.submit("a", "b", "c", cpu="500m", memory="1Gi")
    memory.submit("a", "b", "c", cpu="250m", memory="1Gi")
    said = {"cpus": "1 of 1 CPU; this task needs 500m", "memories": "2Gi of 2Gi memory; this task needs 1Gi"}
    for tenant in (cpu, memory):
        found = tenant.until(Admitted=2, QuotaExhausted=1)
        (waits,) = those(found, "QuotaExhausted")
        assert found[waits]["queue"]["message"] == f"tenant {tenant.name} uses {said[tenant.name]}"
    cpu.change_quota(cpu={"nominal": "1500m"})
    cpu.until(Admitted=3)
    memory.change_quota(memory=None)
    memory.until(Admitted=3)


def lowering_a_quota_ends_nothing(ground: Stage) -> None:
    tenant = Tenant.open(ground, "lowered", concurrency={"nominal": 3})
    tenant.submit("a", "b", "c")
    tenant.until(Admitted=3)
    tenant.change_quota(concurrency={"nominal": 1})
    tenant.submit("d")
    assert tenant.until_waits("d", "QuotaExhausted")["message"] == "tenant lowered uses 3 of 1 concurrent tasks"
    tenant.end("a", "b")
    tenant.until(Succeeded=2, Admitted=1, QuotaExhausted=1)
    tenant.end("c")
    found = tenant.until(Succeeded=3, Admitted=1)
    assert all(status["attempt"] == 1 for status in found.values())


def a_stop_holds_back_what_waits_and_lets_run_what_runs(ground: Stage) -> None:
    tenant = Tenant.open(ground, "held", concurrency={"nominal": 5})
    tenant.submit("runs")
    tenant.until(Admitted=1)
    tenant.change_quota(stopPolicy="Hold")
    tenant.submit("waits")
    assert "TenantQuota held says stopPolicy Hold" in tenant.until_waits("waits", "TenantStopped")["message"]
    tenant.end("runs")
    tenant.until(Succeeded=1, TenantStopped=1)
    tenant.change_quota(stopPolicy="None")
    tenant.until(Succeeded=1, Admitted=1)


def a_drain_ends_what_runs_and_keeps_its_place(ground: Stage) -> None:
    tenant = Tenant.open(ground, "drained", concurrency={"nominal": 1})
    tenant.submit("runs", retry={"backoff": {"initialSeconds": 1, "maxSeconds": 1}})
    tenant.until(Admitted=1)
    tenant.submit("waits")
    tenant.until(Admitted=1, QuotaExhausted=1)
    tenant.change_quota(stopPolicy="HoldAndDrain")
    found = tenant.until(TenantStopped=2)
    assert [attempt["cause"] for attempt in found["runs"]["attempts"]] == ["Preempted"]
    tenant.until_in_queue("runs")
    tenant.change_quota(stopPolicy=None)
    found = tenant.until(Admitted=1, QuotaExhausted=1)
    assert those(found, "Admitted") == ["runs"]


def beyond_max_queued_it_waits_outside_and_moves_up(ground: Stage) -> None:
    tenant = Tenant.open(ground, "queues", concurrency={"nominal": 1}, maxQueued=2)
    tenant.submit("a")
    tenant.until(Admitted=1)
    tenant.submit("b", "c")
    tenant.until(Admitted=1, QuotaExhausted=2)
    tenant.submit("d", "e")
    found = tenant.until(Admitted=1, QuotaExhausted=2, QueueFull=2)
    assert those(found, "QueueFull") == ["d", "e"]
    assert found["e"]["queue"]["message"].startswith("TenantQuota queues lets 2 tasks wait, and as many or more come")
    tenant.change_quota(maxQueued=None)
    tenant.until(Admitted=1, QuotaExhausted=4)


def too_large_is_said_at_once_and_ends_by_itself(ground: Stage) -> None:
    tenant = Tenant.open(ground, "sizes", cpu={"nominal": "1"}, maxSize={"memory": "2Gi"})
    tenant.submit("wide", cpu="2", memory="4Gi")
    tenant.submit("fat", cpu="500m", memory="3Gi")
    found = tenant.until(ExceedsMaxSize=2)
    for status in found.values():
        assert [condition(status, kind)["status"] for kind in ("Stalled", "Ready", "Finished")] == [
            "True",
            "False",
            "False",
        ]
    tenant.change_quota(maxSize=None)
    found = tenant.until(NeverFits=1, Admitted=1)
    assert found["wide"]["queue"]["message"] == "the attempt needs 2 CPU and TenantQuota sizes has 1 in all"
    tenant.change_quota(cpu={"nominal": "4"})
    tenant.until(Admitted=2)


def a_person_who_may_run_nothing_is_told_so_until_that_changes(ground: Stage) -> None:
    tenant = Tenant.open(ground, "persons", perUser={"maxConcurrency": 0}, stopPolicy="Hold")
    tenant.submit("hers", "of-nobody")
    hers = {"metadata": {"annotations": {"longtask.dev/created-by": "eve"}}}
    tenant.stage.client.request("PATCH", f"{tenant.stage.tasks.path}/hers", hers, form=MERGE)
    found = tenant.until(NeverFits=1, TenantStopped=1)["hers"]
    assert condition(found, "Stalled")["status"] == "True"
    assert found["queue"]["message"] == (
        "the task counts for eve and TenantQuota persons allows no attempts of any person: perUser.maxConcurrency is 0"
    )
    tenant.change_quota(stopPolicy=None)
    tenant.until(NeverFits=1, Admitted=1)
    tenant.change_quota(perUser={"maxConcurrency": 1})
    tenant.until(Admitted=2)


def what_the_quota_says_comes_before_what_a_task_waits_for_itself(ground: Stage) -> None:
    """Of those too that do not stand in the queue: one that failed, and one whose key another has."""
    tenant = Tenant.open(ground, "precedence", concurrency={"nominal": 5})
    tenant.submit("fails", cpu="500m", memory="2Gi", retry={"backoff": {"initialSeconds": 600}})
    tenant.submit("first", idempotencyKey="order-1")
    tenant.until(Admitted=2)
    tenant.submit("second", idempotencyKey="order-1")
    tenant.end("fails", exit_code=1)
    before = tenant.until(Admitted=1, Duplicate=1, Backoff=1)["fails"]
    tenant.change_quota(stopPolicy="Hold")
    tenant.until(Admitted=1, TenantStopped=2)
    tenant.change_quota(stopPolicy=None, maxSize={"memory": "1Gi"})
    found = tenant.until(Admitted=1, Duplicate=1, ExceedsMaxSize=1)
    assert condition(found["fails"], "Stalled")["status"] == "True"
    tenant.change_quota(maxSize=None)
    after = tenant.until(Admitted=1, Duplicate=1, Backoff=1)["fails"]
    assert [(one["phase"], one["nextAttemptTime"], one["queue"]) for one in (before, after)] == [
        ("Backoff", before["nextAttemptTime"], before["queue"])
    ] * 2


def what_was_said_of_an_old_quota_is_corrected_within_a_minute(ground: Stage) -> None:
    tenant = Tenant.open(ground, "corrected", cpu={"nominal": "1"})
    tenant.submit("wide", cpu="2", memory="4Gi")
    said = "the attempt needs 2 CPU and TenantQuota corrected has {} in all"
    assert tenant.until_waits("wide", "NeverFits")["message"] == said.format(1)
    tenant.change_quota(cpu={"nominal": "1500m"})
    is_corrected = lambda status: status["queue"]["message"] == said.format("1500m")  # noqa: E731
    tenant.stage.tasks.until("wide", "the present quota named", is_corrected, 90)


def order_is_by_priority_then_age_and_waiting_counts(ground: Stage) -> None:
    """An hour counts like one step of priority: 3 hours beat a priority of 2."""
    tenant = Tenant.open(ground, "order", concurrency={"nominal": 1}, stopPolicy="Hold")
    for name, priority in (("young", 0), ("old", 0), ("middle", 1), ("high", 2)):
        tenant.submit(name, priority=priority)
    tenant.age("old", hours=3)
    tenant.until(TenantStopped=4)
    tenant.change_quota(stopPolicy="None")
    assert turns(tenant, 4) == ["old", "high", "middle", "young"]


def beyond_max_priority_all_are_alike(ground: Stage) -> None:
    tenant = Tenant.open(ground, "capped", concurrency={"nominal": 1}, maxPriority=5, stopPolicy="Hold")
    tenant.submit("urgent", priority=1000)
    tenant.submit("earlier", priority=5)
    tenant.submit("low", priority=4)
    tenant.age("earlier", minutes=5)
    tenant.until(TenantStopped=3)
    tenant.change_quota(stopPolicy="None")
    assert turns(tenant, 3) == ["earlier", "urgent", "low"]


def turns(tenant: Tenant, count: int) -> list[str]:
    """Return who is admitted in which order, one at a time."""
    order: list[str] = []
    for ended in range(count):
        counts = {"Admitted": 1, "QuotaExhausted": count - ended - 1, "Succeeded": ended}
        (name,) = those(tenant.until(**{word: number for word, number in counts.items() if number}), "Admitted")
        order.append(name)
        tenant.end(name)
    return order


def a_retry_keeps_its_place_and_holds_nothing_meanwhile(ground: Stage) -> None:
    tenant = Tenant.open(ground, "retries", concurrency={"nominal": 1})
    # So long that the other one is admitted meanwhile, also where all stories of this file begin at the same time.
    tenant.submit("early", retry={"backoff": {"initialSeconds": 30, "jitterPercent": 0}})
    tenant.until(Admitted=1)
    tenant.submit("late", "later")
    tenant.until(Admitted=1, QuotaExhausted=2)
    tenant.end("early", exit_code=1)
    found = tenant.until(Backoff=1, Admitted=1, QuotaExhausted=1)
    assert those(found, "Admitted") == ["late"]
    tenant.until(Admitted=1, QuotaExhausted=2)
    tenant.end("late")
    found = tenant.until(Succeeded=1, Admitted=1, QuotaExhausted=1)
    assert those(found, "Admitted") == ["early"]


def the_example_of_a_large_task(ground: Stage) -> None:
    """The worked example of docs/how-to/quotas.md: `concurrency` 5, `cpu` 8, and a task of 4 CPU that waits."""
    tenant = Tenant.open(ground, "example", concurrency={"nominal": 5}, cpu={"nominal": "8"})
    tenant.submit("r1", "r2", "r3", cpu="2", memory="4Gi")
    tenant.until(Admitted=3)
    tenant.submit("large", cpu="4", memory="8Gi")
    message = tenant.until_waits("large", "QuotaExhausted")["message"]
    assert message == "tenant example uses 6 of 8 CPU; this task needs 4"
    tenant.submit("s1", "s2", cpu="1", memory="2Gi")
    found = tenant.until(Admitted=5, QuotaExhausted=1)
    assert those(found, "QuotaExhausted") == ["large"]
    tenant.submit("s3")
    assert tenant.until_waits("s3", "QuotaExhausted")["message"] == "tenant example uses 5 of 5 concurrent tasks"
    tenant.stage.tasks.change("s3", cancel=True)
    tenant.end("r1")
    tenant.until(Admitted=4, Succeeded=1, Cancelled=1, QuotaExhausted=1)
    tenant.end("r2")
    found = tenant.until(Admitted=4, Succeeded=2, Cancelled=1)
    assert "large" in those(found, "Admitted")


def after_ten_minutes_nobody_passes_the_large_one(ground: Stage) -> None:
    tenant = Tenant.open(ground, "patient", cpu={"nominal": "4"})
    tenant.submit("runs", cpu="500m", memory="1Gi")
    tenant.until(Admitted=1)
    tenant.submit("large", cpu="4", memory="8Gi")
    tenant.until(Admitted=1, QuotaExhausted=1)
    tenant.submit("passes", cpu="500m", memory="1Gi")
    tenant.until(Admitted=2, QuotaExhausted=1)
    tenant.age("large", minutes=11)
    tenant.submit("does-not", cpu="500m", memory="1Gi")
    message = tenant.until_waits("does-not", "Reserved")["message"]
    assert message == "what becomes free is kept for patient/large, which has waited long and needs 4/8Gi"
    tenant.end("runs", "passes")
    tenant.until_admitted("large")
    tenant.end("large")
    tenant.until_admitted("does-not")


MONTH = {"name": "month", "windowSeconds": 2592000, "memoryGibHours": 10}


def spent(tenant: str) -> dict[str, str]:
    """Return the ledger of a tenant that has held 10.5 GiB-hours in the present step of MONTH."""
    now, length = int(time.time() * 1000), 2592000 * 1000 // 24
    used = int(10.5 * 1024 * 3_600_000)
    return {"budgets.spent": f"tenant {tenant}\n{now}\nmonth {now // length * length}:0:{used}"}


def a_spent_budget_of_memory_holds_back_until_it_is_raised(ground: Stage) -> None:
    tenant = Tenant.open(ground, "spent", budgets=[MONTH])
    tenant.submit("waits")
    message = tenant.until_waits("waits", "BudgetExhausted")["message"]
    assert message.startswith(
        "budget month of TenantQuota spent is spent: 10.5 of 10 GiB-hours in 30 days; it recovers"
    )
    tenant.change_quota(budgets=[{**MONTH, "memoryGibHours": 20}])
    tenant.until(Admitted=1)


def a_budget_that_only_warns_holds_nothing_back(ground: Stage) -> None:
    tenant = Tenant.open(ground, "warned", budgets=[{**MONTH, "whenSpent": "WarnOnly"}])
    tenant.submit("starts")
    tenant.until(Admitted=1)
    is_spent = lambda: [one["state"] for one in tenant.quota().get("budgets") or []] == ["Spent"]  # noqa: E731
    await_(lambda: f"a spent budget, not {tenant.quota()}", is_spent, 90)


def a_ledger_that_cannot_be_read_holds_back_its_tenant_alone(ground: Stage) -> None:
    tenant, other = Tenant.open(ground, "broken"), Tenant.open(ground, "whole")
    for one in (tenant, other):
        one.submit("a")
    message = tenant.until_waits("a", "BehindOthers")["message"]
    assert message.startswith(
        "the ledger longtask-ledger-tenant-broken cannot be read: line 1 of the ledger has 3 fields"
    )
    other.until(Admitted=1)


def a_quota_that_cannot_be_read_says_so_and_holds_its_tenant(ground: Stage) -> None:
    tenant = Tenant.open(ground, "garbled", cpu={"nominal": "lots"})
    tenant.submit("a")
    why = "TenantQuota garbled cannot be read: spec.cpu.nominal: 'lots' is not a quantity"
    assert tenant.until_waits("a", "TenantStopped")["message"].startswith(why)
    is_ready = lambda: condition(tenant.quota(), "Ready").get("status")  # noqa: E731
    await_(lambda: f"a quota that is not ready, not {tenant.quota()}", lambda: is_ready() == "False", 90)
    assert condition(tenant.quota(), "Ready")["message"].startswith(why)
    tenant.change_quota(cpu={"nominal": "4"})
    tenant.until(Admitted=1)
    await_(lambda: f"a quota that is ready, not {tenant.quota()}", lambda: is_ready() == "True", 90)


def what_does_not_parse_waits_as_invalid_until_it_is_corrected(ground: Stage) -> None:
    """No policy guards this API server, as none guards an object older than its rule."""
    tenant = Tenant.open(ground, "invalid")
    tenant.submit("odd", cpu="3", memory="8Gi")
    status = tenant.until(Invalid=1)["odd"]
    assert condition(status, "Stalled")["status"] == "True"
    assert status["queue"]["message"].startswith("spec.resources: cpu must be one of 250m, 500m, 1, 2, 4")
    tenant.stage.tasks.change("odd", resources={"cpu": "2", "memory": "8Gi"})
    tenant.until(Admitted=1)


def suspended_it_waits_without_a_place_in_the_quota(ground: Stage) -> None:
    tenant = Tenant.open(ground, "suspended", concurrency={"nominal": 1})
    tenant.submit("asleep", suspend=True)
    tenant.until(Suspended=1)
    tenant.submit("awake")
    tenant.until(Suspended=1, Admitted=1)
    tenant.stage.tasks.change("asleep", suspend=False)
    tenant.until(QuotaExhausted=1, Admitted=1)


def while_another_pod_of_it_lives_no_attempt_follows(ground: Stage) -> None:
    """The Job controller may start two pods for one Job; the second stays on a node that says nothing.

    Of two pods of one second the uid alone would say which one decides: the first is recorded before there are two.
    """
    tenant = Tenant.open(ground, "twins")
    tenant.submit("a", retry={"backoff": {"initialSeconds": 1, "jitterPercent": 0}})
    first = tenant.stage.pod_of("a")
    uid = first["metadata"]["uid"]
    tenant.stage.tasks.until("a", "the first pod recorded", lambda status: newest_attempt(status).get("podUid") == uid)
    # There is such a node: else the garbage collector would give the pod up after a while.
    with PlayedNode(ground.client, "silent"):
        second = twin(ground, first)
        tenant.stage.end_pod(first, exit_code=1)
        message = tenant.until_waits("a", "ReleasingPrevious")["message"]
        assert message == "the pod of the previous attempt still lives"
        assert tenant.stage.attempts_of_jobs("a") == [("a", "1")]
        tenant.stage.end_pod(second, exit_code=1)
        tenant.until(Admitted=1)
        tenant.stage.tasks.until("a", "attempt 2", lambda status: status["attempt"] == 2)


def newest_attempt(status: Json) -> Json:
    found: Json = (status.get("attempts") or [{}])[-1]
    return found


def twin(ground: Stage, pod: Json) -> Json:
    """Make another pod like *pod*, and put it onto a node."""
    meta = {
        key: pod["metadata"][key] for key in ("namespace", "labels", "annotations", "finalizers", "ownerReferences")
    }
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {**meta, "name": f"{pod['metadata']['name']}-twin"}}
    path = f"/api/v1/namespaces/{meta['namespace']}/pods"
    return ground.client.request("POST", path, {**body, "spec": {**pod["spec"], "nodeName": "silent"}})


def an_unlabelled_namespace_has_no_tenant_that_others_are_labelled_with(ground: Stage) -> None:
    """Whoever may create namespaces would choose whose quota to spend."""
    labelled, named = Tenant.open(ground, "labelled"), Tenant.open(ground, "claimed")
    named.submit("before")
    named.until(Admitted=1)
    label(ground, "labelled", "claimed")
    probes = itertools.count()

    def is_known() -> bool:
        """Ask with a task of its own each time: a task keeps the tenant of its first visit."""
        labelled.submit(probe := f"probe-{next(probes)}", suspend=True)
        status = labelled.stage.tasks.until(probe, "its tenant", lambda status: status.get("tenant"))
        return bool(status["tenant"] == "claimed")

    await_("the label known", is_known, 90)
    named.submit("after")
    message = named.until_waits("after", "Invalid")["message"]
    assert message.startswith(
        "metadata.namespace: namespace claimed has no label longtask.dev/tenant, and its own name"
    )
    found = named.until(Admitted=1, Invalid=1)
    assert (found["before"]["tenant"], found["after"].get("tenant")) == ("claimed", None)
    label(ground, "labelled", None)
    found = named.until(Admitted=2)
    assert found["after"]["tenant"] == "claimed"


def label(ground: Stage, namespace: str, tenant: str | None) -> None:
    patch = {"metadata": {"labels": {"longtask.dev/tenant": tenant}}}
    ground.client.request("PATCH", f"/api/v1/namespaces/{namespace}", patch, form=MERGE)


STORIES: list[Story] = [
    without_a_quota_five_run_at_once,
    cpu_and_memory_have_limits_of_their_own,
    lowering_a_quota_ends_nothing,
    a_stop_holds_back_what_waits_and_lets_run_what_runs,
    a_drain_ends_what_runs_and_keeps_its_place,
    beyond_max_queued_it_waits_outside_and_moves_up,
    too_large_is_said_at_once_and_ends_by_itself,
    a_person_who_may_run_nothing_is_told_so_until_that_changes,
    what_the_quota_says_comes_before_what_a_task_waits_for_itself,
    what_was_said_of_an_old_quota_is_corrected_within_a_minute,
    order_is_by_priority_then_age_and_waiting_counts,
    beyond_max_priority_all_are_alike,
    a_retry_keeps_its_place_and_holds_nothing_meanwhile,
    the_example_of_a_large_task,
    after_ten_minutes_nobody_passes_the_large_one,
    a_spent_budget_of_memory_holds_back_until_it_is_raised,
    a_budget_that_only_warns_holds_nothing_back,
    a_ledger_that_cannot_be_read_holds_back_its_tenant_alone,
    a_quota_that_cannot_be_read_says_so_and_holds_its_tenant,
    what_does_not_parse_waits_as_invalid_until_it_is_corrected,
    suspended_it_waits_without_a_place_in_the_quota,
    while_another_pod_of_it_lives_no_attempt_follows,
    an_unlabelled_namespace_has_no_tenant_that_others_are_labelled_with,
]


@pytest.fixture(scope="module")
def stories(control_plane: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    left = {f"longtask-ledger-tenant-{tenant}": spent(tenant) for tenant in ("spent", "warned")}
    left["longtask-ledger-tenant-broken"] = {"attempts": "no such line\n"}
    with told(control_plane, tmp_path_factory.mktemp("operator"), "tenants", STORIES, left) as found:
        yield found


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_story(stories: Told, story: Story) -> None:
    stories[story].result()
