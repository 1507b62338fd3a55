"""The TenantQuota kind: what a tenant may use, and what it uses now.

Terms and meaning follow Kueue's ClusterQueue where it has them: nominal, borrowingLimit, lendingLimit, cohort,
stopPolicy. An absent resource is not limited, and has no part in what a cohort lends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from longtask_operator.api.errors import SpecError
from longtask_operator.api.model import DNS_LABEL, NAMED_MAP, OWN_WORDS, YEAR_SECONDS, Model, Quantity, Time
from longtask_operator.api.status import Condition
from longtask_operator.api.text import shown

MAX_COUNT = 10_000

Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]

_BORROWING = "The most that may be borrowed from the cohort beyond nominal. Absent: whatever the others leave."
_LENDING = "The most of nominal that others of the cohort may borrow while it is not used. Absent: all of it."


class ConcurrencyQuota(Model):
    """Attempts at the same time."""

    nominal: Count = Field(description="The tenant's own attempts at the same time.")
    borrowing_limit: Count | None = Field(None, description=_BORROWING)
    lending_limit: Count | None = Field(None, description=_LENDING)


class ResourceQuota(Model):
    """CPU or memory of all attempts together."""

    nominal: Quantity = Field(description="The tenant's own amount, for example 8 or 32Gi.")
    borrowing_limit: Quantity | None = Field(None, description=_BORROWING)
    lending_limit: Quantity | None = Field(None, description=_LENDING)


class PerUser(Model):
    """Limits of each person in the tenant; ServiceAccounts are not persons."""

    max_concurrency: Count | None = Field(None, description="Attempts of one person at the same time.")


class MaxSize(Model):
    """The largest size of an attempt."""

    cpu: Quantity | None = Field(None, description="The most CPU of one attempt.")
    memory: Quantity | None = Field(None, description="The most memory of one attempt.")


class Budget(Model):
    """CPU-hours and GiB-hours that the tenant may hold within a rolling window."""

    name: str = Field(description="Name of the budget.", min_length=1, max_length=63, pattern=DNS_LABEL)
    window_seconds: int = Field(
        description="Length of the window, in seconds: 3600 an hour, 2592000 thirty days. It rolls in steps of a 24th.",
        ge=60,
        le=YEAR_SECONDS,
    )
    cpu_hours: int | None = Field(
        None, description="CPU-hours within the window. Absent: not limited.", ge=1, le=1_000_000_000
    )
    memory_gib_hours: int | None = Field(
        None, description="GiB-hours of memory within the window. Absent: not limited.", ge=1, le=1_000_000_000
    )
    warn_percent: int | None = Field(
        None, description="From this share on the budget's state is Warning. Default 80.", ge=1, le=100
    )
    when_spent: Literal["Queue", "WarnOnly"] | None = Field(
        None,
        description="Queue: nothing starts until the window has rolled on; what runs goes on. WarnOnly: the state says "
        "so and nothing else happens. Default Queue.",
    )


class TenantQuotaSpec(Model):
    """What a tenant may use. Everything may be changed at any time; lowering a limit alone stops nothing that runs."""

    cohort: str | None = Field(
        None,
        description="Tenants of one cohort lend each other what they do not use. Absent: the tenant is on its own.",
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        min_length=1,
        max_length=63,
    )
    weight: int | None = Field(
        None,
        description="Share of what the cohort has to lend, in proportion to the others' weights. Default 1.",
        ge=1,
        le=1000,
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
        description="Hold: nothing new starts; what runs goes on. HoldAndDrain: what runs is stopped too, asked for a "
        "checkpoint first, keeps its place and goes on later. Default None.",
    )
    preemption: Literal["Never", "LowerPriority", "ReclaimWithinCohort"] | None = Field(
        None,
        description="Who gives way to a waiting task of the tenant. LowerPriority: its own attempts of lower "
        "priority. ReclaimWithinCohort: attempts of others that borrow, where the task is within the nominal quota. "
        "Default Never.",
    )
    budgets: list[Budget] | None = Field(
        None,
        description="Rolling budgets of CPU-hours and GiB-hours.",
        max_length=4,
        json_schema_extra=NAMED_MAP,
    )


class BudgetStatus(Model):
    """How far a budget is used."""

    name: str = Field(description="Name of the budget.", max_length=63)
    cpu_hours_used: str | None = Field(
        None, description="CPU-hours held within the window, as of the last change of percent.", max_length=20
    )
    memory_gib_hours_used: str | None = Field(
        None, description="GiB-hours held within the window, as of the last change of percent.", max_length=20
    )
    percent: int | None = Field(None, description="Share used of the resource that is used most.", ge=0)
    state: str | None = Field(None, description="Ok, Warning or Spent.", max_length=63)


class ResourceUse(Model):
    """Amounts by resource."""

    concurrency: int | None = Field(None, description="Attempts.", ge=0)
    cpu: str | None = Field(None, description="CPU.", max_length=20)
    memory: str | None = Field(None, description="Memory.", max_length=20)


class TenantQuotaStatus(Model):
    """What the tenant uses now. Written by the operator alone."""

    observed_generation: int | None = Field(None, description="Generation that this status describes.", ge=-1)
    admitted: int | None = Field(None, description="Attempts that hold quota.", ge=0)
    queued: int | None = Field(
        None,
        description="Tasks that wait for admission; those in a backoff, or refused a moment ago, do not.",
        ge=0,
    )
    usage: ResourceUse | None = Field(None, description="What live attempts hold.")
    borrowed: ResourceUse | None = Field(None, description="What of that is borrowed from the cohort.")
    oldest_queued_time: Time | None = Field(
        None,
        description="When the oldest run of those began that wait for admission: creation or redrive of the task, "
        "whatever ran since.",
    )
    budgets: list[BudgetStatus] | None = Field(
        None, description="The budgets of spec.", max_length=4, json_schema_extra=NAMED_MAP
    )
    conditions: list[Condition] | None = Field(
        None,
        description="Ready, False while the quota or its ledger cannot be read and nothing starts; PerUserNotEnforced "
        "while spec.perUser does not hold for everybody.",
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
        SpecError: if the object does not have the shape of the schema; it names the value.
    """
    try:
        return TenantQuota.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        raise SpecError(path=path, message=_said(first)) from None


def _said(error: Mapping[str, Any]) -> str:
    """Say what is wrong with a value, and which it is: nothing in a quota is secret."""
    kind, message = error["type"], str(error["msg"])
    if kind == "missing":
        return "is needed"
    if kind == "value_error":  # the words of ours
        return message.removeprefix(OWN_WORDS)
    _, found, wanted = message.partition(" should ")
    why = "it should be an object" if kind == "model_type" else f"it should {wanted}" if found else message
    return f"{shown(error['input'])} is not valid: {why}"
