"""The ledgers: read once on taking the lead, then written by this process alone, by compare-and-swap.

A write that conflicts, or whose answer was lost, is followed by a read: what the API
server holds is the truth, and a decision is made anew from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import structlog

from longtask_operator.adapters.errors import ApiError, Conflict, NotFound
from longtask_operator.adapters.kube import Json, Kube, resource_path
from longtask_operator.api.names import LABEL_MANAGED_BY, MANAGED_BY
from longtask_operator.core.ledger import Entries, LedgerEntry, entries_beside
from longtask_operator.core.ledger_layout import Content, Tenants, format_ledger, is_ledger, parse_ledger
from longtask_operator.core.quota import NO_AMOUNTS, Amounts, usage_of

COMPONENT_LABEL = "app.kubernetes.io/component"
COMPONENT = "ledger"
V = TypeVar("V")
log = structlog.get_logger("longtask.ledger")


@dataclass(slots=True)
class Ledger:
    """One ledger as last read or written. *broken* says why it cannot be used."""

    name: str
    version: str = ""  #: resourceVersion; empty while the object does not exist
    uid: str = ""
    content: Content = field(default_factory=Content)
    broken: str = ""
    unread: bool = False  #: whether what stands in it is not known
    size: int = 0  #: of its data, in bytes

    @property
    def tenants(self) -> Tenants:
        """The entries, by tenant."""
        return self.content.tenants


class Rider(Protocol):
    """Something that is carried along in ledgers: its text is written with a write that is made anyway.

    `text` must leave the rider as it is, since the write may fail and be planned anew; `take_in` says what stands.
    """

    key: str  #: data key; with a dot in it
    urgent: bool  #: whether a change of its text alone is worth a write
    lasts: bool  #: whether its text must be kept where nothing stands and no TenantQuota has a part in the ledger

    def text(self, name: str, before: Tenants, after: Tenants) -> str:
        """Return what ledger *name* is to carry once its entries change from *before* to *after*."""
        ...

    def take_in(self, name: str, text: str) -> None:
        """Take note that ledger *name* carries *text* now; empty if it carries nothing."""
        ...


def remember(known: dict[str, V], name: str, value: V | None) -> None:
    """Note what ledger *name* carries; of those that carry nothing nothing is known, as there may be thousands."""
    if value:
        known[name] = value
    else:
        known.pop(name, None)


class Ledgers:
    """All ledgers, by name."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube = kube
        self._collection = resource_path("v1", "configmaps", namespace)
        self._ledgers: dict[str, Ledger] = {}
        #: uid -> ledger -> tenant and entry; more than one while a tenant moves from cohort to cohort
        self._standing: dict[str, dict[str, tuple[str, LedgerEntry]]] = {}
        self._places: dict[str, dict[str, None]] = {}  #: tenant -> ledgers in which it has entries
        self._usages: dict[str, Amounts] = {}  #: by tenant, until its entries change
        self._outdated: set[str] = set()  #: names of ledgers that others are known to have written
        self._strays: set[str] = set()  #: names of ConfigMaps that were said to be no ledgers
        self.riders: list[Rider] = []
        self.appeared: list[Callable[[str], None]] = []  #: told a task that has an entry in one more ledger
        self.vanished: list[Callable[[str], None]] = []  #: told a task that has none any more

    async def load(self) -> None:
        """Read all ledgers. Raises ApiError."""
        for known in (self._ledgers, self._standing, self._places, self._usages):
            known.clear()
        for name, body in (await self._list()).items():
            self._take_in(self.ledger(name), body)

    async def _list(self) -> dict[str, Json]:
        """Return what is labelled and named as a ledger: only those names are guarded, a label may have anybody's."""
        selector = {"labelSelector": f"{LABEL_MANAGED_BY}={MANAGED_BY},{COMPONENT_LABEL}={COMPONENT}"}
        found: dict[str, Json] = {}
        async for page in self._kube.list_pages(self._collection, selector):
            found |= {item["metadata"]["name"]: item for item in page["items"]}
        strays = {name for name in found if not is_ledger(name)}
        if strays - self._strays:
            log.warning("ConfigMaps are labelled as ledgers and not named so; they are ignored", names=sorted(strays))
        self._strays |= strays
        return {name: body for name, body in found.items() if name not in strays}

    def entry(self, uid: str) -> LedgerEntry | None:
        """Return the entry of a task's newest attempt, or None."""
        found = self._newest(uid)
        return found[1] if found else None

    def tenant_of(self, uid: str) -> str | None:
        """Return the tenant under which the entry of the task's newest attempt stands."""
        found = self._newest(uid)
        return found[0] if found else None

    def standing(self, uid: str) -> list[str]:
        """Return the names of the ledgers in which the task has an entry."""
        return list(self._standing.get(uid, ()))

    def uids(self) -> list[str]:
        """Return the tasks that have an entry."""
        return list(self._standing)

    def tenants(self) -> list[str]:
        """Return the tenants that have entries."""
        return list(self._places)

    def names(self) -> list[str]:
        """Return the names of all ledgers."""
        return list(self._ledgers)

    def entries_of(self, tenant: str) -> Entries:
        """Return the entries of *tenant*, in whichever ledgers they stand."""
        found: dict[str, LedgerEntry] = {}
        for name in self._places.get(tenant, ()):
            found |= self._ledgers[name].tenants.get(tenant, {})
        return found

    def usage(self, tenant: str) -> Amounts:
        """Return what the entries of *tenant* hold together; thousands are summed once after each change of them."""
        if tenant not in self._usages and tenant in self._places:
            self._usages[tenant] = usage_of(self.entries_of(tenant).values())
        return self._usages.get(tenant, NO_AMOUNTS)

    def why_unread(self, name: str) -> str:
        """Return in a sentence why nobody knows what stands in ledger *name*, or an empty string."""
        ledger = self._ledgers.get(name)
        return f"the ledger {name} {ledger.broken}" if ledger and ledger.unread else ""

    def is_empty(self, name: str) -> bool:
        """Return whether nothing stands in ledger *name*, and it carries nothing that must last, as far as is known."""
        ledger, brief = self.ledger(name), {rider.key for rider in self.riders if not rider.lasts}
        carries = any(text for key, text in ledger.content.further.items() if key not in brief)
        return not (ledger.broken or ledger.tenants or carries)

    def most(self, name: str) -> int:
        """Return how many entries ledger *name* may hold beside what it carries along."""
        return entries_beside(sum(len(text) for text in self.ledger(name).content.further.values()))

    def ledger(self, name: str) -> Ledger:
        """Return the ledger of that *name*, empty if there is none yet."""
        return self._ledgers.setdefault(name, Ledger(name=name))

    async def write(self, name: str, tenants: Tenants) -> bool:
        """Let ledger *name* hold *tenants* and what riders have for it; return whether a write was needed.

        Raises:
            Conflict: if somebody else wrote; the ledger has not been read again. ApiError otherwise.
        """
        ledger = self.ledger(name)
        if name in self._outdated:
            raise Conflict(409, "Conflict", f"{name} is not as it was read")
        urgent = {rider.key: rider.text(name, ledger.tenants, tenants) for rider in self.riders if rider.urgent}
        carried = ledger.content.further
        if tenants == ledger.tenants and all(text == carried.get(key, "") for key, text in urgent.items()):
            return False
        riding = {rider.key: rider.text(name, ledger.tenants, tenants) for rider in self.riders if not rider.urgent}
        content = Content(tenants=tenants, further={**carried, **urgent, **riding})
        data = format_ledger(name, content)
        body: Json = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "labels": {LABEL_MANAGED_BY: MANAGED_BY, COMPONENT_LABEL: COMPONENT}},
            "data": data,
        }
        if ledger.version:
            body["metadata"]["resourceVersion"] = ledger.version
            answer = await self._kube.replace(f"{self._collection}/{name}", body)
        else:
            answer = await self._kube.create(self._collection, body)
        ledger.uid = answer["metadata"]["uid"]
        self._set(ledger, answer["metadata"]["resourceVersion"], content, data)
        return True

    async def delete(self, name: str) -> None:
        """Delete ledger *name* as it was read, and forget it; who leads too and knows it makes it anew if need be.

        Raises:
            Conflict: if somebody else wrote it; the ledger has not been read again. ApiError otherwise.
        """
        ledger = self.ledger(name)
        if ledger.version:
            await self._kube.delete(f"{self._collection}/{name}", uid=ledger.uid, version=ledger.version)
        self._set(ledger, "", Content(), {})
        del self._ledgers[name]

    async def carried(self, name: str, key: str) -> str:
        """Return what a rider of that *key* has in ledger *name* as the API server has it now. Raises ApiError."""
        try:
            body = await self._kube.get(f"{self._collection}/{name}")
        except NotFound:
            return ""
        return str((body.get("data") or {}).get(key, ""))

    def doubt(self, name: str) -> None:
        """Write ledger *name* no more before it was read again: somebody else did."""
        self._outdated.add(name)

    async def reload(self, name: str) -> bool:
        """Read ledger *name* again; return whether that succeeded."""
        ledger = self.ledger(name)
        try:
            self._take_in(ledger, await self._kube.get(f"{self._collection}/{name}"))
        except NotFound:
            self._set(ledger, "", Content(), {})
        except ApiError as error:
            log.warning("the ledger was not read; trying again", ledger=name, error=str(error))
            return False
        return True

    async def refresh(self) -> None:
        """Read all ledgers again; what nobody has written since stays as it is. Raises ApiError."""
        found = await self._list()
        for name, body in found.items():
            if self.ledger(name).version != body["metadata"]["resourceVersion"]:
                self._take_in(self.ledger(name), body)
        for name in self._ledgers.keys() - found.keys():
            if self.ledger(name).version:
                self._set(self.ledger(name), "", Content(), {})

    def _newest(self, uid: str) -> tuple[str, LedgerEntry] | None:
        """Return tenant and entry of the newest attempt; of two that are equal the one taken in last."""
        standing = list(self._standing.get(uid, {}).values())
        return max(reversed(standing), key=lambda found: found[1].attempt, default=None)

    def _take_in(self, ledger: Ledger, body: Json) -> None:
        data = body.get("data") or {}
        try:
            content, broken = parse_ledger(ledger.name, data), ""
        except ValueError as error:
            content, broken = Content(), f"cannot be read: {error}"
            log.error(
                "a ledger cannot be read; its tenants' tasks wait until it is repaired",
                ledger=ledger.name,
                error=str(error),
            )
        ledger.uid = body["metadata"]["uid"]
        self._set(ledger, body["metadata"]["resourceVersion"], content, data)
        ledger.broken, ledger.unread = broken, bool(broken)

    def _set(self, ledger: Ledger, version: str, content: Content, data: Json) -> None:
        self._outdated.discard(ledger.name)
        before, ledger.content = ledger.content, content
        ledger.version, ledger.broken, ledger.unread = version, "", False
        ledger.size = sum(len(key) + len(text) for key, text in data.items())
        for tenant in {*before.tenants, *content.tenants}:
            old, new = before.tenants.get(tenant, {}), content.tenants.get(tenant, {})
            if old is not new:
                self._reindex(ledger.name, tenant, old, new)
        for rider in self.riders:
            rider.take_in(ledger.name, content.further.get(rider.key, ""))

    def _reindex(self, name: str, tenant: str, old: Entries, new: Entries) -> None:
        self._usages.pop(tenant, None)
        places = self._places.setdefault(tenant, {})
        places.pop(name, None)
        if new:
            places[name] = None
        elif not places:
            del self._places[tenant]
        for uid in _missing(old, new):
            standing = self._standing.get(uid, {})
            if name in standing and standing[name][0] == tenant:
                del standing[name]
            if not standing and self._standing.pop(uid, None) is not None:
                for tell in self.vanished:
                    tell(uid)
        for uid, entry in new.items():
            if old.get(uid) != entry:
                standing = self._standing.setdefault(uid, {})
                is_new = standing.pop(name, None) is None
                standing[name] = (tenant, entry)
                for tell in self.appeared if is_new else ():
                    tell(uid)


def _missing(old: Entries, new: Entries) -> Iterable[str]:
    return [uid for uid in old if uid not in new]
