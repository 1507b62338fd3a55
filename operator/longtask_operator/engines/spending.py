"""What tenants with budgets have spent: carried along in the ledgers, so that it is exact and survives everybody.

What a tenant holds changes only when a ledger is written, and that very write carries the sum up to then. Between
two writes the present sum is computed when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from longtask_operator.core.budgets import (
    Budget,
    BudgetUse,
    Spending,
    advance,
    advance_blindly,
    format_spending,
    parse_spending,
    uses_of,
)
from longtask_operator.core.ledger_layout import Tenants
from longtask_operator.engines.ledgers import Ledgers, remember

_TENANT = "tenant "
log = structlog.get_logger("longtask.spending")


@dataclass(slots=True)
class Spendings:
    """A rider of the ledgers. *home* names the ledger of a tenant; *budgets* are those of all tenants that have any."""

    ledgers: Ledgers
    budgets: dict[str, tuple[Budget, ...]]
    home: Callable[[str], str]
    now: Callable[[], datetime]
    #: Whether the budgets of a tenant may be among what cannot be read of its TenantQuota.
    is_unreadable: Callable[[str], bool] = lambda tenant: False
    key: str = "budgets.spent"
    urgent: bool = False
    lasts: bool = True
    _known: dict[str, Spending] = field(default_factory=dict)
    _carried: dict[str, dict[str, int]] = field(default_factory=dict)  #: ledger -> tenant -> time of what it carries

    def text(self, name: str, before: Tenants, after: Tenants) -> str:
        """Return what ledger *name* is to carry: the spending until now of its tenants that have budgets.

        So it does for those that left it, until their new home does: nothing of a tenant that has spent its budget
        starts, so that may be days later. And whenever what it holds of one that has left changes: what that held
        until now stands nowhere else.
        """
        return "\n".join(
            f"{_TENANT}{tenant}\n{format_spending(self._spending(tenant))}"
            for tenant in sorted({*self.budgets, *filter(self.is_unreadable, self._known)})
            if self.home(tenant) == name
            or self._is_newest_in(name, tenant)
            or self._is_changed(name, tenant, before, after)
        )

    def take_in(self, name: str, text: str) -> None:
        """Take note of what ledger *name* carries; of a tenant that moved, the newest word counts."""
        before, carried = self._carried.get(name, {}), dict[str, int]()
        for block in ("\n" + text).split(f"\n{_TENANT}")[1:]:
            tenant, _, rest = block.partition("\n")
            try:
                spending = parse_spending(rest)
            except ValueError as error:
                log.error(
                    "what a tenant spent cannot be read; it is counted from now on", ledger=name, error=str(error)
                )
                continue
            carried[tenant] = spending.as_of
            known = self._known.get(tenant)
            if known is None or known.as_of <= spending.as_of:
                self._known[tenant] = spending
        remember(self._carried, name, carried)
        for tenant in before.keys() - carried.keys():
            self.limits_changed(tenant)

    def limits_changed(self, tenant: str) -> None:
        """Forget what a tenant spent that has no budgets any more: it may get new ones, which begin then."""
        if tenant not in self.budgets and not self.is_unreadable(tenant):
            self._known.pop(tenant, None)

    def uses(self, tenant: str) -> list[BudgetUse]:
        """Return how far the budgets of *tenant* are used now; empty if it has none."""
        budgets = self.budgets.get(tenant, ())
        return uses_of(self._spending(tenant), budgets) if budgets else []

    def tenants(self) -> Iterable[str]:
        """Return the tenants that have budgets."""
        return list(self.budgets)

    def _is_newest_in(self, name: str, tenant: str) -> bool:
        """Return whether ledger *name* carries a newer word of *tenant* than its home does."""
        here, at_home = (self._carried.get(ledger, {}).get(tenant) for ledger in (name, self.home(tenant)))
        return here is not None and (at_home is None or at_home < here)

    def _is_changed(self, name: str, tenant: str, before: Tenants, after: Tenants) -> bool:
        """Return whether *tenant* holds something else in all ledgers once its entries in ledger *name* are others."""
        old, new = before.get(tenant, {}), after.get(tenant, {})
        left = any(uid not in new and self.ledgers.standing(uid) == [name] for uid in old)
        return left or any(old.get(uid) != entry for uid, entry in new.items())

    def _spending(self, tenant: str) -> Spending:
        """Return what *tenant* has spent until now, also of budgets that cannot be read but were known before."""
        held = self.ledgers.usage(tenant)
        if tenant not in self.budgets:
            return advance_blindly(self._known[tenant], held, self.now())
        known = advance(self._known.get(tenant), self.budgets[tenant], held, self.now())
        self._known.setdefault(tenant, known)  # a new budget counts from its first sight
        return known
