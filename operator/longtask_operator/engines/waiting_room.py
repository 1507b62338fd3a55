"""Who waits for admission, and what they were told of it.

A task that merely keeps waiting is told nothing, but when its reason, what its sentence says besides numbers, or
noticeably its place changes: at once when a cycle looks at it for the first time, later once a minute and so many at a
time. Places change when somebody leaves the queue, and when somebody comes who is not the last of it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from longtask_operator.adapters.metrics import Metrics
from longtask_operator.api.status import Queue
from longtask_operator.core.precedence import HeldBack
from longtask_operator.core.queueing import Candidate, TenantQueue, moved_noticeably
from longtask_operator.core.waits import stays_said

#: Time between two looks at the places of those who wait, and how many of all tenants are told of it each time.
REFRESH_SECONDS, REFRESH_WRITES = 60.0, 300
#: Time between two rankings of a queue, and how many times what the last one took at least.
_RANK_SECONDS, _RANK_SHARE = 1.0, 50
#: So many are looked at before others get a turn: a look takes some 20 microseconds.
_AT_A_TIME = 250

#: Says why a candidate waits.
Explain = Callable[[Candidate], HeldBack]


@dataclass(slots=True)
class Waiting:
    """Who of one tenant waits, and what was said of them."""

    queue: TenantQueue = field(default_factory=TenantQueue)
    unheard: dict[str, None] = field(default_factory=dict)  #: uids that no cycle has looked at, in order
    positions: dict[str, int] = field(default_factory=dict)  #: as last computed
    told: dict[str, int] = field(default_factory=dict)  #: positions as last told
    first: str = ""  #: uid that the next refresh begins with: the last one did not reach it
    rank_after: float = -1e9  #: loop time
    moved: bool = False  #: since the last refresh

    @property
    def is_empty(self) -> bool:
        """Whether nobody waits and nothing is known of anybody, not even of who is being admitted."""
        return not (len(self.queue) or self.unheard or self.positions or self.told)

    def position(self, uid: str) -> int:
        """Return the task's place in the queue as last computed; a newcomer is the last when it is first told."""
        position = self.positions.get(uid) or self.told.get(uid) or len(self.queue)
        self.told.setdefault(uid, position)
        return position

    def in_turn(self) -> list[tuple[str, int]]:
        """Return all uids and places, in their order from where the last look ended, then those before."""
        places, begin = list(self.positions.items()), self.positions.get(self.first, 1) - 1
        self.first = ""
        return places[begin:] + places[:begin]

    def forget(self, uid: str) -> None:
        """Forget a task that waits no more."""
        for known in (self.unheard, self.positions, self.told):
            known.pop(uid, None)


class WaitingRoom:
    """The queues of all tenants; *explainer* gives a tenant's `Explain`."""

    def __init__(self, metrics: Metrics, on_change: Callable[[str], None], explainer: Callable[[str], Explain]) -> None:
        self._metrics, self._on_change, self._explainer = metrics, on_change, explainer
        self._by_tenant: dict[str, Waiting] = {}
        self._where: dict[str, str] = {}  #: uid -> tenant in whose queue it waits
        self._said: dict[str, HeldBack] = {}  #: by uid, as last told
        self._refresh_timer: asyncio.TimerHandle | None = None
        self._refreshing: Iterator[None] | None = None  #: what is left of a refresh

    def of(self, tenant: str) -> Waiting:
        """Return who of *tenant* waits."""
        return self._by_tenant.get(tenant) or Waiting()

    def tenants(self) -> list[str]:
        """Return the tenants of which something waits or is being admitted."""
        return list(self._by_tenant)

    def depth(self, tenant: str) -> int:
        """Return how many tasks of *tenant* wait."""
        waiting = self._by_tenant.get(tenant)
        return len(waiting.queue) if waiting else 0

    def oldest(self, tenant: str) -> datetime | None:
        """Return when the oldest run of *tenant* began of those that wait."""
        waiting = self._by_tenant.get(tenant)
        return waiting.queue.oldest() if waiting else None

    def tenant_of(self, uid: str) -> str | None:
        """Return the tenant in whose queue the task waits, or None."""
        return self._where.get(uid)

    def candidate(self, uid: str) -> Candidate | None:
        """Return the candidate of a task that waits, or None."""
        tenant = self._where.get(uid)
        return self._by_tenant[tenant].queue.get(uid) if tenant is not None else None

    def told(self, uid: str) -> bool:
        """Return whether a cycle has looked at the task and it was told why it waits."""
        return uid in self._said

    def shown(self, candidate: Candidate, why: HeldBack, said: Queue | None) -> HeldBack:
        """Take note that the status of a task, which has *said* something, is about to show *why*; return that.

        It shows the same as before where that differs little: then that is what later places are compared with.
        """
        self._note(candidate, replace(why, position=said.position) if said and stays_said(said, why) else why)
        return why

    def enter(self, candidate: Candidate) -> None:
        """Let *candidate* wait; it takes the place of another of the same task, and may get another place by that."""
        uid, waiting = candidate.entry.uid, self.of(candidate.tenant)
        told = waiting.told.get(uid)
        self.leave(uid)
        self._by_tenant[candidate.tenant] = waiting
        is_last = waiting.queue.put(candidate)
        waiting.unheard[uid] = None
        self._where[uid] = candidate.tenant
        if told is not None:
            waiting.told[uid] = told
        waiting.positions.setdefault(uid, told or len(waiting.queue))
        if not is_last:
            self.moved(candidate.tenant)

    def leave(self, uid: str) -> None:
        """Let a task wait no more."""
        tenant = self._where.pop(uid, None)
        if tenant is not None:
            waiting = self._by_tenant[tenant]
            waiting.queue.remove(uid)
            self.moved(tenant)
            waiting.forget(uid)
            self._forget_if_empty(tenant)

    def look_at(self, uid: str) -> None:
        """Have a task looked at that waits although it has an entry: that may be of an attempt that is over."""
        if candidate := self.candidate(uid):
            self._on_change(candidate.key)

    def take_out(self, candidate: Candidate) -> None:
        """Note that a plan took *candidate* out of its queue; it may come back."""
        self._where.pop(candidate.entry.uid, None)
        self._by_tenant[candidate.tenant].unheard.pop(candidate.entry.uid, None)

    def dismiss(self, candidate: Candidate) -> None:
        """Let a task that a plan took out of its queue not come back."""
        self.leave(candidate.entry.uid)
        self.of(candidate.tenant).forget(candidate.entry.uid)
        self._forget_if_empty(candidate.tenant)

    def admitted(self, candidate: Candidate) -> None:
        """Tell a task that it is admitted."""
        uid = candidate.entry.uid
        self._said.pop(uid, None)
        self.of(candidate.tenant).forget(uid)
        self._metrics.admitted(candidate.tenant)
        self._on_change(candidate.key)
        self.moved(candidate.tenant)
        self._forget_if_empty(candidate.tenant)

    def forget_reason(self, uid: str) -> None:
        """Forget what a task was told."""
        self._said.pop(uid, None)

    def look_at_all(self, tenant: str) -> bool:
        """Let the next cycle look at everybody of *tenant* anew; return whether anybody waits."""
        waiting = self._by_tenant.get(tenant)
        if waiting is None:
            return False
        waiting.rank_after = -1e9  # maxPriority may be another one, and with it the order
        waiting.unheard |= dict.fromkeys(waiting.queue.uids())
        self.moved(tenant)
        return bool(waiting.unheard)

    def tell(self, tenant: str) -> None:
        """Tell those whom a cycle has just looked at for the first time, or whose reason is another one now."""
        waiting = self.of(tenant)
        unheard, waiting.unheard = waiting.unheard, {}
        if not unheard:
            return
        self._rank(waiting)
        explain = self._explainer(tenant)
        for candidate in [found for uid in unheard if (found := waiting.queue.get(uid))]:
            why, said = explain(candidate), self._said.get(candidate.entry.uid)
            if said is None or said.reason != why.reason:
                self._note(candidate, why)
                self._on_change(candidate.key)
            elif not why.was_said(said.reason, said.message):  # that a sentence names an old limit is not urgent
                self.moved(tenant)

    def moved(self, tenant: str) -> None:
        """Look at places and reasons of *tenant* again, but not soon: an idle queue sets no timer."""
        waiting = self._by_tenant.get(tenant)
        if waiting and len(waiting.queue) and not waiting.moved:
            waiting.moved = True
            self._refresh_later()

    def _forget_if_empty(self, tenant: str) -> None:
        """Forget a tenant of which nothing waits: they may come and go by the thousand."""
        if (waiting := self._by_tenant.get(tenant)) and waiting.is_empty:
            del self._by_tenant[tenant]

    def _refresh_later(self) -> None:
        if self._refresh_timer is None:
            self._refresh_timer = asyncio.get_running_loop().call_later(REFRESH_SECONDS, self._refresh)

    def _rank(self, waiting: Waiting) -> None:
        """Compute all places, but not in every cycle: in between a newcomer counts as the last."""
        time = asyncio.get_running_loop().time
        began = time()
        if began >= waiting.rank_after:
            waiting.positions = waiting.queue.positions()
            waiting.rank_after = began + max(_RANK_SECONDS, _RANK_SHARE * (time() - began))

    def _refresh(self) -> None:
        """Begin to look at all whose places may have changed; a look at ten thousand in one go would hold up others."""
        self._refresh_timer = None
        if self._refreshing is None:
            asyncio.get_running_loop().call_soon(self._go_on)
        self._refreshing = itertools.chain(self._refreshing or (), self._look_again())

    def _go_on(self) -> None:
        """Continue a refresh, and come back in the loop's next turn for the rest."""
        if self._refreshing is None:
            return
        if len(list(itertools.islice(self._refreshing, _AT_A_TIME))) < _AT_A_TIME:
            self._refreshing = None
        else:
            asyncio.get_running_loop().call_soon(self._go_on)

    def _look_again(self) -> Iterator[None]:
        """Tell those whose reason, limits or noticeably whose place has changed, in the order of the queues.

        The budget is that of all tenants. Whom it does not reach is looked at a minute later, before those it did.
        """
        budget = REFRESH_WRITES
        for tenant, waiting in list(self._by_tenant.items()):
            if not waiting.moved or self._by_tenant.get(tenant) is not waiting:
                continue
            if budget == 0:
                self._refresh_later()
                return
            self._by_tenant[tenant] = self._by_tenant.pop(tenant)  # the last in the next turn
            waiting.moved, waiting.rank_after, explain = False, -1e9, self._explainer(tenant)
            self._rank(waiting)
            for number, (uid, position) in enumerate(waiting.in_turn(), start=1):
                if number % _AT_A_TIME == 0:
                    explain = self._explainer(tenant)  # meanwhile things may have changed
                candidate = waiting.queue.get(uid)
                if budget == 0:
                    waiting.first = uid
                    self.moved(tenant)
                    break
                if candidate and self._changed(waiting, candidate, position, explain):
                    budget -= 1
                    self._on_change(candidate.key)
                yield

    def _changed(self, waiting: Waiting, candidate: Candidate, position: int, explain: Explain) -> bool:
        """Whether the task is to be told something else than it was."""
        uid, why = candidate.entry.uid, explain(candidate)
        said = self._said.get(uid)
        if said and why.was_said(said.reason, said.message) and not moved_noticeably(waiting.told.get(uid), position):
            return False
        self._note(candidate, replace(why, position=position))
        return True

    def _note(self, candidate: Candidate, why: HeldBack) -> None:
        """Take note of what a task is told: its place is told along with the rest."""
        uid, said = candidate.entry.uid, self._said.get(candidate.entry.uid)
        if said is None or said.reason != why.reason:
            self._metrics.held_back(candidate.tenant, why.reason)
        self._said[uid] = why
        if why.position:
            self.of(candidate.tenant).told[uid] = why.position
