"""Objects that only the operator, or only an administrator, may write, on the real API server."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.rules import (
    ALICE,
    ASSIGNER,
    OPERATOR,
    OPERATOR_NAMESPACE,
    Api,
    ControlPlane,
    accepted,
    installed,
    refused,
    rendered_policies,
)

pytestmark = pytest.mark.integration

JOB_CONTROLLER = "system:serviceaccount:kube-system:job-controller"
LABELS = {"longtask.dev/task": "t", "longtask.dev/attempt": "1"}


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> Iterator[Api]:
    with installed(control_plane, "policies-guard", "kueue.enabled=true") as api:
        yield api


def a_job(name: str, namespace: str, labels: dict[str, str], template_labels: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "suspend": True,
            "template": {"metadata": {"labels": template_labels}, "spec": a_pod_spec()},
        },
    }


def a_pod_spec() -> dict[str, Any]:
    size = {"cpu": "250m", "memory": "512Mi"}
    container = {"name": "task", "image": "app", "resources": {"requests": size, "limits": size}}
    return {"restartPolicy": "Never", "containers": [container]}


def a_pod(name: str, namespace: str, labels: dict[str, str], owner: dict[str, Any] | None = None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": namespace, "labels": labels}
    metadata["finalizers"] = ["longtask.dev/accounting", "batch.kubernetes.io/job-tracking"]
    if owner:
        metadata["ownerReferences"] = [owner]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": a_pod_spec()}


OWNER = {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "1-2-3", "controller": True}


class TestJobs:
    SENTENCE = "only the LongTask operator makes Jobs with labels longtask.dev/*"

    @pytest.mark.parametrize(("labels", "template"), [(LABELS, {}), ({}, LABELS), ({"longtask.dev/flow": "x"}, {})])
    def test_nobody_else_makes_one(self, api: Api, labels: dict[str, str], template: dict[str, str]) -> None:
        for user in (ALICE, "", JOB_CONTROLLER):
            answer = api.create(a_job("forged", api.namespace, labels, template), "--dry-run=server", user=user)
            assert refused(answer, self.SENTENCE)

    def test_other_jobs_are_free(self, api: Api) -> None:
        for labels in ({}, {"app": "x"}, {"app.kubernetes.io/managed-by": "longtask"}):
            assert accepted(api.create(a_job("free", api.namespace, labels, {}), "--dry-run=server", user=ALICE))

    @pytest.fixture
    def job(self, api: Api) -> Iterator[str]:
        api.run("-n", api.namespace, "delete", "job", "attempt", "--ignore-not-found", check=True)
        assert accepted(api.create(a_job("attempt", api.namespace, LABELS, LABELS), user=OPERATOR))
        yield "job/attempt"
        api.run("-n", api.namespace, "delete", "job", "attempt", "--wait=false", check=True)

    @pytest.mark.parametrize(
        "patch",
        [
            {"spec": {"suspend": False}},
            {"metadata": {"labels": {"longtask.dev/task": "other"}}},
            {"metadata": {"labels": {"longtask.dev/task": None}}},
            {"metadata": {"labels": {"longtask.dev/type": "x"}}},
            {"metadata": {"annotations": {"longtask.dev/generation": "9"}}},
        ],
        ids=json.dumps,
    )
    def test_nobody_else_changes_one(self, api: Api, job: str, patch: dict[str, Any]) -> None:
        for user in (ALICE, ""):
            assert refused(api.patch(job, patch, user=user), "only the LongTask operator changes the spec, labels")
        assert accepted(api.patch(job, patch, "--dry-run=server", user=OPERATOR))

    def test_nobody_else_changes_labels_by_the_back_door(self, api: Api, job: str) -> None:
        patch = {"metadata": {"labels": {"longtask.dev/task": "other"}}}

        assert refused(api.patch(job, patch, "--subresource=status", user=ALICE), "only the LongTask operator changes")

    def test_the_cluster_does_its_work(self, api: Api, job: str) -> None:
        assert accepted(api.patch(job, {"status": {"active": 1}}, "--subresource=status", user=JOB_CONTROLLER))
        assert accepted(
            api.patch(job, {"metadata": {"labels": {"team": "a"}, "annotations": {"x/y": "z"}}}, user=ALICE)
        )
        assert accepted(api.patch(job, {"metadata": {"finalizers": ["foregroundDeletion"]}}, "--dry-run=server"))


KUEUE = "system:serviceaccount:kueue-system:kueue-controller-manager"


class TestKueue:
    """What Kueue does to a Job that was handed to it, with the rights that its own chart gives it."""

    @pytest.fixture
    def job(self, api: Api) -> Iterator[str]:
        api.run("-n", api.namespace, "delete", "job", "queued", "--ignore-not-found", check=True)
        labels = {**LABELS, "kueue.x-k8s.io/queue-name": "gpu-queue"}
        assert accepted(api.create(a_job("queued", api.namespace, labels, LABELS), user=OPERATOR))
        yield "job/queued"
        api.run("-n", api.namespace, "delete", "job", "queued", "--wait=false", check=True)

    def test_it_lets_a_job_go_with_its_place_and_takes_it_back(self, api: Api, job: str) -> None:
        placed = {"metadata": {"labels": {"kueue.x-k8s.io/podset": "main"}}, "spec": {"nodeSelector": {"gpu": "a"}}}

        assert accepted(api.patch(job, {"spec": {"suspend": False, "template": placed}}, user=KUEUE))
        assert accepted(api.patch(job, {"spec": {"suspend": True}}, user=KUEUE))

    def test_nobody_else_does(self, api: Api, job: str) -> None:
        for user in (ALICE, "", "system:serviceaccount:kueue-system:default"):
            assert refused(
                api.patch(job, {"spec": {"suspend": False}}, user=user), "only the LongTask operator changes"
            )

    def test_nobody_moves_it_to_another_queue(self, api: Api, job: str) -> None:
        for queue in ("other", None):
            patch = {"metadata": {"labels": {"kueue.x-k8s.io/queue-name": queue}}}
            assert refused(api.patch(job, patch, user=ALICE), "only the LongTask operator changes the spec, labels")

    def test_it_changes_no_size_no_label_of_ours_and_no_job_that_was_not_handed_over(self, api: Api, job: str) -> None:
        size = {"cpu": "4", "memory": "8Gi"}
        container = {**a_pod_spec()["containers"][0], "resources": {"requests": size, "limits": size}}
        ours = {"metadata": {"labels": {"longtask.dev/attempt": "2"}}}
        for patch in ({"spec": {"template": {"spec": {"containers": [container]}}}}, ours):
            assert refused(api.patch(job, patch, user=KUEUE), "only the LongTask operator changes the spec, labels")
        api.run("-n", api.namespace, "delete", "job", "plain", "--ignore-not-found", check=True)
        assert accepted(api.create(a_job("plain", api.namespace, LABELS, LABELS), user=OPERATOR))
        assert refused(api.patch("job/plain", {"spec": {"suspend": False}}, user=KUEUE), "only the LongTask operator")
        api.run("-n", api.namespace, "delete", "job", "plain", "--wait=false", check=True)


class TestPods:
    SENTENCE = "only the LongTask operator makes Pods with labels longtask.dev/*"

    def test_nobody_else_makes_one(self, api: Api) -> None:
        for user in (ALICE, ""):
            answer = api.create(a_pod("forged", api.namespace, LABELS, OWNER), "--dry-run=server", user=user)
            assert refused(answer, self.SENTENCE)

    def test_a_controller_makes_one_only_for_a_job(self, api: Api) -> None:
        other = {**OWNER, "kind": "ReplicaSet", "apiVersion": "apps/v1"}

        assert accepted(api.create(a_pod("p", api.namespace, LABELS, OWNER), "--dry-run=server", user=JOB_CONTROLLER))
        for owner in (other, None):
            answer = api.create(a_pod("p", api.namespace, LABELS, owner), "--dry-run=server", user=JOB_CONTROLLER)
            assert refused(answer, self.SENTENCE)

    def test_other_pods_are_free(self, api: Api) -> None:
        assert accepted(api.create(a_pod("free", api.namespace, {"app": "x"}), "--dry-run=server", user=ALICE))

    @pytest.fixture
    def pod(self, api: Api) -> Iterator[str]:
        assert accepted(api.create(a_pod("attempt", api.namespace, LABELS), user=OPERATOR))
        yield "pod/attempt"
        api.patch("pod/attempt", {"metadata": {"finalizers": None}}, user=OPERATOR)
        api.run("-n", api.namespace, "delete", "pod", "attempt", "--force", "--wait=false")

    @pytest.mark.parametrize(
        "patch",
        [
            {"metadata": {"finalizers": ["batch.kubernetes.io/job-tracking"]}},
            {"metadata": {"labels": {"longtask.dev/attempt": "2"}}},
            {"metadata": {"labels": {"longtask.dev/attempt": None}}},
            {"metadata": {"annotations": {"longtask.dev/report-ca": "mine"}}},
            {"spec": {"activeDeadlineSeconds": 1}},
        ],
        ids=json.dumps,
    )
    def test_nobody_else_changes_one(self, api: Api, pod: str, patch: dict[str, Any]) -> None:
        for user in (ALICE, "", JOB_CONTROLLER):
            assert refused(api.patch(pod, patch, user=user), "only the LongTask operator changes")
        assert accepted(api.patch(pod, patch, "--dry-run=server", user=OPERATOR))

    def test_nobody_else_changes_its_image(self, api: Api, pod: str) -> None:
        patch = [{"op": "replace", "path": "/spec/containers/0/image", "value": "other"}]

        assert refused(api.patch(pod, patch, user=ALICE, kind="json"), "changes the spec of an attempt's Pod")

    def test_nobody_else_takes_the_finalizer_by_the_back_door(self, api: Api, pod: str) -> None:
        patch = {"metadata": {"finalizers": ["batch.kubernetes.io/job-tracking"], "labels": {"longtask.dev/task": "x"}}}

        assert refused(api.patch(pod, patch, "--subresource=status", user=ALICE), "only the LongTask operator changes")

    def test_nobody_else_resizes_one(self, api: Api, pod: str) -> None:
        size = {"memory": "8Gi"}
        patch = {"spec": {"containers": [{"name": "task", "resources": {"limits": size, "requests": size}}]}}

        answer = api.patch(pod, patch, "--subresource=resize", user=ALICE, kind="strategic")

        assert refused(answer, "only the LongTask operator changes the spec of an attempt's Pod")

    def test_the_cluster_does_its_work(self, api: Api, pod: str) -> None:
        tracking = {"metadata": {"finalizers": ["longtask.dev/accounting"]}}
        assert accepted(api.patch(pod, tracking, user=JOB_CONTROLLER))
        assert accepted(api.patch(pod, {"status": {"phase": "Running"}}, "--subresource=status", user=ALICE))
        network = {"metadata": {"annotations": {"cni.projectcalico.org/podIP": "10.0.0.1"}, "labels": {"team": "a"}}}
        assert accepted(api.patch(pod, network, user=ALICE))
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": "attempt", "namespace": api.namespace},
            "target": {"kind": "Node", "name": "n1"},
        }
        path = f"/api/v1/namespaces/{api.namespace}/pods/attempt/binding"
        assert accepted(api.run("create", "--raw", path, "-f", "-", document=binding))


class TestRealControllers:
    def test_a_job_of_the_operator_lives_and_goes(self, api: Api) -> None:
        """Job controller and garbage collector do their part of an attempt; the operator lets the Pod go."""
        job = a_job("real", api.namespace, LABELS, {**LABELS, "longtask.dev/task": "real"})
        job["spec"]["suspend"] = False
        job["spec"]["template"]["metadata"]["finalizers"] = ["longtask.dev/accounting"]
        selector = ["-n", api.namespace, "get", "pods", "-l", "longtask.dev/task=real", "-o", "name"]
        assert accepted(api.create(job, user=OPERATOR))
        api.until("Pod made", lambda: api.run(*selector, check=True).stdout != "")
        pod = api.run(*selector).stdout.strip()

        api.run("-n", api.namespace, "delete", "job", "real", "--wait=false", check=True)

        # The garbage collector is busy for a while whenever kinds have come or gone.
        api.until("Pod deleted", lambda: "deletionTimestamp" in api.get(pod)["metadata"], 120)
        only_ours = ["longtask.dev/accounting"]
        api.until("released by the others", lambda: api.get(pod)["metadata"]["finalizers"] == only_ours)
        assert accepted(api.patch(pod, {"metadata": {"finalizers": None}}, user=OPERATOR))
        api.run("-n", api.namespace, "delete", pod, "--force", "--grace-period=0", "--ignore-not-found")
        api.until("nothing left", lambda: api.run(*selector, check=True).stdout == "")

    def test_other_workloads_are_untouched(self, api: Api) -> None:
        job = a_job("plain", api.namespace, {"app": "x"}, {"app": "plain"})
        job["spec"]["suspend"] = False
        assert accepted(api.create(job, user=ALICE))

        selector = ["-n", api.namespace, "get", "pods", "-l", "app=plain", "-o", "name"]
        api.until("Pod made", lambda: api.run(*selector, check=True).stdout != "")
        api.run("-n", api.namespace, "delete", "job", "plain", "--cascade=foreground", "--wait=false", check=True)
        api.run("-n", api.namespace, "delete", "pods", "-l", "app=plain", "--force", "--grace-period=0")
        api.until("nothing left", lambda: api.run(*selector, check=True).stdout == "")


class TestNamespaces:
    @pytest.fixture
    def namespace(self, api: Api) -> Iterator[str]:
        name = "policies-tenant"
        document = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {"longtask.dev/tenant": "a"}},
        }
        assert accepted(api.run("apply", "-f", "-", document=document))
        yield f"namespace/{name}"
        api.run("label", "namespace", name, "longtask.dev/tenant-", check=True)

    def labelled(self, **labels: str | None) -> dict[str, Any]:
        return {"metadata": {"labels": {f"longtask.dev/{key}": value for key, value in labels.items()}}}

    @pytest.mark.parametrize("patch", ["b", None], ids=["changed", "removed"])
    @pytest.mark.parametrize("how", ["--subresource=", "--subresource=status"])
    def test_the_tenant_is_for_those_who_may_assign(
        self, api: Api, namespace: str, patch: str | None, how: str
    ) -> None:
        answer = api.patch(namespace, self.labelled(tenant=patch), how, user=ALICE)

        assert refused(
            answer, "longtask.dev/tenant may be set, changed or removed only by those who have the verb assign"
        )
        assert accepted(api.patch(namespace, self.labelled(tenant=patch), how, "--dry-run=server", user=ASSIGNER))

    def test_not_by_the_finalize_door_either(self, api: Api, namespace: str) -> None:
        document = copy.deepcopy(api.get(namespace))
        document["metadata"]["labels"]["longtask.dev/tenant"] = "b"
        path = f"/api/v1/namespaces/{document['metadata']['name']}/finalize"

        answer = api.run("replace", "--raw", path, "-f", "-", document=document, user=ALICE)

        assert refused(answer, "longtask.dev/tenant may be set, changed or removed only by")

    def test_a_new_namespace_with_a_tenant_too(self, api: Api) -> None:
        document = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": "n", "labels": {"longtask.dev/tenant": "a"}},
        }

        assert refused(api.create(document, "--dry-run=server", user=ALICE), "longtask.dev/tenant may be set")
        assert accepted(api.create(document, "--dry-run=server", user=ASSIGNER))

    def test_service_accounts_likewise(self, api: Api, namespace: str) -> None:
        patch = {"metadata": {"annotations": {"longtask.dev/allowed-service-accounts": "admin"}}}

        assert refused(api.patch(namespace, patch, user=ALICE), "longtask.dev/allowed-service-accounts may be set")
        assert accepted(api.patch(namespace, patch, "--dry-run=server", user=ASSIGNER))

    def test_other_labels_are_free(self, api: Api, namespace: str) -> None:
        patch = {"metadata": {"labels": {"team": "x"}, "annotations": {"a": "b"}}}

        assert accepted(api.patch(namespace, patch, user=ALICE))

    def test_a_tenant_is_a_dns_label(self, api: Api, namespace: str) -> None:
        answer = api.patch(namespace, self.labelled(tenant="Team_A.x"), user=ASSIGNER)

        assert refused(answer, "longtask.dev/tenant must consist of lower-case letters, digits and dashes")


LEDGER = "longtask-ledger-research"


def a_config_map(name: str, namespace: str, value: str = "y") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": {"x": value},
    }


class TestLedgers:
    @pytest.fixture
    def ledger(self, api: Api) -> Iterator[list[str]]:
        assert accepted(api.create(a_config_map(LEDGER, OPERATOR_NAMESPACE), user=OPERATOR))
        yield ["-n", OPERATOR_NAMESPACE, "delete", "configmap", LEDGER]
        assert accepted(api.run("-n", OPERATOR_NAMESPACE, "delete", "configmap", LEDGER, user=OPERATOR))

    def test_nobody_else_makes_one(self, api: Api) -> None:
        for user in (ALICE, ""):
            answer = api.create(a_config_map(LEDGER, OPERATOR_NAMESPACE), "--dry-run=server", user=user)
            assert refused(answer, "ConfigMaps longtask-ledger-* are the LongTask operator's record")

    def test_nobody_else_changes_or_deletes_one(self, api: Api, ledger: list[str]) -> None:
        path = f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/configmaps?fieldSelector=metadata.name={LEDGER}"
        for user in (ALICE, ""):
            changed = a_config_map(LEDGER, OPERATOR_NAMESPACE, "z")
            assert refused(api.run("replace", "-f", "-", document=changed, user=user), "leave them alone")
            assert refused(api.run(*ledger, user=user), "leave them alone")
            assert refused(api.run("delete", "--raw", path, user=user), "leave them alone")

    def test_the_operator_changes_one(self, api: Api, ledger: list[str]) -> None:
        changed = a_config_map(LEDGER, OPERATOR_NAMESPACE, "z")

        assert accepted(api.run("replace", "-f", "-", document=changed, user=OPERATOR))

    def test_the_same_name_elsewhere_is_free(self, api: Api) -> None:
        assert accepted(api.create(a_config_map(LEDGER, api.namespace), "--dry-run=server", user=ALICE))

    def test_other_config_maps_are_free(self, api: Api) -> None:
        assert accepted(api.create(a_config_map("mine", OPERATOR_NAMESPACE), "--dry-run=server", user=ALICE))

    def test_they_go_with_their_namespace(self, api: Api) -> None:
        """The same policy, as a release in another namespace renders it: deleting that namespace must not hang."""
        namespace, name = "policies-guard-release", ["configmap", LEDGER]
        ground = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        ground["metadata"] = {"name": namespace, "finalizers": ["example.com/hold"]}
        delete = ["-n", namespace, "delete", *name]
        api.run("apply", "-f", "-", document=ground, check=True)
        api.run("apply", "-f", "-", document=a_config_map(LEDGER, namespace), check=True)
        policy = next(d for d in rendered_policies(namespace=namespace) if d["metadata"]["name"] == "longtask-ledgers")
        own = next(d for d in rendered_policies() if d["metadata"]["name"] == "longtask-ledgers")
        try:
            api.run("apply", "-f", "-", document=policy, check=True)
            api.until("policy there", lambda: "leave them alone" in api.run(*delete, "--dry-run=server").stderr)

            api.run("delete", "namespace", namespace, "--wait=false", check=True)

            api.until("ledger deletable", lambda: api.run(*delete, "--ignore-not-found").returncode == 0)
        finally:
            api.run("apply", "-f", "-", document=own, check=True)
            api.run("patch", "namespace", namespace, "-p", '{"metadata":{"finalizers":null}}')
