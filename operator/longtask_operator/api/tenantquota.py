"""The TenantQuota kind: what a tenant may use, and what it uses now.

Terms and meaning follow Kueue's ClusterQueue where it has them: nominal, stopPolicy. An absent resource is not limited.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from longtask_operator.api.errors import SpecError
from longtask_operator.api.model import Model, Quantity, Time
from longtask_operator.api.status import Condition

MAX_COUNT = 10_000

Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]


class ConcurrencyQuota(Model):
    """Attempts at the same time."""

    nominal: Count = Field(description="The tenant's own attempts at the same time.")


class ResourceQuota(Model):
    """CPU or memory of all attempts together."""

    nominal: Quantity = Field(description="The tenant's own amount, for example 8 or 32Gi.")


class PerUser(Model):
    """Limits of each person in the tenant; ServiceAccounts are not persons."""

    max_concurrency: Count | None = Field(None, description="Attempts of one person at the same time.")


class MaxSize(Model):
    """The largest size of an attempt."""

    cpu: Quantity | None = Field(None, description="The most CPU of one attempt.")
    memory: Quantity | None = Field(None, description="The most memory of one attempt.")


class TenantQuotaSpec(Model):
    """What a tenant may use. Everything may be changed at any time; lowering stops nothing that runs."""

    concurrency: ConcurrencyQuota | None = Field(None, description="Attempts at the same time. Absent: not limited.")
    cpu: ResourceQuota | None = Field(None, description="CPU of all attempts together. Absent: not limited.")
    memory: ResourceQuota | None = Field(None, description="Memory of all attempts together. Absent: not limited.")
    per_user: PerUser | None = Field(None, description="Limits of each person.")
    max_queued: int | None = Field(
        None,
        description="Tasks that may wait; more of them say QueueFull until there is room. Absent: not limited.",
        ge=0,
        le=10_000_000,
    )
    max_size: MaxSize | None = Field(None, description="The largest size of an attempt.")
    max_priority: int | None = Field(
        None, description="Highest priority that counts; higher ones are lowered to it.", ge=-1000, le=1000
    )
    stop_policy: Literal["None", "Hold"] | None = Field(
        None,
        description="Hold: nothing new starts; what runs goes on. Default None.",
    )


class ResourceUse(Model):
    """Amounts by resource."""

    concurrency: int | None = Field(None, description="Attempts.", ge=0)
    cpu: str | None = Field(None, description="CPU.", max_length=20)
    memory: str | None = Field(None, description="Memory.", max_length=20)


class TenantQuotaStatus(Model):
    """What the tenant uses now. Written by the operator alone."""

    observed_generation: int | None = Field(None, description="Generation that this status describes.", ge=-1)
    admitted: int | None = Field(None, description="Attempts that hold quota.", ge=0)
    queued: int | None = Field(None, description="Tasks that wait for admission.", ge=0)
    usage: ResourceUse | None = Field(None, description="What live attempts hold.")
    oldest_queued_time: Time | None = Field(None, description="Since when the task waits that has waited longest.")
    conditions: list[Condition] | None = Field(
        None,
        description="Ready.",
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )


class TenantQuotaMetadata(Model):
    """The part of `metadata` that the operator uses."""

    name: str
    uid: str = ""
    resource_version: str = "0"
    generation: int = 0


class TenantQuota(Model):
    """A TenantQuota as read from the API server; named after its tenant."""

    metadata: TenantQuotaMetadata
    spec: TenantQuotaSpec = Field(default_factory=TenantQuotaSpec)
    status: TenantQuotaStatus = Field(default_factory=TenantQuotaStatus)


def parse_tenantquota(body: dict[str, Any]) -> TenantQuota:
    """Return the TenantQuota of an API object.

    Raises:
        SpecError: if the object does not have the shape of the schema.
    """
    try:
        return TenantQuota.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        raise SpecError(path=path, message=first["msg"]) from None
