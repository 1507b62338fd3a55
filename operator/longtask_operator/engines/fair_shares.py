"""The decayed usage of the tenants of each cohort: carried along in the ledgers, so that no restart loses it.

What a tenant holds changes only when a ledger is written, and that very write carries the usage decayed up to then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from longtask_operator.core.fair_share import Decayed, Use, advanced, format_decayed, parse_decayed
from longtask_operator.core.ledger import Entries
from longtask_operator.core.ledger_layout import Tenants, cohort_of
from longtask_operator.core.quota import Amounts
from longtask_operator.core.room import vector_of
from longtask_operator.engines.ledgers import remember


@dataclass(slots=True)
class FairShares:
    """A rider of the ledgers of cohorts; a lone tenant shares with nobody.

    *usage* says what entries of a ledger and tenant hold together. They are thousands, and it is asked for whenever
    somebody is told why it waits: so it is to remember.
    """

    now: Callable[[], datetime]
    usage: Callable[[str, str, Entries], Amounts]
    key: str = "usage.decayed"
    urgent: bool = False
    lasts: bool = False
    _known: dict[str, Decayed] = field(default_factory=dict)

    def text(self, name: str, before: Tenants, after: Tenants) -> str:
        """Return what ledger *name* is to carry: the usage until now; *before* was held since the last write."""
        return format_decayed(self._until_now(name, before)) if cohort_of(name) else ""

    def take_in(self, name: str, text: str) -> None:
        """Take note of what ledger *name* carries."""
        remember(self._known, name, parse_decayed(text) if text else None)

    def uses(self, name: str, tenants: Tenants) -> Mapping[str, Use]:
        """Return the decayed usage of the tenants of ledger *name* now; *tenants* is what it holds."""
        return self._until_now(name, tenants).use if cohort_of(name) else {}

    def _until_now(self, name: str, tenants: Tenants) -> Decayed:
        held = {tenant: vector_of(self.usage(name, tenant, entries)) for tenant, entries in tenants.items()}
        return advanced(self._known.get(name, Decayed()), held, self.now())
