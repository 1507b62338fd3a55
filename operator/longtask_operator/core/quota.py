"""What a tenant may use and what its live attempts hold.

Amounts follow the ledger: an attempt holds its size from its admission until no live pod
of it remains. A limit that is absent does not limit; lowering one alone stops nothing that
runs, it only lets nothing start until there is room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pydantic.alias_generators import to_camel

from longtask_operator.api.errors import SpecError
from longtask_operator.api.quantity import describe_memory, format_cpu, parse_cpu, parse_memory
from longtask_operator.api.tenantquota import TenantQuotaSpec
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.sizing import Size

#: Who gives way for the waiting tasks of a tenant, see `preemption.py`.
NEVER, LOWER_PRIORITY, RECLAIM = "Never", "LowerPriority", "ReclaimWithinCohort"


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """Attempts, CPU in millicores, memory in bytes."""

    concurrency: int = 0
    cpu: int = 0
    memory: int = 0

    def plus(self, size: Size) -> Amounts:
        """Return the amounts with one more attempt of *size*."""
        return Amounts(concurrency=self.concurrency + 1, cpu=self.cpu + size.cpu, memory=self.memory + size.memory)


NO_AMOUNTS = Amounts()


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """Attempts, CPU in millicores, memory in bytes; None does not limit."""

    concurrency: int | None = None
    cpu: int | None = None
    memory: int | None = None


NO_CAPS = Caps()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a tenant may use; None does not limit. *origin* names where they come from, for messages."""

    origin: str = "no quota"
    concurrency: int | None = None
    cpu: int | None = None
    memory: int | None = None
    per_user: int | None = None
    max_queued: int | None = None
    max_cpu: int | None = None
    max_memory: int | None = None
    max_priority: int | None = None
    on_hold: bool = False  #: nothing starts
    draining: bool = False  #: what runs gives way
    unreadable: str = ""  #: why its TenantQuota cannot be read and what to do, in a sentence
    unread: frozenset[str] = frozenset()  #: the fields of its spec that cannot be read
    spent: str = ""  #: which budget lets nothing start, in a sentence
    cohort: str = ""  #: whose members share one ledger; empty for a lone tenant
    weight: int = 1
    borrowing: Caps = NO_CAPS  #: what may be taken beyond the nominal quota, where the cohort has it
    lending: Caps = NO_CAPS  #: what others of the cohort may take of the nominal quota
    preemption: str = NEVER


UNLIMITED = Limits()


def limits_of(name: str, spec: TenantQuotaSpec) -> Limits:
    """Return the limits that the TenantQuota *name* sets.

    Raises:
        SpecError: if a quantity cannot be read.
    """
    return Limits(
        origin=f"TenantQuota {name}",
        concurrency=spec.concurrency.nominal if spec.concurrency else None,
        cpu=_amount(parse_cpu, spec, "cpu", "nominal"),
        memory=_amount(parse_memory, spec, "memory", "nominal"),
        per_user=spec.per_user.max_concurrency if spec.per_user else None,
        max_queued=spec.max_queued,
        max_cpu=_amount(parse_cpu, spec, "max_size", "cpu"),
        max_memory=_amount(parse_memory, spec, "max_size", "memory"),
        max_priority=spec.max_priority,
        on_hold=spec.stop_policy not in (None, "None"),
        draining=spec.stop_policy == "HoldAndDrain",
        cohort=spec.cohort or "",
        weight=spec.weight or 1,
        borrowing=_caps(spec, "borrowing_limit"),
        lending=_caps(spec, "lending_limit"),
        preemption=spec.preemption or NEVER,
    )


def default_limits(concurrency: int, cpu: str, memory: str) -> Limits:
    """Return the limits of tenants without a TenantQuota; empty texts do not limit.

    Raises:
        ValueError: if a quantity cannot be read.
    """
    return Limits(
        origin="the default quota",
        concurrency=concurrency,
        cpu=parse_cpu(cpu) if cpu else None,
        memory=parse_memory(memory) if memory else None,
    )


def usage_of(entries: Iterable[LedgerEntry]) -> Amounts:
    """Return what *entries* hold together; those that Kueue admits hold nothing."""
    sizes = [entry.held for entry in entries if not entry.handed_over]
    return Amounts(
        concurrency=len(sizes), cpu=sum(size.cpu for size in sizes), memory=sum(size.memory for size in sizes)
    )


def never_fits(size: Size, limits: Limits) -> str:
    """Return why an attempt of *size* could not start even alone, or an empty string."""
    if limits.concurrency == 0:
        return f"{limits.origin} allows no attempts: concurrency is 0"
    if limits.cpu is not None and size.cpu > limits.cpu:
        return f"the attempt needs {format_cpu(size.cpu)} CPU and {limits.origin} has {format_cpu(limits.cpu)} in all"
    if limits.memory is not None and size.memory > limits.memory:
        asked, all_of_it = describe_memory(size.memory), describe_memory(limits.memory)
        return f"the attempt needs {asked} memory and {limits.origin} has {all_of_it} in all"
    return ""


def exceeds_max_size(size: Size, limits: Limits) -> str:
    """Return why an attempt of *size* is larger than one attempt may be, or an empty string."""
    if not _within(size.cpu, limits.max_cpu):
        return f"{size.display} has more CPU than maxSize of {limits.origin} allows: {format_cpu(limits.max_cpu or 0)}"
    if not _within(size.memory, limits.max_memory):
        allowed = describe_memory(limits.max_memory or 0)
        return f"{size.display} has more memory than maxSize of {limits.origin} allows: {allowed}"
    return ""


def describe_shortage(tenant: str, size: Size, usage: Amounts, limits: Limits) -> str:
    """Return in a sentence what is used up, or an empty string if an attempt of *size* fits."""
    if limits.concurrency is not None and usage.concurrency >= limits.concurrency:
        return f"tenant {tenant} uses {usage.concurrency} of {limits.concurrency} concurrent tasks"
    if limits.cpu is not None and usage.cpu + size.cpu > limits.cpu:
        used, of = format_cpu(usage.cpu), format_cpu(limits.cpu)
        return f"tenant {tenant} uses {used} of {of} CPU; this task needs {format_cpu(size.cpu)}"
    if limits.memory is not None and usage.memory + size.memory > limits.memory:
        used, of = describe_memory(usage.memory), describe_memory(limits.memory)
        return f"tenant {tenant} uses {used} of {of} memory; this task needs {describe_memory(size.memory)}"
    return ""


def _amount(parse: Callable[[str | int], int], spec: TenantQuotaSpec, group: str, field: str) -> int | None:
    """Return the quantity in that *field* of a *group* of the spec, None where it is absent. Raises SpecError."""
    value = getattr(getattr(spec, group), field, None)
    try:
        return None if value is None else parse(value)
    except ValueError as error:
        raise SpecError(f"spec.{to_camel(group)}.{to_camel(field)}", str(error)) from None


def _caps(spec: TenantQuotaSpec, field: str) -> Caps:
    return Caps(
        concurrency=getattr(spec.concurrency, field, None),
        cpu=_amount(parse_cpu, spec, "cpu", field),
        memory=_amount(parse_memory, spec, "memory", field),
    )


def _within(amount: int, limit: int | None) -> bool:
    return limit is None or amount <= limit
