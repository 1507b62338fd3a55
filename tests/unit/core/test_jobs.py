from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from longtask_operator.api.longtask import LongTask
from longtask_operator.api.status import OlderCheckpoint
from longtask_operator.core.checkpoints import Resume
from longtask_operator.core.jobs import MIN_RETENTION_SECONDS, build_job, job_name
from longtask_operator.core.observe import observe_job, observe_pod
from tests.builders import JOB_POLICY, UID, a_longtask, some_facts, wire

RESTRICTED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def build(spec: dict[str, Any] | None = None, task: LongTask | None = None, **policy: Any) -> dict[str, Any]:
    task = task or a_longtask(spec)
    return build_job(task, some_facts(), replace(JOB_POLICY, **policy), ca_bundle="PEM")


def pod_of(spec: dict[str, Any] | None = None, **policy: Any) -> dict[str, Any]:
    pod: dict[str, Any] = build(spec, **policy)["spec"]["template"]["spec"]
    return pod


def container_of(spec: dict[str, Any] | None = None) -> dict[str, Any]:
    container: dict[str, Any] = pod_of(spec)["containers"][0]
    return container


class TestJob:
    def test_the_name_follows_from_task_and_attempt(self) -> None:
        assert job_name("wordcount", UID, 12) == "wordcount-7c9d4f-12"
        assert len(job_name("x" * 52, UID, 999)) <= 63

    def test_one_pod_and_no_retry_nor_deadline_of_its_own(self) -> None:
        spec = build()["spec"]
        template = spec.pop("template")
        assert spec == {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "podReplacementPolicy": "Failed",
            "ttlSecondsAfterFinished": 3600,
        }
        assert template["metadata"]["finalizers"] == ["longtask.dev/accounting"]
        assert template["metadata"]["annotations"] == {"longtask.dev/report-ca": "PEM"}

    def test_one_for_kueue_is_made_suspended_and_in_its_queue(self) -> None:
        body = build_job(a_longtask(), some_facts(queue="gpu-queue"), JOB_POLICY, ca_bundle="PEM")
        assert body["spec"]["suspend"] is True
        assert body["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpu-queue"
        assert "kueue.x-k8s.io/queue-name" not in body["spec"]["template"]["metadata"]["labels"]
        assert "kueue.x-k8s.io/queue-name" not in build()["metadata"]["labels"]

    def test_the_task_controls_it_and_no_finalizer_is_on_it(self) -> None:
        meta = build()["metadata"]
        assert meta["ownerReferences"] == [
            {
                "apiVersion": "longtask.dev/v1alpha1",
                "kind": "LongTask",
                "name": "wordcount",
                "uid": UID,
                "controller": True,
            }
        ]
        assert "finalizers" not in meta

    def test_what_we_write_we_read_back(self) -> None:
        body = build(task=a_longtask(generation=5))
        body["metadata"] |= {"uid": "j", "resourceVersion": "9", "creationTimestamp": wire(0)}
        job = observe_job(body)
        assert job is not None
        assert (job.task_uid, job.owner_uid, job.attempt, job.run, job.generation) == (UID, UID, 1, 1, 5)

    @pytest.mark.parametrize(("asked", "expected"), [(0, MIN_RETENTION_SECONDS), (59, 60), (7200, 7200)])
    def test_a_finished_job_stays_a_while(self, asked: int, expected: int) -> None:
        assert build(retention_seconds=asked)["spec"]["ttlSecondsAfterFinished"] == expected

    def test_labels_on_job_and_pod(self) -> None:
        ours = {
            "longtask.dev/task": "wordcount",
            "longtask.dev/task-uid": UID,
            "longtask.dev/tenant": "team-a",
            "longtask.dev/attempt": "1",
            "app.kubernetes.io/managed-by": "longtask",
        }
        task = a_longtask(labels={"team": "x", "secret": "y", "longtask.dev/tenant": "forged"})
        body = build(task=task, copied_labels=("team", "longtask.dev/tenant", "absent"))
        assert body["metadata"]["labels"] == {"team": "x", **ours}
        assert body["spec"]["template"]["metadata"]["labels"] == {"team": "x", **ours}


class TestPod:
    def test_it_is_restricted(self) -> None:
        pod = pod_of()
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert pod["containers"][0]["securityContext"] == RESTRICTED
        assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
        assert (pod["restartPolicy"], pod["terminationGracePeriodSeconds"]) == ("Never", 30)

    def test_a_user_of_the_tasks_choice(self) -> None:
        context = pod_of({"runAsUser": 1000})["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (1000, 1000, 1000)

    def test_only_what_was_asked_for_is_in_it(self) -> None:
        assert {
            "initContainers",
            "activeDeadlineSeconds",
            "serviceAccountName",
            "nodeSelector",
        }.isdisjoint(pod_of())

    def test_what_a_task_may_ask_of_its_pod(self) -> None:
        pod = pod_of(
            {
                "attemptTimeoutSeconds": 60,
                "serviceAccountName": "wordcount",
                "nodeSelector": {"disk": "ssd"},
                "tolerations": [{"key": "gpu", "operator": "Exists", "tolerationSeconds": 0}],
            }
        )
        assert (pod["activeDeadlineSeconds"], pod["serviceAccountName"]) == (60, "wordcount")
        assert pod["nodeSelector"] == {"disk": "ssd"}
        assert pod["tolerations"][1:] == [{"key": "gpu", "operator": "Exists", "tolerationSeconds": 0}]

    def test_it_stays_on_a_lost_node_until_we_give_it_up(self) -> None:
        (toleration,) = pod_of()["tolerations"]
        assert toleration == {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"}

    def test_where_it_may_write(self) -> None:
        mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in container_of()["volumeMounts"]}
        assert mounts == {"/tmp": False, "/var/run/longtask": True}
        volumes = {volume["name"]: volume for volume in pod_of(ephemeral_storage="2Gi")["volumes"]}
        assert volumes["tmp"]["emptyDir"] == {"sizeLimit": "2Gi"}

    def test_how_it_proves_who_it_is(self) -> None:
        (volume,) = [volume for volume in pod_of()["volumes"] if volume["name"] == "credentials"]
        token, authority = volume["projected"]["sources"]
        assert token["serviceAccountToken"]["audience"] == "longtask"
        assert authority["downwardAPI"]["items"][0]["fieldRef"] == {
            "fieldPath": "metadata.annotations['longtask.dev/report-ca']"
        }


class TestContainer:
    def test_its_size_is_request_and_limit(self) -> None:
        assert container_of()["resources"] == {
            "requests": {"cpu": "250m", "memory": "512Mi"},
            "limits": {"cpu": "250m", "memory": "512Mi"},
        }

    def test_the_program(self) -> None:
        container = container_of({"command": ["python"], "args": ["-m", "x"]})
        assert (container["name"], container["image"]) == ("task", "registry.example/wordcount:1.4")
        assert (container["command"], container["args"]) == (["python"], ["-m", "x"])
        assert {"command", "args"}.isdisjoint(container_of())

    def test_its_last_words_are_kept(self) -> None:
        assert container_of()["terminationMessagePolicy"] == "FallbackToLogsOnError"


class TestSidecar:
    def test_it_is_there_when_asked_for(self) -> None:
        pod = pod_of({"progressFile": True}, image_pull_policy="Always")
        (sidecar,) = pod["initContainers"]
        assert (sidecar["name"], sidecar["image"]) == ("longtask-sidecar", "longtask/worker:test")
        assert (sidecar["restartPolicy"], sidecar["imagePullPolicy"]) == ("Always", "Always")
        assert sidecar["resources"]["limits"] == {"cpu": "10m", "memory": "32Mi"}
        assert sidecar["securityContext"] == RESTRICTED

    def test_the_task_shares_one_small_folder_with_it(self) -> None:
        pod = pod_of({"progressFile": True})
        (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "progress"]
        assert volume["emptyDir"] == {"sizeLimit": "1Mi"}
        for container in (pod["containers"][0], pod["initContainers"][0]):
            assert {"name": "progress", "mountPath": "/var/run/longtask-progress"} in container["volumeMounts"]


class TestCheckpoints:
    def test_a_claim_is_mounted_into_the_task_container(self) -> None:
        pod = pod_of({"checkpoint": {"volumeClaimName": "work"}, "progressFile": True})
        assert {"name": "checkpoint", "persistentVolumeClaim": {"claimName": "work"}} in pod["volumes"]
        mount = {"name": "checkpoint", "mountPath": "/var/run/longtask-checkpoint"}
        assert mount in pod["containers"][0]["volumeMounts"]
        assert mount not in pod["initContainers"][0]["volumeMounts"]

    def test_an_object_store_needs_no_volume(self) -> None:
        assert pod_of({"checkpoint": {"uri": "s3://b/ckpt/"}})["volumes"] == pod_of()["volumes"]

    def test_what_an_attempt_is_given_is_read_back_from_its_pod(self) -> None:
        newest, older = (OlderCheckpoint(uri=f"s3://b/ckpt/u/1/{n}/manifest.json", sha256="ab" * 32) for n in (7, 6))
        resumes = (
            (Resume(newest=newest), (newest.uri,)),
            (Resume(newest=newest, older=(older,)), (newest.uri, older.uri)),
        )
        for resume, given in (*resumes, (None, ())):
            job = build_job(a_longtask(), some_facts(resume=resume), JOB_POLICY, ca_bundle="PEM")
            pod = job["spec"]["template"]
            pod["metadata"] |= {"name": "p", "namespace": "n", "uid": "p", "resourceVersion": "9"}
            seen = observe_pod(pod | {"metadata": pod["metadata"] | {"creationTimestamp": wire(0)}})
            assert seen is not None
            assert seen.resume == given
