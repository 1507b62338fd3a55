"""Settings of the operator, read once from the environment by `app` and passed down.

Each variable is `LONGTASK_OPERATOR_<NAME>` and has its value in the chart; a contract
test compares the two.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ENV_PREFIX = "LONGTASK_OPERATOR_"


class Settings(BaseSettings):
    """All settings. Seconds unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="forbid")

    namespace: str = Field(
        "longtask-system", description="Namespace of the operator: its Lease, ledgers and certificate."
    )
    identity: str = Field(
        "", description="Name of this replica in the Lease; the pod's name. Empty: host name and a random part."
    )
    pod_ip: str = Field("127.0.0.1", description="Address under which the leader publishes its report server.")

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least severe log lines written."
    )
    log_format: Literal["json", "console"] = Field("json", description="json for collectors, console for people.")

    lease_name: str = Field("longtask-operator", description="Lease that the leader holds.")
    lease_duration_seconds: float = Field(
        15, description="After so long without renewal another replica takes over.", ge=5, le=300
    )
    lease_renew_deadline_seconds: float = Field(
        10, description="After so long without a successful renewal the leader stops.", ge=2, le=290
    )
    lease_retry_seconds: float = Field(2, description="Time between renewals.", ge=0.5, le=60)

    workers: int = Field(16, description="Tasks reconciled at the same time.", ge=1, le=256)
    api_connections: int = Field(32, description="Connections to the API server at most.", ge=4, le=512)
    relist_seconds: float = Field(600, description="Time between full lists that repair the cache.", ge=10, le=86_400)

    ladder: Annotated[str, NoDecode] = Field(
        "250m=512Mi,1Gi,2Gi;500m=1Gi,2Gi,3Gi,4Gi;1=2Gi,3Gi,4Gi,5Gi,6Gi,7Gi,8Gi;2=4Gi,5Gi,6Gi,7Gi,8Gi;4=8Gi",
        description="Legal sizes: cpu=memory,memory;cpu=memory.",
    )
    input_rules: str = Field(
        "",
        description="Memory for the inputs of tasks that ask for none, by image: image=memory+percent%;…, the first "
        "that fits counts. Empty: nothing is derived from inputs.",
    )
    input_uris: str = Field(
        "",
        description="Comma-separated places, s3://bucket/ or s3://bucket/folder/, of objects whose sizes the operator "
        "may ask for; {tenant} in one stands for the task's tenant. Empty: it asks for none.",
    )
    input_wait_seconds: float = Field(
        5, description="How long a task may wait for the sizes of its inputs before it is queued without.", ge=0, le=60
    )
    history_days: int = Field(
        30,
        description="Days for which it counts what attempts needed, for the first size of tasks that ask for none. "
        "0: it does not count.",
        ge=0,
        le=365,
    )
    history_quantile_percent: int = Field(
        90, description="So many percent of the attempts of a kind that succeeded had enough.", ge=1, le=100
    )
    history_headroom_percent: int = Field(
        25, description="Memory beyond what that many had needed at their peak.", ge=0, le=400
    )
    live_threshold_percent: int = Field(
        80,
        description="Share of its memory that a running attempt may report in use before it is resized in place. "
        "0: running attempts are not resized.",
        ge=0,
        le=95,
    )
    tenants_unlabelled: Literal["Own", "Refuse"] = Field(
        "Own",
        description="Tenant of a namespace without the label longtask.dev/tenant: the namespace's own name, "
        "unless others are labelled with it, or none.",
    )

    kueue: bool = Field(False, description="Whether tasks with spec.queueName are handed to Kueue.")
    created_by: Literal["Mutate", "Validate", "Off"] = Field(
        "Mutate",
        description="How the API server keeps longtask.dev/created-by true: it writes it, refuses a wrong one, or "
        "neither. The operator only tells of it.",
    )
    default_concurrency: int = Field(
        5, description="Attempts at the same time of a tenant without a TenantQuota.", ge=0, le=10_000
    )
    default_cpu: str = Field("", description="CPU of all attempts of such a tenant together. Empty: not limited.")
    default_memory: str = Field("", description="Memory of all attempts of such a tenant together. Empty: not limited.")

    attempt_retention_seconds: int = Field(
        3600, description="How long finished Jobs stay for kubectl logs.", ge=0, le=2_592_000
    )
    termination_grace_seconds: int = Field(
        30, description="Time between SIGTERM and SIGKILL of an attempt.", ge=1, le=3600
    )
    start_limit_config_seconds: int = Field(
        120,
        description="How long a start may stand still for InvalidImageName, ErrImageNeverPull or "
        "CreateContainerConfigError.",
        ge=1,
        le=86_400,
    )
    start_limit_image_seconds: int = Field(
        300,
        description="How long a start may stand still for ErrImagePull, ImagePullBackOff or ImageInspectError.",
        ge=1,
        le=86_400,
    )
    start_limit_container_seconds: int = Field(
        300, description="How long a start may stand still for CreateContainerError.", ge=1, le=86_400
    )
    checkpoint_wait_seconds: int = Field(
        30,
        description="How long a worker that reports may take to save a checkpoint before it is suspended or gives way.",
        ge=0,
        le=3600,
    )
    cancel_wait_seconds: int = Field(
        10, description="How long a worker that reports may take to end by itself once it is cancelled.", ge=0, le=3600
    )
    ephemeral_storage_limit: str = Field("1Gi", description="Limit of /tmp, which is $HOME as well, of each attempt.")
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = Field(
        "IfNotPresent", description="Pull policy of task images."
    )
    copied_labels: Annotated[str, NoDecode] = Field(
        "", description="Comma-separated label keys that are copied from a LongTask to its Jobs and Pods."
    )
    sidecar_image: str = Field("longtask/worker:0.1.0", description="Image of the progress file sidecar.")

    report_port: int = Field(8443, description="Port of the report server, TLS.", ge=1, le=65_535)
    report_host: str = Field(
        "longtask-reports.longtask-system.svc", description="Host name in the URL that workers report to."
    )
    report_service: str = Field("longtask-reports", description="Service whose EndpointSlice the leader writes.")
    report_certificate_days: int = Field(
        365, description="Life of the serving certificate; renewed at two thirds.", ge=1, le=3650
    )
    progress_interval_seconds: float = Field(
        10, description="Least time between two progress writes of a task.", ge=1, le=3600
    )
    progress_writes_per_second: float = Field(
        20, description="Progress writes of all tasks together, at most.", gt=0, le=1000
    )

    http_port: int = Field(8080, description="Port of /metrics, /healthz and /readyz.", ge=1, le=65_535)
    metrics_max_tenants: int = Field(
        100,
        description="Tenants with a label value of their own, those with a TenantQuota first; the rest is _other.",
        ge=1,
        le=10_000,
    )
