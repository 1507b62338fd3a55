"""The Job of an attempt.

One Job per attempt, one pod per Job: `backoffLimit: 0`, because retries are ours; no deadline
on the Job, whose controller would delete the pod and with it the evidence; our finalizer
on the pod, which holds the outcome until it stands in the status. Only fields listed
here reach a pod; the user never writes one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from longtask_operator.api.longtask import LongTask
from longtask_operator.api.names import (
    ANNOTATION_CA,
    ANNOTATION_GENERATION,
    ANNOTATION_KEY,
    ANNOTATION_RESUME,
    ANNOTATION_RUN,
    API_VERSION,
    FINALIZER,
    KUEUE_QUEUE_LABEL,
    LABEL_ATTEMPT,
    LABEL_MANAGED_BY,
    LABEL_TASK,
    LABEL_TASK_UID,
    LABEL_TENANT,
    LONGTASK_KIND,
    MANAGED_BY,
    SIDECAR_CONTAINER,
    TASK_CONTAINER,
    TOKEN_AUDIENCE,
)
from longtask_operator.api.quantity import format_cpu, format_memory
from longtask_operator.core.checkpoints import CLAIM_DIR, manifests_of
from longtask_operator.core.environment import (
    CREDENTIALS_DIR,
    HOME_DIR,
    PROGRESS_DIR,
    AttemptFacts,
    build_environment,
    build_report_environment,
)
from longtask_operator.core.sizing import SIDECAR

Json = dict[str, Any]

DEFAULT_USER = 65532
#: Least life of a finished Job: longer than a lease, so that its name still guards against a late second create.
MIN_RETENTION_SECONDS = 60
_TOKEN_SECONDS = 3600
#: `retry.onNodeLoss` says how long a lost node is waited for; by default Kubernetes would delete the pod after 300 s.
_UNREACHABLE = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPolicy:
    """What the installation says about every Job."""

    report_base: str
    retention_seconds: int
    grace_seconds: int
    ephemeral_storage: str
    image_pull_policy: str
    sidecar_image: str
    copied_labels: Sequence[str] = ()


def job_name(name: str, uid: str, attempt: int) -> str:
    """Return the name of the Job of *attempt*: the same for every operator that asks."""
    return f"{name}-{uid[:6]}-{attempt}"


def build_job(task: LongTask, facts: AttemptFacts, policy: JobPolicy, *, ca_bundle: str) -> Json:
    """Return the manifest of the attempt's Job. *ca_bundle* is the CA of the report server, PEM.

    Raises:
        SpecError: if the environment cannot be built from the spec.
    """
    meta = task.metadata
    labels = _labels(task, facts, policy)
    resume = {ANNOTATION_RESUME: "\n".join(manifests_of(facts.resume))} if facts.resume else {}
    key = {ANNOTATION_KEY: task.spec.idempotency_key} if task.spec.idempotency_key else {}
    owner = {"apiVersion": API_VERSION, "kind": LONGTASK_KIND, "name": meta.name, "uid": meta.uid, "controller": True}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(meta.name, meta.uid, facts.number),
            "namespace": meta.namespace,
            "labels": labels | ({KUEUE_QUEUE_LABEL: facts.queue} if facts.queue else {}),
            "annotations": {ANNOTATION_GENERATION: str(meta.generation), ANNOTATION_RUN: str(facts.run), **key},
            "ownerReferences": [owner],
        },
        "spec": {
            **({"suspend": True} if facts.queue else {}),  # Kueue unsuspends it
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "podReplacementPolicy": "Failed",
            "ttlSecondsAfterFinished": max(policy.retention_seconds, MIN_RETENTION_SECONDS),
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {ANNOTATION_CA: ca_bundle, **resume, **key},
                    "finalizers": [FINALIZER],
                },
                "spec": _pod_spec(task, facts, policy),
            },
        },
    }


def _labels(task: LongTask, facts: AttemptFacts, policy: JobPolicy) -> dict[str, str]:
    copied = {key: task.metadata.labels[key] for key in policy.copied_labels if key in task.metadata.labels}
    return copied | {
        LABEL_TASK: task.metadata.name,
        LABEL_TASK_UID: task.metadata.uid,
        LABEL_TENANT: facts.tenant,
        LABEL_ATTEMPT: str(facts.number),
        LABEL_MANAGED_BY: MANAGED_BY,
    }


def _pod_spec(task: LongTask, facts: AttemptFacts, policy: JobPolicy) -> Json:
    spec, user = task.spec, task.spec.run_as_user or DEFAULT_USER
    pod: Json = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": policy.grace_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": user,
            "fsGroup": user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_task_container(task, facts, policy)],
        "volumes": _volumes(task, policy),
    }
    if spec.progress_file:
        pod["initContainers"] = [_sidecar(task, facts, policy)]
    optional = {
        "activeDeadlineSeconds": spec.attempt_timeout_seconds,
        "serviceAccountName": spec.service_account_name,
        "nodeSelector": spec.node_selector,
        "tolerations": [
            _UNREACHABLE,
            *(entry.model_dump(by_alias=True, exclude_none=True) for entry in spec.tolerations or ()),
        ],
    }
    return pod | {key: value for key, value in optional.items() if value}


def _task_container(task: LongTask, facts: AttemptFacts, policy: JobPolicy) -> Json:
    size = {"cpu": format_cpu(facts.size.cpu), "memory": format_memory(facts.size.memory)}
    container: Json = {
        "name": TASK_CONTAINER,
        "image": task.spec.image,
        "imagePullPolicy": policy.image_pull_policy,
        "env": build_environment(task, facts),
        "resources": {"requests": size, "limits": dict(size)},
        "securityContext": _restricted(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": _mounts(task),
    }
    optional = {"command": task.spec.command, "args": task.spec.args}
    return container | {key: value for key, value in optional.items() if value}


def _sidecar(task: LongTask, facts: AttemptFacts, policy: JobPolicy) -> Json:
    size = {"cpu": format_cpu(SIDECAR.cpu), "memory": format_memory(SIDECAR.memory)}
    return {
        "name": SIDECAR_CONTAINER,
        "image": policy.sidecar_image,
        "imagePullPolicy": policy.image_pull_policy,
        "command": ["longtask-sidecar"],
        "restartPolicy": "Always",
        "env": build_report_environment(task, facts),
        "resources": {"requests": size, "limits": dict(size)},
        "securityContext": _restricted(),
        "volumeMounts": [
            {"name": "credentials", "mountPath": CREDENTIALS_DIR, "readOnly": True},
            {"name": "progress", "mountPath": PROGRESS_DIR},
        ],
    }


def _restricted() -> Json:
    return {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def _mounts(task: LongTask) -> list[Json]:
    mounts: list[Json] = [
        {"name": "tmp", "mountPath": HOME_DIR},
        {"name": "credentials", "mountPath": CREDENTIALS_DIR, "readOnly": True},
    ]
    if task.spec.progress_file:
        mounts.append({"name": "progress", "mountPath": PROGRESS_DIR})
    if _claim_of(task):
        mounts.append({"name": "checkpoint", "mountPath": CLAIM_DIR})
    return mounts


def _volumes(task: LongTask, policy: JobPolicy) -> list[Json]:
    annotation = f"metadata.annotations['{ANNOTATION_CA}']"
    sources: list[Json] = [
        {"serviceAccountToken": {"audience": TOKEN_AUDIENCE, "expirationSeconds": _TOKEN_SECONDS, "path": "token"}},
        {"downwardAPI": {"items": [{"path": "ca.crt", "fieldRef": {"fieldPath": annotation}}]}},
    ]
    volumes: list[Json] = [
        {"name": "tmp", "emptyDir": {"sizeLimit": policy.ephemeral_storage}},
        {"name": "credentials", "projected": {"sources": sources}},
    ]
    if task.spec.progress_file:
        volumes.append({"name": "progress", "emptyDir": {"sizeLimit": "1Mi"}})
    if claim := _claim_of(task):
        volumes.append({"name": "checkpoint", "persistentVolumeClaim": {"claimName": claim}})
    return volumes


def _claim_of(task: LongTask) -> str | None:
    return task.spec.checkpoint.volume_claim_name if task.spec.checkpoint else None
