"""Where the entries stand: one ledger for a cohort, one for each tenant that has none.

The ledger of a cohort has a data key for each tenant, the ledger of a lone tenant the one key `attempts`. What else a
ledger carries stands under further keys, which have a dot in their name as no tenant's name has; keys that this
version does not know are kept as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from longtask_operator.core.ledger import Entries, LedgerEntry, format_entries, parse_entries, with_changes

LONE_KEY = "attempts"
_LONE, _COHORT = "longtask-ledger-tenant-", "longtask-ledger-cohort-"

#: Entries by tenant.
Tenants = Mapping[str, Entries]


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What one ledger holds."""

    tenants: Tenants = field(default_factory=dict)
    further: Mapping[str, str] = field(default_factory=dict)


def ledger_name(tenant: str, cohort: str = "") -> str:
    """Return the name of the ledger that *tenant*'s attempts stand in while it belongs to *cohort*, or to none."""
    return f"{_COHORT}{cohort}" if cohort else f"{_LONE}{tenant}"


def cohort_of(name: str) -> str:
    """Return the cohort whose ledger has that *name*, or an empty string for the ledger of a lone tenant."""
    return name.removeprefix(_COHORT) if name.startswith(_COHORT) else ""


def lone_tenant_of(name: str) -> str:
    """Return the tenant whose own ledger has that *name*, or an empty string for the ledger of a cohort."""
    return name.removeprefix(_LONE) if name.startswith(_LONE) else ""


def is_ledger(name: str) -> bool:
    """Return whether `ledger_name` gives such names; the chart's policy guards no others."""
    return any(name.startswith(prefix) and name != prefix for prefix in (_LONE, _COHORT))


def parse_ledger(name: str, data: Mapping[str, str]) -> Content:
    """Return what the data of the ledger *name* says.

    Raises:
        ValueError: if a line of a tenant is malformed; nothing of the ledger is used then.
    """
    if not cohort_of(name):
        lines = {name.removeprefix(_LONE): data.get(LONE_KEY, "")}
        further = {key: text for key, text in data.items() if key != LONE_KEY}
    else:
        lines = {key: text for key, text in data.items() if "." not in key}
        further = {key: text for key, text in data.items() if "." in key}
    where = "{} in the ledger" if cohort_of(name) else "the ledger"
    tenants = {tenant: parse_entries(text, where.format(tenant)) for tenant, text in lines.items() if text}
    return Content(tenants=tenants, further=further)


def format_ledger(name: str, content: Content) -> dict[str, str]:
    """Return *content* as the data of the ledger *name*; a lone tenant's key stays when it has no entries."""
    lines = {tenant: format_entries(entries.values()) for tenant, entries in content.tenants.items()}
    if not cohort_of(name):
        lines = {LONE_KEY: lines.get(name.removeprefix(_LONE), "")}
    else:
        lines = {tenant: text for tenant, text in lines.items() if text}
    return lines | {key: text for key, text in content.further.items() if text}


def changed(
    tenants: Tenants, *, added: Iterable[tuple[str, LedgerEntry]] = (), released: Iterable[tuple[str, int]] = ()
) -> dict[str, Entries]:
    """Return *tenants* with *released* (uid, attempt) removed and *added* (tenant, entry) put in.

    Whom nothing concerns keeps the same entries.
    """
    additions: dict[str, list[LedgerEntry]] = {}
    for tenant, entry in added:
        additions.setdefault(tenant, []).append(entry)
    gone, result = list(released), dict(tenants)
    for tenant in {*tenants, *additions}:
        entries = tenants.get(tenant, {})
        mine = [(uid, attempt) for uid, attempt in gone if uid in entries and entries[uid].attempt == attempt]
        if mine or tenant in additions:
            result[tenant] = with_changes(entries, added=additions.get(tenant, ()), released=mine)
    return {tenant: entries for tenant, entries in result.items() if entries}


def still_to_come(home: Tenants, elsewhere: Tenants, tenant: str) -> list[LedgerEntry]:
    """Return the entries of *tenant* that stand *elsewhere* and not yet, or with an older attempt, in its *home*."""
    known = home.get(tenant, {})
    return [
        entry
        for uid, entry in elsewhere.get(tenant, {}).items()
        if uid not in known or known[uid].attempt < entry.attempt
    ]


def taken_over(home: Tenants, elsewhere: Tenants, tenant: str) -> list[tuple[str, int]]:
    """Return (uid, attempt) of the entries of *tenant* that stand *elsewhere* although its *home* has them."""
    known = home.get(tenant, {})
    return [
        (uid, entry.attempt)
        for uid, entry in elsewhere.get(tenant, {}).items()
        if uid in known and known[uid].attempt >= entry.attempt
    ]
