"""Whom each attempt counts for: carried in the ledgers beside its line, so that it holds as long as the line does.

The task may be gone before its last pod, and whoever leads next may not know it; what the ledger says counts first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from longtask_operator.core.ledger import LedgerEntry, room_for_persons
from longtask_operator.core.ledger_layout import Tenants
from longtask_operator.core.persons import format_persons, parse_persons
from longtask_operator.core.quota import Limits
from longtask_operator.engines.ledgers import remember

log = structlog.get_logger("longtask.quotas")


class Tasks(Protocol):
    """What is asked about tenants and their tasks."""

    def limits(self, tenant: str) -> Limits: ...  # noqa: D102
    def user(self, uid: str) -> str: ...  # noqa: D102


@dataclass(slots=True)
class Persons:
    """A rider of the ledgers. *most* says how many entries one may hold, *coming* for whom a task counts.

    An attempt gets its person where its tenant has a limit of each person, and keeps it until its line leaves.
    """

    tasks: Tasks
    most: Callable[[str], int]
    coming: Callable[[str], str | None] = lambda uid: None  #: of who is being admitted; None for others
    key: str = "quota.persons"
    urgent: bool = False
    lasts: bool = True
    _texts: dict[str, str] = field(default_factory=dict)
    _standing: dict[str, dict[str, str]] = field(default_factory=dict)  #: by ledger and uid
    _known: dict[str, str] = field(default_factory=dict)  #: by uid, of all ledgers

    def of(self, uid: str) -> str:
        """Return for whom the live attempt of a task counts, or an empty string if that is no person."""
        return self._known.get(uid) or self.tasks.user(uid)

    def text(self, name: str, before: Tenants, after: Tenants) -> str:
        """Return what ledger *name* is to carry: the persons of the entries that it holds then, as far as they fit."""
        persons = {}
        for tenant, entries in after.items():
            known, has_limit = before.get(tenant, {}), self.tasks.limits(tenant).per_user is not None
            if not has_limit and not self._known:  # mostly, and there may be thousands
                continue
            for uid, entry in entries.items():
                if person := self._person(entry, known.get(uid), has_limit=has_limit):
                    persons[uid] = person
        if not persons:
            return ""
        room = room_for_persons(self.most(name), sum(map(len, after.values())))
        return format_persons(persons, room + len(self._texts.get(name, "")), first=self._standing.get(name, {}))

    def _person(self, entry: LedgerEntry, before: LedgerEntry | None, *, has_limit: bool) -> str:
        """Return whom *entry* counts for; a new attempt counts for whom it was admitted."""
        carried, is_new = self._known.get(entry.uid, ""), before is not None and before.attempt != entry.attempt
        if carried and not is_new:
            return carried
        if not has_limit or entry.handed_over:
            return ""
        coming = self.coming(entry.uid)
        return coming if coming is not None else self.tasks.user(entry.uid) or carried

    def take_in(self, name: str, text: str) -> None:
        """Take note of what ledger *name* carries."""
        if text == self._texts.get(name, ""):
            return
        try:
            persons = parse_persons(text)
        except ValueError as error:
            log.error("the persons of a ledger cannot be read; its tasks say them", ledger=name, error=str(error))
            persons = {}
        gone = self._standing.get(name, {}).keys() - persons.keys()
        remember(self._texts, name, text)
        remember(self._standing, name, persons)
        self._known |= persons
        for uid in gone:
            elsewhere = next((other[uid] for other in self._standing.values() if uid in other), "")
            if elsewhere:
                self._known[uid] = elsewhere
            else:
                del self._known[uid]
