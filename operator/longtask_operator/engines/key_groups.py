"""The tasks of one idempotency key: who of many could matter, without a look at all of them at each change.

A client that tries again and again leaves thousands of one key. All they do is wait, or have an outcome. Who has, or
may have, an entry, a Job or a pod is looked at each time, and so are the first of the others and who finished last.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

from longtask_operator.api.keys import KeyClaim
from longtask_operator.core.duplicates import Claimant

_Rank = tuple[int, str, str]
#: Ranks that may be out of date before the heap of them is made anew.
_SPARE = 64


@dataclass(slots=True)
class KeyGroup:
    """All who claim one key, and those that are gone and have left something behind."""

    names: dict[str, str] = field(default_factory=dict)  #: by uid
    claims: dict[str, KeyClaim] = field(default_factory=dict)  #: by uid, of tasks that are there
    doubtful: set[str] = field(default_factory=set)  #: uids of which an entry, a Job or a pod may be there
    waiting: set[str] = field(default_factory=set)  #: uids that have neither finished nor are deleted
    redriven: set[str] = field(default_factory=set)  #: of those, the uids of later runs than the first
    _ranks: list[_Rank] = field(default_factory=list)  #: a heap, with some that are out of date
    _last: dict[str, str] = field(default_factory=dict)  #: by whose outcome it has, "" its own: uid that finished last

    def put(self, uid: str, claim: KeyClaim | None) -> None:
        """Take note of what a task claims now; None: it is gone."""
        before = self.claims.pop(uid, None)
        if claim:
            self.claims[uid] = claim
        if claim == before:
            return
        self._put_waiting(uid)
        for known in (before, claim):
            if known and known.finished_at:
                self._put_finished(uid, known.taken_from)

    def forget(self, uid: str) -> None:
        """Forget a task of which nothing is left."""
        self.put(uid, None)
        self.doubtful.discard(uid)
        del self.names[uid]

    def bare(self, uid: str) -> Claimant:
        """Return the claimant that a task is if neither entry nor Job nor pod of it is there."""
        return Claimant(name=self.names[uid], uid=uid, claim=self.claims.get(uid), holds=False, lives=False)

    def notable(self) -> Iterable[str]:
        """Return the uids of those that may decide a contest: all others come after one of them."""
        return dict.fromkeys(uid for uid in (*self.doubtful, self._first(), *self._last.values()) if uid)

    def _put_waiting(self, uid: str) -> None:
        claim = self.claims.get(uid)
        self.waiting.discard(uid)
        self.redriven.discard(uid)
        if claim is None or claim.deleting or claim.finished_at:
            return
        self.waiting.add(uid)
        if claim.run > 1:
            self.redriven.add(uid)
        heapq.heappush(self._ranks, self.bare(uid).rank)
        if len(self._ranks) > 2 * len(self.waiting) + _SPARE:
            self._ranks = [self.bare(one).rank for one in self.waiting]
            heapq.heapify(self._ranks)

    def _first(self) -> str:
        """Return the uid of the first of those that wait, as far as their claims tell; empty if nobody does."""
        while self._ranks:
            uid = self._ranks[0][2]
            if uid in self.waiting and self.bare(uid).rank == self._ranks[0]:
                return uid
            heapq.heappop(self._ranks)
        return ""

    def _put_finished(self, uid: str, source: str) -> None:
        """Take note of a task that has finished, or had, with the outcome of *source*."""
        last = self._last.get(source, "")
        if last == uid:  # it may not be the last any more
            self._last[source] = self._newest(source)
        elif self._is_done(uid, source) and (not last or self._end(uid) > self._end(last)):
            self._last[source] = uid
        if not self._last.get(source):
            self._last.pop(source, None)

    def _newest(self, source: str) -> str:
        return max((uid for uid in self.claims if self._is_done(uid, source)), key=self._end, default="")

    def _is_done(self, uid: str, source: str) -> bool:
        claim = self.claims.get(uid)
        if claim is None or claim.deleting or claim.is_apart:
            return False
        return bool(claim.finished_at) and claim.taken_from == source

    def _end(self, uid: str) -> tuple[str, str]:
        return (self.claims[uid].finished_at, uid)
