"""The LongTask kind: one pydantic model per object, the only source of its schema and its parsing.

Rules of the schema: durations are integers named `...Seconds`; no floats in spec;
every string, number, list and map is bounded; every field has a description, which
`kubectl explain` shows. Defaults live in `core`, never here: a default added to a
schema later would show up in stored objects.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

from longtask_operator.api.errors import SpecError

YEAR_SECONDS = 31_536_000
DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|Ki|Mi|Gi)?$"
ENV_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
LABEL_KEY = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
URI = r"^[a-z][a-z0-9+.-]*://.+$"

Duration = Annotated[int, Field(ge=1, le=YEAR_SECONDS, json_schema_extra={"format": "int64"})]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Quantity = Annotated[int | str, Field(json_schema_extra={"x-kubernetes-int-or-string": True, "maxLength": 20})]


class Model(BaseModel):
    """Base of all models: camelCase on the wire, unknown fields ignored as the API server prunes them."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


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


class NamedUri(Model):
    """A named reference to data outside the cluster."""

    name: str = Field(description="Name by which the worker finds it.", min_length=1, max_length=63, pattern=DNS_LABEL)
    uri: str = Field(description="Where the data is, for example s3://bucket/key.", max_length=2048, pattern=URI)


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


class RetryLimits(Model):
    """How many attempts may end by each cause before the task fails; 0 means no retry."""

    application: int | None = Field(
        None, description="Attempts that the task's own program ended with an error. Default 3.", ge=0, le=1000
    )
    never_started: int | None = Field(
        None, description="Attempts that did not start within startTimeoutSeconds. Default 3.", ge=0, le=1000
    )


class Backoff(Model):
    """The wait before the next attempt: initialSeconds * factor^(failures - 1), capped, with jitter."""

    initial_seconds: int | None = Field(None, description="The first wait, in seconds. Default 10.", ge=1, le=86_400)
    factor: int | None = Field(None, description="What each further wait is multiplied by. Default 2.", ge=1, le=10)
    max_seconds: int | None = Field(None, description="The longest wait, in seconds. Default 600.", ge=1, le=604_800)
    jitter_percent: int | None = Field(
        None, description="How far a wait may be longer or shorter by chance, in percent. Default 20.", ge=0, le=100
    )


class Retry(Model):
    """What happens after an attempt that did not complete."""

    limits: RetryLimits | None = Field(None, description="Budgets by cause. Each cause has its own.")
    backoff: Backoff | None = Field(None, description="How long to wait before the next attempt.")


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


_NAMED_MAP: JsonDict = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
_ATOMIC: JsonDict = {"x-kubernetes-list-type": "atomic"}
_PRESERVE: JsonDict = {"x-kubernetes-preserve-unknown-fields": True}


class LongTaskSpec(Model):
    """What to run and how.

    From the first admission until Finished only suspend, cancel, redrive, priority, deadlineSeconds and
    ttlSecondsAfterFinished may change; a finished task accepts any change, and a redrive runs it.
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
        json_schema_extra=_ATOMIC,
    )
    args: list[Annotated[str, Field(max_length=8192)]] | None = Field(
        None,
        description="Arguments of the program. Absent: the image's own.",
        max_length=256,
        json_schema_extra=_ATOMIC,
    )
    env: list[EnvVar] | None = Field(
        None,
        description="Environment variables, each with value or valueFrom. The operator adds its own, LONGTASK_*.",
        max_length=64,
        json_schema_extra=_NAMED_MAP,
    )
    payload: dict[str, Any] | None = Field(
        None,
        description="Input of the task, a JSON object of at most 16 KiB as compact JSON. The worker finds it in "
        "LONGTASK_PAYLOAD. Larger data goes by URI, in inputs.",
        json_schema_extra=_PRESERVE,
    )
    inputs: list[NamedUri] | None = Field(
        None,
        description="Data that the task reads, by reference. The worker finds it in LONGTASK_INPUTS.",
        max_length=16,
        json_schema_extra=_NAMED_MAP,
    )
    outputs: list[NamedUri] | None = Field(
        None,
        description="Places that the task writes to. The worker finds them in LONGTASK_OUTPUTS.",
        max_length=16,
        json_schema_extra=_NAMED_MAP,
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
        None, description="How long an admitted attempt may take to start. Then cause NeverStarted. Default 600."
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
    ttl_seconds_after_finished: (
        Annotated[int, Field(ge=0, le=YEAR_SECONDS, json_schema_extra={"format": "int64"})] | None
    ) = Field(
        None,
        description="Deletes the LongTask so long after it finished. Ignored for objects that Argo CD or Flux track. "
        "Absent: kept.",
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
        None, description="Taints that the pod tolerates.", max_length=16, json_schema_extra=_ATOMIC
    )


class Sizing(Model):
    """The size of the current attempt and why."""

    cpu: str = Field(description="CPU of the attempt.", max_length=20)
    memory: str = Field(description="Memory of the attempt.", max_length=20)
    display: str = Field(description="Both, for the SIZE column.", max_length=41)
    source: str = Field(description="Where the size comes from: Requested or Smallest.", max_length=63)
    message: str | None = Field(None, description="The same in a sentence.", max_length=1024)


class Progress(Model):
    """How far the current attempt is, as last mirrored from its reports."""

    percent: int | None = Field(
        None, description="Share done, 0 to 100; absent while the total is unknown.", ge=0, le=100
    )
    done: int | None = Field(None, description="Units done.", ge=0)
    total: int | None = Field(None, description="Units in all.", ge=0)
    unit: str | None = Field(None, description="What is counted, for example lines.", max_length=63)
    stage: str | None = Field(None, description="What the task does now, in a word.", max_length=63)
    message: str | None = Field(None, description="The worker's own words.", max_length=1024)
    display: str | None = Field(None, description="For the PROGRESS column.", max_length=63)
    estimated_finish: Time | None = Field(None, description="When the attempt ends at its present rate.")
    last_report_time: Time | None = Field(None, description="When the last mirrored report arrived.")


class Attempt(Model):
    """One attempt: one Job, one pod."""

    number: int = Field(description="Number of the attempt, from 1, never reused.", ge=1)
    run: int = Field(description="Run that the attempt belongs to.", ge=1)
    generation: int = Field(description="Generation of the spec that it was admitted with.", ge=0)
    job_name: str | None = Field(None, description="Its Job.", max_length=63)
    pod_name: str | None = Field(None, description="Its pod.", max_length=253)
    pod_uid: str | None = Field(None, description="UID of its pod.", max_length=63)
    node_name: str | None = Field(None, description="Node of its pod.", max_length=253)
    cpu: str | None = Field(None, description="CPU it was given.", max_length=20)
    memory: str | None = Field(None, description="Memory it was given.", max_length=20)
    start_time: Time | None = Field(None, description="When the task container started.")
    completion_time: Time | None = Field(None, description="When it ended.")
    cause: str | None = Field(None, description="Why it ended. Absent while it lives.", max_length=63)
    exit_code: int | None = Field(None, description="Exit code of the task container.", ge=-1, le=255)
    message: str | None = Field(None, description="More on the cause.", max_length=1024)
    log_tail: str | None = Field(None, description="The last lines of its log, on the newest two.", max_length=2048)


class Result(Model):
    """What the task returned: inline, or by reference."""

    value: Any | None = Field(None, description="The returned JSON value.", json_schema_extra=_PRESERVE)
    uri: str | None = Field(None, description="Where a larger result is.", max_length=2048)
    sha256: str | None = Field(None, description="SHA-256 of the data at uri, in hex.", max_length=64)
    size_bytes: int | None = Field(None, description="Size of the data at uri.", ge=0)


class Condition(Model):
    """A condition as in the Kubernetes API conventions."""

    type: str = Field(description="Type of the condition.", max_length=316)
    status: Literal["True", "False", "Unknown"] = Field(description="True, False or Unknown.")
    reason: str = Field(description="One word for programs.", max_length=1024)
    message: str = Field(description="A sentence for people.", max_length=32768)
    observed_generation: int | None = Field(None, description="Generation the condition was computed from.", ge=0)
    last_transition_time: Time = Field(description="When the status last changed.")


class LongTaskStatus(Model):
    """What the operator knows. Written by the operator alone; at most 32 KiB in all."""

    observed_generation: int | None = Field(
        None,
        description="Generation that this status describes; -1 before the first visit.",
        ge=-1,
    )
    phase: str | None = Field(
        None,
        description="A one-word summary for display: Pending, Queued, Starting, Running, Backoff, Suspended, "
        "Cancelling, Succeeded, Failed or Cancelled. Programs read the conditions.",
        max_length=63,
    )
    reason: str | None = Field(None, description="The one-word why behind the phase.", max_length=63)
    tenant: str | None = Field(None, description="Tenant the task counts for, from its namespace.", max_length=63)
    created_by: str | None = Field(None, description="Who created the task, as the API server saw it.", max_length=512)
    run: int | None = Field(None, description="Number of the run, from 1; rises with each redrive.", ge=1)
    last_redrive: str | None = Field(
        None, description="The value of spec.redrive that was last acted on or recorded.", max_length=253
    )
    attempt: int | None = Field(None, description="Number of the newest attempt; never falls.", ge=0)
    job_name: str | None = Field(None, description="Job of the newest attempt.", max_length=63)
    next_attempt_time: Time | None = Field(None, description="When the backoff ends.")
    sizing: Sizing | None = Field(None, description="Size of the newest attempt.")
    progress: Progress | None = Field(None, description="How far the newest attempt is.")
    attempts: list[Attempt] | None = Field(
        None,
        description="The last 10 attempts, newest last.",
        max_length=10,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["number"]},
    )
    attempt_counts: dict[str, int] | None = Field(
        None, description="Ended attempts of this run, by cause.", max_length=32
    )
    attempt_totals: dict[str, int] | None = Field(
        None, description="Ended attempts of all runs, by cause.", max_length=32
    )
    result: Result | None = Field(None, description="What the task returned.")
    start_time: Time | None = Field(None, description="When the first attempt of this run started.")
    run_start_time: Time | None = Field(None, description="When this run was created or redriven.")
    completion_time: Time | None = Field(None, description="When this run finished.")
    conditions: list[Condition] | None = Field(
        None,
        description="Admitted, Succeeded, Finished, Ready, and Stalled while it is so.",
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
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
        raise SpecError(path=path, message=first["msg"]) from None
