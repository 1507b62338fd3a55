"""What one ledger is to be changed by, admissions aside, until the next write takes it along; and what was before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from longtask_operator.core.admission import NO_PLAN, Plan
from longtask_operator.core.ledger import LedgerEntry


@dataclass(slots=True)
class Past:
    """What is remembered of one ledger from cycle to cycle."""

    plan: Plan = NO_PLAN
    rests_until: float = 0.0  #: loop time before which it is not written
    is_full: bool = False  #: whether it holds as many entries as it may


@dataclass(slots=True)
class Raise:
    """A live attempt that asks for more; *answer* says why its new entry does not stand, and is empty if it does."""

    entry: LedgerEntry
    answer: asyncio.Future[str]
    why: str = "the ledger does not hold the attempt, or holds a newer wish"

    def settle(self, stands: bool) -> None:
        """Answer, unless nobody listens any more."""
        if not self.answer.done():
            self.answer.set_result("" if stands else self.why)


@dataclass(frozen=True, slots=True)
class Kept:
    """An entry of *tenant* that is to stand; *key* is that of its task."""

    tenant: str
    entry: LedgerEntry
    key: str


@dataclass(slots=True)
class Work:
    """Changes that wait for a write."""

    kept: dict[str, Kept] = field(default_factory=dict)  #: by uid
    released: set[tuple[str, int]] = field(default_factory=set)
    raises: dict[str, Raise] = field(default_factory=dict)  #: by uid

    def keep(self, wanted: Kept) -> None:
        """Put an entry in."""
        entry = wanted.entry
        self.kept[entry.uid] = wanted
        self.released.discard((entry.uid, entry.attempt))

    def release(self, uid: str, attempt: int) -> None:
        """Take the attempt out."""
        self.released.add((uid, attempt))
        self.kept.pop(uid, None)

    def raise_to(self, wanted: Raise) -> None:
        """Let a live attempt ask for more; a later wish replaces an earlier one."""
        if before := self.raises.pop(wanted.entry.uid, None):
            before.settle(False)
        self.raises[wanted.entry.uid] = wanted

    def put_back(self, older: Work) -> None:
        """Take in what an earlier write did not bring about; newer wishes count."""
        still = {u: kept for u, kept in older.kept.items() if (u, kept.entry.attempt) not in self.released}
        self.kept = still | self.kept
        self.released |= older.released
        for uid, wanted in older.raises.items():
            if uid in self.raises:
                wanted.settle(False)
            else:
                self.raises[uid] = wanted

    def settle(self, stand: Iterable[LedgerEntry]) -> None:
        """Answer all raises: those whose entry is among *stand* hold it now."""
        if not self.raises:
            return
        standing = {(entry.uid, entry.attempt, entry.size) for entry in stand}
        for wanted in self.raises.values():
            wanted.settle((wanted.entry.uid, wanted.entry.attempt, wanted.entry.size) in standing)
