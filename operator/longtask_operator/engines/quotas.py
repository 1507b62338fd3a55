"""The tenants' limits as they stand now, from TenantQuotas or the default; a change is told at once.

A TenantQuota that cannot be read puts its tenant on hold: guessing a limit could start too much.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import structlog

from longtask_operator.adapters.quotas import QuotaView
from longtask_operator.adapters.tasks import TaskRecord
from longtask_operator.api.errors import SpecError
from longtask_operator.core.budgets import Budget, BudgetUse, budgets_of, describe_spent
from longtask_operator.core.editions import NO_QUOTA, edition_of
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.ledger_layout import ledger_name
from longtask_operator.core.preemption import Run
from longtask_operator.core.quota import NO_AMOUNTS, Limits, limits_of
from longtask_operator.core.room import Room
from longtask_operator.core.terms import Terms, terms_of
from longtask_operator.engines.context import Context
from longtask_operator.engines.runs import Runs

log = structlog.get_logger("longtask.quotas")


class Quotas:
    """Answers the admission loop's questions about tenants; fed by the caches."""

    def __init__(self, context: Context, default: Limits) -> None:
        self._context, self._default = context, default
        self._limits: dict[str, Limits] = {}
        self._terms: dict[str, Terms] = {}  #: as last asked for, while no TenantQuota changes
        self._users: dict[str, str] = {}
        self.adrift: set[str] = set()  #: tenants of whose TenantQuotas `cohort` cannot be read
        self.runs = Runs(context.caches.tasks, context.caches.pods, self.now)
        self.budgets: dict[str, tuple[Budget, ...]] = {}  #: of tenants that have any
        self.uses: Callable[[str], list[BudgetUse]] = lambda tenant: []  #: how far a tenant's budgets are used
        self.listeners: list[Callable[[str], None]] = []  #: told the tenant whose limits changed
        context.caches.quotas.listeners.append(self._quota_changed)
        context.caches.tasks.listeners.append(self._task_changed)

    def limits(self, tenant: str) -> Limits:
        """Return what *tenant* may use."""
        limits = self._limits.get(tenant, self._default)
        if tenant in self.budgets and (spent := describe_spent(self.uses(tenant), limits.origin)):
            return replace(limits, spent=spent)
        return limits

    def terms(self, tenant: str) -> Terms:
        """Return what the quota of *tenant* says of its tasks, whatever runs now."""
        limits, known = self.limits(tenant), self._terms.get(tenant)
        if known is None or (known.limits is not limits and known.limits != limits):
            members = self.of_cohort(limits.cohort) if limits.cohort else [tenant]
            room = Room({one: (self._limits.get(one, self._default), NO_AMOUNTS) for one in members})
            known = self._terms[tenant] = terms_of(tenant, limits, room)
        return known

    def tenants(self) -> list[str]:
        """Return the tenants whose terms were asked for since a TenantQuota changed."""
        return list(self._terms)

    def forget(self, tenant: str) -> None:
        """Forget the terms of a tenant that is gone."""
        self._terms.pop(tenant, None)

    def is_unreadable(self, tenant: str) -> bool:
        """Return whether the TenantQuota of *tenant* cannot be read as it is."""
        return bool(self._limits.get(tenant, self._default).unreadable)

    def ledger_of(self, tenant: str) -> str:
        """Return the name of the ledger that the attempts of *tenant* belong to."""
        return ledger_name(tenant, self._cohort(tenant))

    def has_cohort(self, tenant: str) -> bool:
        """Return whether *tenant* shares what it has with others."""
        return bool(self._cohort(tenant))

    def stay(self, tenant: str, cohort: str) -> None:
        """Let *tenant* belong to *cohort*, or to none, while its TenantQuota does not say where it belongs."""
        if tenant in self.adrift and self._cohort(tenant) != cohort:
            self._terms.clear()
            self._limits[tenant] = replace(self._limits[tenant], cohort=cohort)
            self.changed(tenant)

    def edition(self, tenant: str) -> str:
        """Return which edition of its TenantQuota the limits of *tenant* come from."""
        view = self._context.caches.quotas.get("", tenant)
        return edition_of(view.uid, view.generation) if view else NO_QUOTA

    def of_cohort(self, cohort: str) -> list[str]:
        """Return the tenants whose quotas name *cohort*."""
        return [tenant for tenant, limits in self._limits.items() if limits.cohort == cohort]

    def user(self, uid: str) -> str:
        """Return the person who created the task of *uid*, or an empty string."""
        return self._users.get(uid, "")

    def run(self, entry: LedgerEntry) -> Run | None:
        """Return what is known of a live attempt; None where its task is gone or finished."""
        return self.runs.of(entry)

    def key(self, uid: str) -> str:
        """Return namespace/name of a task that has not finished, or an empty string."""
        return self.runs.key(uid)

    def now(self) -> datetime:
        """Return the present time."""
        return self._context.clock.now()

    def changed(self, tenant: str) -> None:
        """Tell everybody that the limits of *tenant* are others now."""
        for listener in self.listeners:
            listener(tenant)

    def _cohort(self, tenant: str) -> str:
        return self._limits.get(tenant, self._default).cohort

    def _quota_changed(self, before: QuotaView | None, after: QuotaView | None) -> None:
        view = after or before
        if view is None or (before and after and before.generation == after.generation and before.uid == after.uid):
            return
        self._terms.clear()
        self.adrift.discard(view.name)
        if after:
            limits, budgets = _readable(after)
            if "cohort" in limits.unread:
                self.adrift.add(after.name)
                limits = replace(limits, cohort=self._cohort(after.name))
            self._limits[after.name] = limits
        else:
            self._limits.pop(view.name, None)
            budgets = ()
        if budgets:
            self.budgets[view.name] = budgets
        else:
            self.budgets.pop(view.name, None)
        self.changed(view.name)

    def _task_changed(self, before: TaskRecord | None, after: TaskRecord | None) -> None:
        if before and (after is None or after.uid != before.uid or not after.user):
            self._users.pop(before.uid, None)
        if after and after.user:
            self._users[after.uid] = after.user


def _readable(view: QuotaView) -> tuple[Limits, tuple[Budget, ...]]:
    """Return the limits and budgets of a TenantQuota; one that cannot be read is on hold.

    What can be read of it stands: what its tenant has counts in its cohort, and what it spent is not forgotten.
    """
    try:
        return _read(view)
    except (SpecError, ValueError) as error:
        log.error("a TenantQuota cannot be read; its tenant is on hold until it is", quota=view.name, error=str(error))
        why = f"TenantQuota {view.name} cannot be read: {error}; nothing starts until it is corrected"
        unread = frozenset(key for key in view.spec if not _is_sound(view, key))
        limits, budgets = _read(replace(view, spec={key: view.spec[key] for key in view.spec.keys() - unread}))
        return replace(limits, on_hold=True, unreadable=why, unread=unread), budgets


def _read(view: QuotaView) -> tuple[Limits, tuple[Budget, ...]]:
    spec = view.parse_spec()
    return limits_of(view.name, spec), budgets_of(spec)


def _is_sound(view: QuotaView, field: str) -> bool:
    """Whether that field of the spec can be read by itself."""
    try:
        _read(replace(view, spec={field: view.spec[field]}))
    except (SpecError, ValueError):
        return False
    return True
