"""The LongTask kind: one pydantic model per object, the only source of its schema and its parsing."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from longtask_operator.api.data import CheckpointSpec, Input, NamedUri
from longtask_operator.api.errors import SpecError
from longtask_operator.api.model import (
    ATOMIC,
    DNS_SUBDOMAIN,
    ENV_NAME,
    LABEL_KEY,
    LABEL_VALUE,
    NAMED_MAP,
    OWN_WORDS,
    PRESERVE,
    YEAR_SECONDS,
    Duration,
    Model,
    Quantity,
    Timeout,
)
from longtask_operator.api.status import LongTaskStatus


class KeyRef(Model):
    """A key of a Secret or ConfigMap in the task's own namespace."""

    name: str = Field(description="Name of the object, in the task's namespace.", max_length=253, pattern=DNS_SUBDOMAIN)
    key: str = Field(description="Key whose value is taken.", min_length=1, max_length=253)
    optional: bool | None = Field(None, description="Start also when the object or the key does not exist.")


class EnvVarSource(Model):
    """Where the value of an environment variable comes from; set exactly one."""

    secret_key_ref: KeyRef | None = Field(None, description="Takes the value from a Secret.")
    config_map_key_ref: KeyRef | None = Field(None, description="Takes the value from a ConfigMap.")


class EnvVar(Model):
    """One environment variable of the task container."""

    name: str = Field(
        description="Name of the variable. Names that start with LONGTASK_ are set by the operator and refused here.",
        min_length=1,
        max_length=128,
        pattern=ENV_NAME,
    )
    value: str | None = Field(None, description="The value, passed on as it is.", max_length=32768)
    value_from: EnvVarSource | None = Field(None, description="Takes the value from a Secret or ConfigMap instead.")


class Resources(Model):
    """The size of an attempt. Absent means Auto: the operator chooses."""

    cpu: Quantity | None = Field(
        None,
        description="CPU of an attempt, a rung of the cluster's ladder: 250m, 500m, 1, 2 or 4 unless the chart says "
        "otherwise.",
    )
    memory: Quantity | None = Field(
        None,
        description="Memory of an attempt, for example 512Mi or 2Gi. With cpu it must be a pair of the ladder: 250m "
        "goes with up to 2Gi, 500m with up to 4Gi, 1 and 2 with up to 8Gi, 4 with 8Gi.",
    )
    max_cpu: Quantity | None = Field(
        None,
        description="CPU that an attempt may grow to, a step of the ladder. May change while the task is under way. "
        "Default: the ladder's top.",
    )
    max_memory: Quantity | None = Field(
        None,
        description="Memory that an attempt may grow to, a step of the ladder. May change while the task is under "
        "way. Default: the ladder's top.",
    )
    growth: Literal["Live", "NextAttempt", "Never"] | None = Field(
        None,
        description="What follows when memory runs short. Live: the running attempt grows in place where that is "
        "possible, else the next one. NextAttempt: the next attempt is larger. Never: the task fails. Default Live.",
    )


Limit = Annotated[int, Field(ge=0, le=1000)]


class RetryLimits(Model):
    """How many attempts may end by each cause before the task fails; 0 means no retry."""

    application: int | None = Field(
        None, description="Attempts that the task's own program ended with an error. Default 3.", ge=0, le=1000
    )
    attempt_timeout: int | None = Field(
        None, description="Attempts that ran longer than attemptTimeoutSeconds. Default 3.", ge=0, le=1000
    )
    out_of_memory: int | None = Field(
        None, description="Attempts that used more than their memory. Default 5.", ge=0, le=1000
    )
    heartbeat_lost: int | None = Field(
        None, description="Attempts that fell silent for heartbeatTimeoutSeconds. Default 3.", ge=0, le=1000
    )
    no_progress: int | None = Field(
        None,
        description="Attempts that reported no progress for noProgressTimeoutSeconds. Default 3.",
        ge=0,
        le=1000,
    )
    never_started: int | None = Field(
        None, description="Attempts that did not start in time. Default 3.", ge=0, le=1000
    )
    lost: int | None = Field(
        None, description="Attempts whose pod vanished without saying how it ended. Default 5.", ge=0, le=1000
    )
    disruption: int | None = Field(
        None, description="Attempts that the cluster ended: eviction, drain, node pressure. Default 20.", ge=0, le=1000
    )
    preempted: int | None = Field(None, description="Attempts that gave way to others. Default 20.", ge=0, le=1000)


class Backoff(Model):
    """The wait before the next attempt: initialSeconds * factor^(failures - 1), capped, with jitter."""

    initial_seconds: int | None = Field(None, description="The first wait, in seconds. Default 10.", ge=1, le=86_400)
    factor: int | None = Field(None, description="What each further wait is multiplied by. Default 2.", ge=1, le=10)
    max_seconds: int | None = Field(None, description="The longest wait, in seconds. Default 600.", ge=1, le=604_800)
    jitter_percent: int | None = Field(
        None, description="How far a wait may be longer or shorter by chance, in percent. Default 20.", ge=0, le=100
    )


class RetryRule(Model):
    """What an exit code of the program means. The first rule that names it wins."""

    exit_codes: list[Annotated[int, Field(ge=1, le=255)]] = Field(
        description="Exit codes that the rule is for, 1 to 255.",
        min_length=1,
        max_length=255,
        json_schema_extra=ATOMIC,
    )
    action: Literal["Retry", "Fail", "Ignore"] = Field(
        description="Retry: another attempt, within the budget. Fail: the task fails at once. Ignore: another attempt "
        "that uses up no budget, at most 100 of them in a run.",
    )


class Retry(Model):
    """What happens after an attempt that did not complete."""

    limits: RetryLimits | None = Field(None, description="Budgets by cause. Each cause has its own.")
    backoff: Backoff | None = Field(None, description="How long to wait before the next attempt.")
    rules: list[RetryRule] | None = Field(
        None,
        description="Rules by exit code, for attempts that the program itself ended.",
        max_length=20,
        json_schema_extra=ATOMIC,
    )
    on_node_loss: Literal["Wait", "Replace"] | None = Field(
        None,
        description="When the attempt's node does not answer. Wait: for the node, nothing runs beside it. Replace: "
        "after nodeLossTimeoutSeconds its pod is deleted by force and the next attempt starts. Default Wait.",
    )
    node_loss_timeout_seconds: Duration | None = Field(
        None, description="How long a node may not answer before Replace gives its pod up. Default 600."
    )


class Toleration(Model):
    """A node taint that the attempt's pod tolerates, as in a Pod. A key is required."""

    key: str = Field(
        description="Key of the taint. Not node.kubernetes.io/* (sick nodes) nor the control plane's.",
        max_length=316,
        pattern=LABEL_KEY,
    )
    operator: Literal["Equal", "Exists"] | None = Field(None, description="How value is compared. Default Equal.")
    value: str | None = Field(None, description="Value of the taint.", max_length=63, pattern=LABEL_VALUE)
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Effect of the taint. Absent matches all."
    )
    toleration_seconds: int | None = Field(
        None, description="How long a NoExecute taint is tolerated.", ge=0, le=YEAR_SECONDS
    )


class LongTaskSpec(Model):
    """What to run and how.

    From the first attempt of a run that began until Finished only suspend, cancel, redrive, priority,
    deadlineSeconds, ttlSecondsAfterFinished, resources.maxCpu and resources.maxMemory may change; a finished
    task accepts any change, and a redrive runs it.
    """

    image: str | None = Field(
        None,
        description="Container image to run, for example registry.example/team/app:1.4. Required.",
        min_length=1,
        max_length=512,
    )
    command: list[Annotated[str, Field(max_length=8192)]] | None = Field(
        None,
        description="Program to start, word by word, without a shell. Absent: the image's entry point.",
        max_length=64,
        json_schema_extra=ATOMIC,
    )
    args: list[Annotated[str, Field(max_length=8192)]] | None = Field(
        None,
        description="Arguments of the program. Absent: the image's own.",
        max_length=256,
        json_schema_extra=ATOMIC,
    )
    env: list[EnvVar] | None = Field(
        None,
        description="Environment variables, each with value or valueFrom. The operator adds its own, LONGTASK_*.",
        max_length=64,
        json_schema_extra=NAMED_MAP,
    )
    payload: dict[str, Any] | None = Field(
        None,
        description="Input of the task, a JSON object of at most 16 KiB as compact JSON. The worker finds it in "
        "LONGTASK_PAYLOAD. Larger data goes by URI, in inputs.",
        json_schema_extra=PRESERVE,
    )
    inputs: list[Input] | None = Field(
        None,
        description="Data that the task reads, by reference. The worker finds it in LONGTASK_INPUTS.",
        max_length=16,
        json_schema_extra=NAMED_MAP,
    )
    outputs: list[NamedUri] | None = Field(
        None,
        description="Places that the task writes to. The worker finds them in LONGTASK_OUTPUTS.",
        max_length=16,
        json_schema_extra=NAMED_MAP,
    )
    resources: Resources | None = Field(None, description="Size of an attempt. Absent: Auto, the operator chooses.")
    retry: Retry | None = Field(None, description="Budgets and backoff after a failed attempt.")
    deadline_seconds: Duration | None = Field(
        None,
        description="How long this run may take, from creation or redrive, all waits included. Then the task fails "
        "with cause Deadline. Absent: no deadline.",
    )
    attempt_timeout_seconds: Duration | None = Field(
        None, description="How long one attempt may run. Then it ends with cause AttemptTimeout. Absent: no limit."
    )
    start_timeout_seconds: Duration | None = Field(
        None,
        description="How long an admitted attempt may take to start. Then cause NeverStarted. One that somebody has to "
        "repair, such as a wrong image name, ends earlier. Default 600.",
    )
    checkpoint: CheckpointSpec | None = Field(
        None,
        description="Where attempts save checkpoints. The next one goes on from the last that was accepted.",
    )
    heartbeat_timeout_seconds: Timeout | None = Field(
        None,
        description="How long a running attempt may send no report. Then it ends with cause HeartbeatLost. Never less "
        "than three times the interval that the operator asks for. 0 or absent: off.",
    )
    no_progress_timeout_seconds: Timeout | None = Field(
        None,
        description="How long a running attempt may report without progress; at least three times its own longest "
        "step. Then it ends with cause NoProgress. 0 or absent: off.",
    )
    priority: int | None = Field(
        None, description="Place in the tenant's queue, higher first, -1000 to 1000. Default 0.", ge=-1000, le=1000
    )
    suspend: bool | None = Field(
        None, description="True stops the running attempt and starts no other until it is false again."
    )
    cancel: bool | None = Field(
        None, description="True ends this run as Cancelled; it cannot be taken back for this run."
    )
    redrive: str | None = Field(
        None,
        description="A new, non-empty value starts a new run of a finished task. The first value seen starts nothing.",
        max_length=253,
    )
    idempotency_key: str | None = Field(
        None,
        description="Of the tasks of a namespace with one key only one runs; the others take over its outcome. "
        "It never changes. Absent: the task runs for itself.",
        min_length=1,
        max_length=253,
    )
    ttl_seconds_after_finished: Timeout | None = Field(
        None,
        description="Deletes the LongTask so long after it finished. Not for dead letters; ignored for objects that "
        "Argo CD or Flux track. Absent: kept.",
    )
    progress_file: bool | None = Field(
        None,
        description="True adds a small sidecar that reads lines `done/total message` from the file in "
        "LONGTASK_PROGRESS_FILE, so that any image can report.",
    )
    run_as_user: int | None = Field(
        None, description="User id that the task container runs as, never 0. Default 65532.", ge=1, le=2_147_483_647
    )
    service_account_name: str | None = Field(
        None,
        description="ServiceAccount of the pod. Only names that the chart or the namespace's annotation "
        "longtask.dev/allowed-service-accounts allows. Default: the namespace's default account.",
        max_length=253,
        pattern=DNS_SUBDOMAIN,
    )
    node_selector: dict[str, Annotated[str, Field(max_length=63)]] | None = Field(
        None, description="Labels that a node must have to run the attempts.", max_length=16
    )
    tolerations: list[Toleration] | None = Field(
        None, description="Taints that the pod tolerates.", max_length=16, json_schema_extra=ATOMIC
    )
    queue_name: str | None = Field(
        None,
        description="A LocalQueue of Kueue in the task's namespace, where the chart allows it. Kueue then decides when "
        "each attempt starts, not the tenant's quota.",
        min_length=1,
        max_length=63,
        pattern=DNS_SUBDOMAIN,
    )


class Metadata(Model):
    """The part of `metadata` that the operator uses."""

    name: str
    namespace: str
    uid: str
    resource_version: str = "0"
    generation: int = 0
    creation_timestamp: str
    deletion_timestamp: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class LongTask(Model):
    """A LongTask as read from the API server."""

    metadata: Metadata
    spec: LongTaskSpec
    status: LongTaskStatus = Field(default_factory=LongTaskStatus)


def parse_longtask(body: dict[str, Any]) -> LongTask:
    """Return the LongTask of an API object.

    Raises:
        SpecError: if the object does not have the shape of the schema. The API server refuses such
            an object; one stored under an older schema can still arrive.
    """
    try:
        return LongTask.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        raise SpecError(path=path, message=first["msg"].removeprefix(OWN_WORDS)) from None
