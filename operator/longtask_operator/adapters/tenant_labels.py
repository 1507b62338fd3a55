"""Which tenants have a label of their own in the metrics: those with a TenantQuota first, the rest is `_other`."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable
from typing import TypeVar

from prometheus_client import Counter, Gauge

OTHER = "_other"

M = TypeVar("M", Counter, Gauge)
Moved = Callable[[str, str, str], None]


class TenantLabels:
    """Gives out at most *most* label values; *moved* is told tenant, old and new value when a known one changes.

    Values go to whoever comes, while there are any. After that a tenant with a TenantQuota takes the newest of those
    without one. Who is forgotten leaves its value to the next who comes, which may have been counted as others.
    """

    def __init__(self, most: int, moved: Moved) -> None:
        self._most, self._moved = most, moved
        self._named: dict[str, None] = {}  #: in the order in which they got their value
        self._with_quota: set[str] = set()

    def of(self, tenant: str | None) -> str:
        """Return the label value of *tenant*: its name, or `_other`."""
        if not tenant:
            return OTHER
        if tenant not in self._named and len(self._named) < self._most:
            self._named[tenant] = None
            self._moved(tenant, OTHER, tenant)
        return tenant if tenant in self._named else OTHER

    def tenants(self) -> list[str]:
        """Return the tenants that have a value of their own."""
        return list(self._named)

    def forget(self, tenant: str) -> None:
        """Let others have the value of *tenant*, which is gone."""
        if tenant in self._named:
            del self._named[tenant]
            self._moved(tenant, tenant, OTHER)

    def set_quota(self, tenant: str, has_one: bool) -> None:
        """Take note of whether *tenant* has a TenantQuota; without one it keeps its value until another needs it."""
        if not has_one:
            self._with_quota.discard(tenant)
            return
        self._with_quota.add(tenant)
        if self.of(tenant) == OTHER and (newest := self._newest_without()):
            del self._named[newest]
            self._named[tenant] = None
            self._moved(newest, newest, OTHER)
            self._moved(tenant, OTHER, tenant)

    def _newest_without(self) -> str | None:
        return next((tenant for tenant in reversed(self._named) if tenant not in self._with_quota), None)


class TenantSeries:
    """The series with a label `tenant`, and what follows when a tenant gets or loses a value of its own."""

    def __init__(self, most: int) -> None:
        self.labels = TenantLabels(most, self._moved)
        self._kept: list[Counter | Gauge] = []
        self._tallies: dict[str, Tally[tuple[Gauge, tuple[str, ...]]]] = {}  #: what `add` added up, by tenant

    def keep(self, metric: M, labels: tuple[str, ...]) -> M:
        """Take note of *metric* if it has a label `tenant`, and return it."""
        if "tenant" in labels:
            self._kept.append(metric)
        return metric

    def add(self, tenant: str | None, gauge: Gauge, step: int, *rest: str) -> None:
        """Add *step* to what *gauge* counts of *tenant*; *rest* are its further labels."""
        gauge.labels(self.labels.of(tenant), *rest).inc(step)
        if step and tenant:
            tally = self._tallies.setdefault(tenant, Tally())
            tally[gauge, rest] += step
            if not tally[gauge, rest]:
                del tally[gauge, rest]
            if not tally:  # tenants may come and go by the thousand
                del self._tallies[tenant]

    def _moved(self, tenant: str, before: str, after: str) -> None:
        """Take what is counted of *tenant* along; what its counters had counted so far ends with its value."""
        for (gauge, rest), number in self._tallies.get(tenant, {}).items():
            gauge.labels(before, *rest).dec(number)
            gauge.labels(after, *rest).inc(number)
        for metric in self._kept if before != OTHER else ():
            metric.remove_by_labels({"tenant": before})
