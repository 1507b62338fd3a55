"""The ledgers: read once on taking the lead, then written by this process alone, by compare-and-swap.

A write that conflicts, or whose answer was lost, is followed by a read: what the API
server holds is the truth, and a decision is made anew from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import structlog

from longtask_operator.adapters.errors import NotFound
from longtask_operator.adapters.kube import Json, Kube, resource_path
from longtask_operator.api.names import LABEL_MANAGED_BY, MANAGED_BY
from longtask_operator.core.ledger import LedgerEntry, format_entries, ledger_name, parse_entries, with_changes

COMPONENT_LABEL = "app.kubernetes.io/component"
COMPONENT = "ledger"
_DATA_KEY = "attempts"
log = structlog.get_logger("longtask.ledger")


@dataclass(slots=True)
class Ledger:
    """One ledger as last read or written. *broken* says why it cannot be used."""

    name: str
    tenant: str
    version: str = ""  #: resourceVersion; empty while the object does not exist
    entries: dict[str, LedgerEntry] = field(default_factory=dict)
    broken: str = ""


class Ledgers:
    """All ledgers, by tenant."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube = kube
        self._collection = resource_path("v1", "configmaps", namespace)
        self._by_tenant: dict[str, Ledger] = {}
        self._entries: dict[str, LedgerEntry] = {}
        self._tenant_of: dict[str, str] = {}

    async def load(self) -> None:
        """Read all ledgers. Raises ApiError."""
        self._by_tenant.clear()
        self._entries.clear()
        self._tenant_of.clear()
        selector = {"labelSelector": f"{LABEL_MANAGED_BY}={MANAGED_BY},{COMPONENT_LABEL}={COMPONENT}"}
        async for page in self._kube.list_pages(self._collection, selector):
            for item in page["items"]:
                tenant = item["metadata"]["name"].removeprefix(ledger_name(""))
                self._take_in(Ledger(name=item["metadata"]["name"], tenant=tenant), item)

    def entry(self, uid: str) -> LedgerEntry | None:
        """Return the entry of a task, or None."""
        return self._entries.get(uid)

    def tenant_of(self, uid: str) -> str | None:
        """Return the tenant under whose ledger the task's entry stands."""
        return self._tenant_of.get(uid)

    def uids(self) -> list[str]:
        """Return the tasks that have an entry."""
        return list(self._entries)

    def tenants(self) -> list[str]:
        """Return the tenants that have a ledger."""
        return list(self._by_tenant)

    def ledger(self, tenant: str) -> Ledger:
        """Return the ledger of *tenant*, empty if there is none yet."""
        return self._by_tenant.setdefault(tenant, Ledger(name=ledger_name(tenant), tenant=tenant))

    async def write(self, tenant: str, *, added: Iterable[LedgerEntry], released: Iterable[tuple[str, int]]) -> bool:
        """Change the ledger of *tenant* in one write; return whether one was needed.

        Raises:
            Conflict: if somebody else wrote; the ledger has not been read again. ApiError otherwise.
        """
        ledger = self.ledger(tenant)
        entries = with_changes(ledger.entries, added=added, released=released)
        if entries == ledger.entries:
            return False
        body: Json = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": ledger.name, "labels": {LABEL_MANAGED_BY: MANAGED_BY, COMPONENT_LABEL: COMPONENT}},
            "data": {_DATA_KEY: format_entries(entries.values())},
        }
        if ledger.version:
            body["metadata"]["resourceVersion"] = ledger.version
            answer = await self._kube.replace(f"{self._collection}/{ledger.name}", body)
        else:
            answer = await self._kube.create(self._collection, body)
        self._take_in(ledger, answer)
        return True

    async def reload(self, tenant: str) -> None:
        """Read the ledger of *tenant* again. Raises ApiError."""
        ledger = self.ledger(tenant)
        try:
            self._take_in(ledger, await self._kube.get(f"{self._collection}/{ledger.name}"))
        except NotFound:
            self._forget(ledger)
            self._by_tenant[tenant] = Ledger(name=ledger.name, tenant=tenant)

    def _take_in(self, ledger: Ledger, body: Json) -> None:
        self._forget(ledger)
        ledger.version = body["metadata"]["resourceVersion"]
        try:
            ledger.entries, ledger.broken = parse_entries((body.get("data") or {}).get(_DATA_KEY) or ""), ""
        except ValueError as error:
            ledger.entries, ledger.broken = {}, str(error)
            log.error(
                "a ledger cannot be read; its tenant's tasks wait until it is repaired",
                ledger=ledger.name,
                error=str(error),
            )
        self._by_tenant[ledger.tenant] = ledger
        for uid, entry in ledger.entries.items():
            self._entries[uid], self._tenant_of[uid] = entry, ledger.tenant

    def _forget(self, ledger: Ledger) -> None:
        for uid in ledger.entries:
            if self._tenant_of.get(uid) == ledger.tenant:
                self._entries.pop(uid, None)
                self._tenant_of.pop(uid, None)
        ledger.entries = {}
