"""The status of a TenantQuota, from what its tenant uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from longtask_operator.api.identity import NOT_ENFORCED, CreatedBy
from longtask_operator.api.quantity import format_cpu, format_memory
from longtask_operator.api.reasons import QueueReason, QuotaConditionType, Reason
from longtask_operator.api.times import format_time
from longtask_operator.core.budgets import BudgetUse
from longtask_operator.core.quota import UNLIMITED, Amounts, Limits

T = QuotaConditionType
#: What of a status says what is used.
_USED = ("admitted", "usage", "borrowed", "budgets")


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantUse:
    """What a tenant uses now."""

    usage: Amounts
    limits: Limits = UNLIMITED
    queued: int = 0
    oldest: datetime | None = None  #: when the oldest run of those began that wait
    budgets: Sequence[BudgetUse] = ()
    unknown: str = ""  #: why nobody knows what is used, in a sentence
    created_by: CreatedBy = "Mutate"  #: how the API server keeps the names of persons true


def quota_status(before: Mapping[str, Any], generation: int, use: TenantUse, *, now: datetime) -> dict[str, Any]:
    """Return the status as plain data; equal to *before* where nothing changed."""
    status: dict[str, Any] = {
        "observedGeneration": generation,
        "queued": use.queued,
        "conditions": _conditions(before, generation, use, now),
    }
    if use.oldest:
        status["oldestQueuedTime"] = format_time(use.oldest)
    used = {key: before[key] for key in _USED if key in before} if use.unknown else _used(before, use)
    return status | used


def _used(before: Mapping[str, Any], use: TenantUse) -> dict[str, Any]:
    status: dict[str, Any] = {"admitted": use.usage.concurrency, "usage": _amounts(use.usage)}
    if use.limits.cohort:
        status["borrowed"] = _amounts(borrowed_of(use.usage, use.limits))
    if use.budgets:
        known = {entry.get("name"): entry for entry in before.get("budgets") or []}
        status["budgets"] = [_budget_status(known.get(one.budget.name) or {}, one) for one in use.budgets]
    return status


def borrowed_of(usage: Amounts, limits: Limits) -> Amounts:
    """Return what of *usage* is beyond the nominal quota; nothing of what is not limited."""

    def beyond(used: int, nominal: int | None) -> int:
        return 0 if nominal is None else max(0, used - nominal)

    return Amounts(
        concurrency=beyond(usage.concurrency, limits.concurrency),
        cpu=beyond(usage.cpu, limits.cpu),
        memory=beyond(usage.memory, limits.memory),
    )


def _amounts(amounts: Amounts) -> dict[str, Any]:
    return {
        "concurrency": amounts.concurrency,
        "cpu": format_cpu(amounts.cpu),
        "memory": format_memory(amounts.memory),
    }


def _budget_status(before: Mapping[str, Any], use: BudgetUse) -> dict[str, Any]:
    """Return how far a budget is used; as before while its percent is the same, for what runs spends all the time."""
    after = {"name": use.budget.name, "percent": use.percent, "state": use.state}
    if all(before.get(key) == value for key, value in after.items()):
        return dict(before)
    if use.budget.cpu_hours is not None:
        after["cpuHoursUsed"] = f"{use.cpu_hours:.2f}"
    if use.budget.memory_gib_hours is not None:
        after["memoryGibHoursUsed"] = f"{use.memory_gib_hours:.2f}"
    return after


def _conditions(before: Mapping[str, Any], generation: int, use: TenantUse, now: datetime) -> list[dict[str, Any]]:
    found = [_ready(use)]
    why = NOT_ENFORCED.get(use.created_by) if use.limits.per_user is not None else None
    if why:
        message = f"spec.perUser does not hold for everybody: {why}"
        found.append(_condition(T.PER_USER_NOT_ENFORCED, "True", f"CreatedBy{use.created_by}", message))
    return [
        {**one, "observedGeneration": generation, "lastTransitionTime": _since(before, one) or format_time(now)}
        for one in found
    ]


def _ready(use: TenantUse) -> dict[str, Any]:
    if use.limits.unreadable:
        return _condition(T.READY, "False", QueueReason.INVALID, use.limits.unreadable)
    if use.unknown:
        return _condition(T.READY, "False", Reason.LEDGER_UNREADABLE, use.unknown)
    return _condition(T.READY, "True", Reason.ACCEPTED, "the quota is enforced")


def _condition(kind: QuotaConditionType, status: str, reason: str, message: str) -> dict[str, Any]:
    return {"type": str(kind), "status": status, "reason": str(reason), "message": message}


def _since(before: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Return since when the condition *found* has the status that it has, or an empty string if it has not yet."""
    known: Mapping[str, Any] = next((c for c in before.get("conditions") or [] if c.get("type") == found["type"]), {})
    return known.get("lastTransitionTime") or "" if known.get("status") == found["status"] else ""
