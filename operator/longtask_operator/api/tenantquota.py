"""The TenantQuota kind: what a tenant may use, how it shares with its cohort, and what it uses now.

Terms and meaning follow Kueue's ClusterQueue where it has them: nominal, borrowingLimit,
lendingLimit, cohort, stopPolicy. An absent resource is not limited.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from longtask_operator.api.errors import SpecError
from longtask_operator.api.model import DNS_LABEL, Duration, Model, Quantity, Time
from longtask_operator.api.status import Condition

MAX_COUNT = 10_000
MAX_WEIGHT = 1000

Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Hours = Annotated[int, Field(ge=0, le=1_000_000_000)]


class ConcurrencyQuota(Model):
    """Attempts at the same time."""

    nominal: Count = Field(description="The tenant's own attempts at the same time.")
    borrowing_limit: Count | None = Field(
        None, description="How many more it may borrow from its cohort. Absent: all that is unused there."
    )
    lending_limit: Count | None = Field(
        None, description="How many of its own it lends at most while it does not use them. Absent: all."
    )


class ResourceQuota(Model):
    """CPU or memory of all attempts together, sidecars included."""

    nominal: Quantity = Field(description="The tenant's own amount, for example 8 or 32Gi.")
    borrowing_limit: Quantity | None = Field(
        None, description="How much more it may borrow from its cohort. Absent: all that is unused there."
    )
    lending_limit: Quantity | None = Field(
        None, description="How much of its own it lends at most while it does not use it. Absent: all."
    )


class PerUser(Model):
    """Limits of each person in the tenant; ServiceAccounts are not persons."""

    max_concurrency: Count | None = Field(None, description="Attempts of one person at the same time.")


class MaxSize(Model):
    """The largest size of an attempt."""

    cpu: Quantity | None = Field(None, description="The most CPU of one attempt.")
    memory: Quantity | None = Field(None, description="The most memory of one attempt.")


class Budget(Model):
    """An amount of compute in a window that rolls on."""

    name: str = Field(description="Name of the budget.", min_length=1, max_length=63, pattern=DNS_LABEL)
    window_seconds: Duration = Field(description="Length of the window, for example 2592000 for 30 days.")
    cpu_hours: Hours | None = Field(None, description="CPU-hours in the window, reserved sizes times time.")
    memory_gib_hours: Hours | None = Field(None, description="GiB-hours of memory in the window.")
    warn_percent: int | None = Field(
        None, description="Share from which on the state is Warning. Default 80.", ge=1, le=100
    )
    when_spent: Literal["Queue", "WarnOnly"] | None = Field(
        None,
        description="Queue: no attempt starts until the window has moved on. WarnOnly: only say so. Default Queue.",
    )


class TenantQuotaSpec(Model):
    """What a tenant may use. Everything may be changed at any time; lowering stops nothing that runs."""

    cohort: str | None = Field(
        None,
        description="Group of tenants that lend each other what they do not use. Absent: on its own.",
        max_length=63,
        pattern=DNS_LABEL,
    )
    weight: int | None = Field(
        None, description="Share beside other tenants of the cohort when all wait. Default 1.", ge=1, le=MAX_WEIGHT
    )
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
    stop_policy: Literal["None", "Hold", "HoldAndDrain"] | None = Field(
        None,
        description="Hold: nothing new starts. HoldAndDrain: what runs is stopped too and starts again later. Default "
        "None.",
    )
    preemption: Literal["Never", "LowerPriority", "ReclaimWithinCohort"] | None = Field(
        None,
        description="Whether a task that does not fit may stop others. LowerPriority: of this tenant, with lower "
        "priority. ReclaimWithinCohort: also those that borrow this tenant's nominal quota. Default Never.",
    )
    budgets: list[Budget] | None = Field(
        None,
        description="Amounts of compute in rolling windows.",
        max_length=8,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )


class ResourceUse(Model):
    """Amounts by resource."""

    concurrency: int | None = Field(None, description="Attempts.", ge=0)
    cpu: str | None = Field(None, description="CPU.", max_length=20)
    memory: str | None = Field(None, description="Memory.", max_length=20)


class BudgetStatus(Model):
    """How far a budget is used."""

    name: str = Field(description="Name of the budget.", max_length=63)
    cpu_hours_used: int | None = Field(None, description="CPU-hours used in the window.", ge=0)
    memory_gib_hours_used: int | None = Field(None, description="GiB-hours used in the window.", ge=0)
    percent: int = Field(description="Share used, of the resource that is used most.", ge=0)
    state: str = Field(description="Ok, Warning or Spent.", max_length=63)


class TenantQuotaStatus(Model):
    """What the tenant uses now. Written by the operator alone."""

    observed_generation: int | None = Field(None, description="Generation that this status describes.", ge=-1)
    admitted: int | None = Field(None, description="Attempts that hold quota.", ge=0)
    queued: int | None = Field(None, description="Tasks that wait for admission.", ge=0)
    usage: ResourceUse | None = Field(None, description="What live attempts hold.")
    borrowed: ResourceUse | None = Field(None, description="How much of it is above nominal.")
    oldest_queued_time: Time | None = Field(None, description="Since when the task waits that has waited longest.")
    budgets: list[BudgetStatus] | None = Field(
        None,
        description="How far the budgets are used.",
        max_length=8,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    conditions: list[Condition] | None = Field(
        None,
        description="Ready, and PerUserNotEnforced while it is so.",
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
