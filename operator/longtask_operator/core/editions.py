"""Which edition of whose TenantQuota a ledger goes by: who leads and knows an older one admits nothing.

A ledger lists its tenants, each with the edition of its TenantQuota by which the ledger was last written. Whoever
knows them all and no others may admit by them. Whoever does not asks the API server after it has read the ledger,
which is later than anything the ledger says, and writes what it was told. So the editions in a ledger never go back,
and a write by an older one meets the compare-and-swap.

A tenant that is new to a ledger may still be listed by another one, for somebody who does not know that it moved. It is
listed as joining first, and admitted to only after that: when the API server, asked once more, still says that it
belongs here, and all ledgers, read after that, do not list it elsewhere. Of two that list a tenant in two ledgers the
later one reads what the earlier one wrote, and the earlier one is told that the tenant has moved.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

#: The edition of a tenant without a TenantQuota.
NO_QUOTA = "-"
_JOINING = "joining"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """By which edition a ledger goes for a tenant, and whether that may still be admitted to elsewhere."""

    edition: str
    joining: bool = False


#: What a ledger lists, by tenant.
Listing = Mapping[str, Listed]
#: The editions that this process knows of the tenants that belong to a ledger.
Known = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """What a ledger is to list, and whether somebody may be admitted by it now."""

    listing: Listing
    admits: bool


def edition_of(uid: str, generation: int) -> str:
    """Return the edition of a TenantQuota; two of one name differ in the first eight digits of their random uids."""
    return f"{uid[:8]}/{generation}"


def to_ask(listing: Listing, known: Known) -> set[str]:
    """Return the tenants on which ledger and process do not agree, and those that join."""
    both = {*listing, *known}
    return {
        tenant
        for tenant in both
        if tenant not in listing or listing[tenant].joining or listing[tenant].edition != known.get(tenant)
    }


def agree(listing: Listing, known: Known, asked: Collection[str], elsewhere: Collection[str]) -> Agreed:
    """Return what to list where a ledger lists *listing* and the process knows *known* by now.

    *asked* are the tenants of which the API server was asked after the ledger was read, and *elsewhere* those that
    other ledgers listed, read after that.
    """
    after = {}
    for tenant, edition in known.items():
        before = listing.get(tenant)
        is_new = before is None or (before.joining and (tenant not in asked or tenant in elsewhere))
        after[tenant] = Listed(edition=edition, joining=is_new)
    settled = not any(listed.joining for listed in after.values())
    return Agreed(listing=after, admits=settled and to_ask(listing, known) <= {*asked})


def format_listing(listing: Listing) -> str:
    """Return *listing* as text: `tenant edition` a line, with the word `joining` where it does."""
    return "".join(
        f"{tenant} {listed.edition}{f' {_JOINING}' if listed.joining else ''}\n"
        for tenant, listed in sorted(listing.items())
    )


def parse_listing(text: str) -> dict[str, Listed]:
    """Return what `format_listing` wrote; nobody where it cannot be read: then all join anew."""
    listing = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 2 or fields[2:] not in ([], [_JOINING]):
            return {}
        listing[fields[0]] = Listed(edition=fields[1], joining=len(fields) > 2)
    return listing
