"""What a ledger holds once all is done that is no admission: releases, entries put back, tenants that come and go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.ledger_layout import Tenants, changed, still_to_come, taken_over
from longtask_operator.engines.ledger_work import Work
from longtask_operator.engines.ledgers import Ledgers


def astray(ledgers: Ledgers, home: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """Yield ledger and home of tenants whose entries stand elsewhere than at *home*: they are moving, or are to."""
    for name in ledgers.names():
        for tenant in ledgers.ledger(name).tenants:
            if (its := home(tenant)) != name:
                yield name, its


def settled(name: str, work: Work, ledgers: Ledgers, home: Callable[[str], str], works: Mapping[str, Work]) -> Tenants:
    """Return the entries of ledger *name* after *work*; *works* is what is to be done in all others.

    *home* names the ledger of a tenant. Who comes from another ledger stands in this one before it leaves that one.
    """
    ledger = ledgers.ledger(name)
    released, arriving = set(work.released), list[tuple[str, LedgerEntry]]()
    for other in ledgers.names():
        over = released | (works[other].released if other in works else set())  # to leave it too
        for tenant in ledgers.ledger(other).tenants if other != name else ():
            if home(tenant) == name:
                coming = still_to_come(ledger.tenants, ledgers.ledger(other).tenants, tenant)
                arriving += [(tenant, entry) for entry in coming if (entry.uid, entry.attempt) not in over]
    for tenant in ledger.tenants:
        if (other := home(tenant)) != name:
            released |= set(taken_over(ledgers.ledger(other).tenants, ledger.tenants, tenant))
    kept = [(kept.tenant, kept.entry) for kept in work.kept.values()]
    before = changed(ledger.tenants, added=kept, released=released)
    # Those that find no place yet stay where they are; nobody is admitted before them.
    places = max(0, ledgers.most(name) - sum(map(len, before.values())))
    return changed(before, added=arriving[:places])
