"""The editions of TenantQuotas that the ledgers go by: carried in them, so that admission by an older one conflicts.

Where ledger and process agree, as they do but after a change, nothing is asked and nothing more is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import structlog

from longtask_operator.adapters.errors import ApiError, NotFound
from longtask_operator.adapters.kube import resource_path
from longtask_operator.adapters.quotas import observe_quota
from longtask_operator.api.names import API_VERSION, TENANTQUOTA_PLURAL
from longtask_operator.core.editions import (
    NO_QUOTA,
    Listed,
    Listing,
    agree,
    format_listing,
    parse_listing,
    to_ask,
)
from longtask_operator.core.ledger_layout import Tenants, cohort_of, lone_tenant_of
from longtask_operator.engines.context import Context
from longtask_operator.engines.ledgers import Ledgers, remember
from longtask_operator.engines.quotas import Quotas

_RETRY_DELAY = 0.5
log = structlog.get_logger("longtask.quotas")


@dataclass(slots=True)
class Editions:
    """A rider of the ledgers. *look_at* is told the name of one that is to be written, *is_needed* says if one is."""

    context: Context
    ledgers: Ledgers
    quotas: Quotas
    look_at: Callable[[str], None]
    is_needed: Callable[[str], bool]
    key: str = "quota.editions"
    urgent: bool = True
    lasts: bool = False
    _planned: dict[str, Listing] = field(default_factory=dict)
    _standing: dict[str, dict[str, Listed]] = field(default_factory=dict)
    _confirmed: dict[str, str] = field(
        default_factory=dict
    )  #: ledger -> its version when those that join were asked for
    #: tenant -> edition that was known here before all ledgers were read, of those whose ledger was not there then
    _absent: dict[str, str] = field(default_factory=dict)

    def text(self, name: str, before: Tenants, after: Tenants) -> str:
        """Return what ledger *name* is to carry."""
        return format_listing(self._planned.get(name, self._standing.get(name, {})))

    def take_in(self, name: str, text: str) -> None:
        """Take note of what ledger *name* carries."""
        self._planned.pop(name, None)
        before, listing = self._standing.get(name, {}), parse_listing(text)
        remember(self._standing, name, listing)
        if not listing:
            self._confirmed.pop(name, None)
        self._stay(before.keys() | listing.keys())
        for tenant in before.keys() - listing.keys():  # its new home may have waited for that
            self.look_at(self.quotas.ledger_of(tenant))
        if listing and to_ask(listing, self._known(name)):
            self.look_at(name)

    def limits_changed(self, tenant: str) -> None:
        """Let the ledgers of *tenant* go by its quota as it is now: first its home, then those it has left."""
        self._stay([tenant])
        for name in (self.quotas.ledger_of(tenant), *self._listing(tenant)):
            self.look_at(name)

    def stands(self, tenant: str) -> bool:
        """Return whether nobody can be admitted any more by an older edition of the quota of *tenant* than this one.

        Where it has no ledger, whoever makes one asks first; but another that leads may have made one already.
        """
        home, edition = self.quotas.ledger_of(tenant), self.quotas.edition(tenant)
        ledger, listed = self.ledgers.ledger(home), self._standing.get(home, {}).get(tenant)
        if any(tenant in listing for name, listing in self._standing.items() if name != home):
            return False
        if not ledger.version:
            return self._absent.get(tenant) == edition
        return bool(ledger.broken) or listed == Listed(edition=edition)

    async def admits(self, name: str) -> bool:
        """Return whether ledger *name* may admit now, and let its next write carry the editions that are known here.

        A ledger that is not there yet is not made before it is needed.
        """
        ledger = self.ledgers.ledger(name)
        if ledger.broken:
            return False
        try:
            if ledger.version or self.is_needed(name):
                return await self._agree(name)
            await self._confirm_absent(name)
            return False
        except ApiError as error:
            log.warning("quotas could not be read; nobody is admitted until they are", ledger=name, error=str(error))
            asyncio.get_running_loop().call_later(_RETRY_DELAY, self.look_at, name)
            return False

    async def _agree(self, name: str) -> bool:
        listing, version = self._standing.get(name, {}), self.ledgers.ledger(name).version
        asked = to_ask(listing, self._known(name))
        if not asked:
            return True
        joining = _joining(listing)
        if joining and self._confirmed.get(name) != version:
            await self._confirm()
        await self._ask(asked - joining)
        if self.ledgers.ledger(name).version != version:  # what was asked is older than what it says now
            self.look_at(name)
            return False
        elsewhere = {one: other for other in self._standing if other != name for one in self._standing[other]}
        agreed = agree(listing, self._known(name), asked, elsewhere)
        self._planned[name] = agreed.listing
        if not agreed.admits and agreed.listing == listing:  # no write comes that would be followed by another look
            others = {elsewhere[tenant] for tenant in _joining(listing) if tenant in elsewhere}
            for one in sorted(others) or [name]:
                self.look_at(one)
        return agreed.admits

    def _listing(self, tenant: str) -> dict[str, Listed]:
        return {name: listing[tenant] for name, listing in self._standing.items() if tenant in listing}

    def _stay(self, tenants: Iterable[str]) -> None:
        """Leave those of *tenants* where they are whose quotas do not say where they belong: every leader finds that.

        That is the ledger that lists them; of two, in the middle of a move, the one that they may be admitted to. Of
        equals it is the first by name: two leaders would move them to and fro between two that both know as theirs.
        """
        for tenant in self.quotas.adrift.intersection(tenants):
            listing = self._listing(tenant)
            if listing:
                first = min(listing, key=lambda name: (listing[name].joining, name))
                self.quotas.stay(tenant, cohort_of(first))

    def _known(self, name: str) -> Mapping[str, str]:
        cohort, alone = cohort_of(name), lone_tenant_of(name)
        members = self.quotas.of_cohort(cohort) if cohort else [alone]
        return {tenant: self.quotas.edition(tenant) for tenant in members if self.quotas.ledger_of(tenant) == name}

    async def _confirm(self) -> None:
        """Ask for all that join a ledger, then read all ledgers: many that come at once share that."""
        joining = {name: found for name, listing in self._standing.items() if (found := _joining(listing))}
        versions = {name: self.ledgers.ledger(name).version for name in joining}
        await self._ask({tenant for tenants in joining.values() for tenant in tenants})
        await self.ledgers.refresh()
        self._confirmed = versions

    async def _confirm_absent(self, name: str) -> None:
        """Read all ledgers if that was not done since the tenants of one that is not there got their quotas."""
        if all(self._absent.get(tenant, NO_QUOTA) == edition for tenant, edition in self._known(name).items()):
            return
        known = {view.name: self.quotas.edition(view.name) for view in self.context.caches.quotas}
        await self.ledgers.refresh()
        self._absent = {one: known[one] for one in known if not self.ledgers.ledger(self.quotas.ledger_of(one)).version}

    async def _ask(self, tenants: Iterable[str]) -> None:
        """Read the TenantQuotas of *tenants* into the cache, which tells of what is new."""
        await asyncio.gather(*(self._ask_for(tenant) for tenant in tenants))

    async def _ask_for(self, tenant: str) -> None:
        quotas = self.context.caches.quotas
        before = quotas.get("", tenant)
        try:
            body = await self.context.kube.get(resource_path(API_VERSION, TENANTQUOTA_PLURAL, "", tenant))
        except NotFound:
            if before:
                quotas.remove("", tenant, before.uid)
        else:
            quotas.put(observe_quota(body))


def _joining(listing: Listing) -> set[str]:
    return {tenant for tenant, listed in listing.items() if listed.joining}
