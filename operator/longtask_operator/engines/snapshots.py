"""What the decisions of a ledger rest on, put together from its entries and the quotas of all who share it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Protocol

from longtask_operator.core.fair_share import NOTHING
from longtask_operator.core.ledger import Entries, LedgerEntry, entries_with_persons
from longtask_operator.core.ledger_layout import Tenants as Held
from longtask_operator.core.ledger_layout import cohort_of, ledger_name
from longtask_operator.core.preemption import Run
from longtask_operator.core.quota import UNLIMITED, Amounts, Limits, usage_of
from longtask_operator.core.snapshot import Member, Snapshot, member_of
from longtask_operator.engines.claims import Claims
from longtask_operator.engines.fair_shares import FairShares
from longtask_operator.engines.persons import Persons


class Tenants(Protocol):
    """What is asked about tenants and the time."""

    def limits(self, tenant: str) -> Limits: ...  # noqa: D102
    def of_cohort(self, cohort: str) -> Iterable[str]: ...  # noqa: D102
    def user(self, uid: str) -> str: ...  # noqa: D102
    def run(self, entry: LedgerEntry) -> Run | None: ...  # noqa: D102
    def key(self, uid: str) -> str: ...  # noqa: D102
    def now(self) -> datetime: ...  # noqa: D102


class NoLimits:
    """Tenants without limits, in a time that stands still."""

    def limits(self, tenant: str) -> Limits:
        """Return no limits."""
        return UNLIMITED

    def of_cohort(self, cohort: str) -> Iterable[str]:
        """Return nobody."""
        return ()

    def user(self, uid: str) -> str:
        """Return no person."""
        return ""

    def run(self, entry: LedgerEntry) -> Run | None:
        """Return that nothing is known."""
        return None

    def key(self, uid: str) -> str:
        """Return that there is no such task."""
        return ""

    def now(self) -> datetime:
        """Return the same moment always."""
        return datetime(2000, 1, 1, tzinfo=UTC)


class Snapshots:
    """Makes snapshots; *shares* knows the decayed usage, *claims* for whom room is made, *persons* whose attempts are.

    *wake* is told the uid of a task that the claims concern; *most* says how many entries a ledger may hold.
    """

    def __init__(self, tenants: Tenants, wake: Callable[[str], None], most: Callable[[str], int]) -> None:
        self._tenants, self._most = tenants, most
        self._usages: dict[tuple[str, str], tuple[Entries, Amounts]] = {}  #: of entries that stay the same object
        self.shares = FairShares(tenants.now, self._usage)
        self.claims, self.persons = Claims(wake), Persons(tenants, most)

    def of(self, name: str, held: Held, waiting: Iterable[str]) -> Snapshot:
        """Return the snapshot of ledger *name* holding *held*; tenants of *waiting* that belong to it take part."""
        cohort = cohort_of(name)
        taking_part = {tenant: self._tenants.limits(tenant) for tenant in {*held, *waiting}}
        limits = {tenant: own for tenant, own in taking_part.items() if ledger_name(tenant, own.cohort) == name}
        limits |= {tenant: self._tenants.limits(tenant) for tenant in self._tenants.of_cohort(cohort)} if cohort else {}
        uses = self.shares.uses(name, held)
        members: dict[str, Member] = {}
        for tenant, own in limits.items():
            entries = held.get(tenant, {})
            usage, decayed = self._usage(name, tenant, entries), uses.get(tenant, NOTHING)
            members[tenant] = member_of(own, entries, self.persons.of, usage=usage, decayed=decayed)
        astray = [entries.values() for tenant, entries in held.items() if tenant not in members]
        strays = usage_of(entry for entries in astray for entry in entries)
        return Snapshot(
            members=members,
            cohort=cohort,
            strays=strays,
            max_entries=self._max_entries(name, held, limits.values()),
            claims=self.claims.of(name),
            runs=self._tenants.run,
            is_known=lambda uid: self.claims.is_unheard(uid) and bool(self._tenants.key(uid)),
        )

    def forget(self, name: str) -> None:
        """Forget what stood in ledger *name*, which is gone."""
        for known in [known for known in self._usages if known[0] == name]:
            del self._usages[known]

    def _max_entries(self, name: str, held: Held, limits: Iterable[Limits]) -> int:
        most = self._most(name)
        has_persons = any(own.per_user is not None for own in limits)
        return entries_with_persons(most, sum(map(len, held.values()))) if has_persons else most

    def _usage(self, name: str, tenant: str, entries: Entries) -> Amounts:
        """Return what *entries* hold; they are never changed in place."""
        known = self._usages.get((name, tenant))
        if known is None or known[0] is not entries:
            known = self._usages[(name, tenant)] = (entries, usage_of(entries.values()))
        return known[1]
