"""The one loop that admits: it alone writes the ledgers, one write at a time.

Whatever is waiting when a write begins shares it: many admissions and releases are one
write. A release by itself may wait a moment for company; an admission never does, but where the ledgers have
written more bytes than etcd should keep.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime

import structlog

from longtask_operator.adapters.errors import AlreadyExists, ApiError, Conflict, Invalid
from longtask_operator.adapters.metrics import Metrics
from longtask_operator.api.reasons import QueueReason
from longtask_operator.api.status import Queue
from longtask_operator.core.admission import plan_admissions
from longtask_operator.core.duplicates import one_of_each_key
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.ledger_layout import Tenants as Entries
from longtask_operator.core.ledger_layout import changed, cohort_of, ledger_name
from longtask_operator.core.precedence import HeldBack
from longtask_operator.core.queueing import Candidate
from longtask_operator.core.quota import NEVER
from longtask_operator.core.snapshot import Snapshot
from longtask_operator.core.why_waiting import Scene, why_waiting
from longtask_operator.engines.admitted import Admitted
from longtask_operator.engines.ledger_moves import astray, settled
from longtask_operator.engines.ledger_work import Kept, Past, Raise, Work
from longtask_operator.engines.ledgers import Ledgers
from longtask_operator.engines.pacing import EARLY_SECONDS, ByteBudget
from longtask_operator.engines.raises import granted
from longtask_operator.engines.snapshots import NoLimits, Snapshots, Tenants
from longtask_operator.engines.waiting_room import Explain, WaitingRoom

RELEASE_DELAY = 0.2
#: How long who wants more waits for the ledger.
RAISE_SECONDS = 10.0
#: etcd keeps every version for five minutes: so 300 MiB of its 2 GiB at most, with this much at once.
BYTES_PER_SECOND, BYTES_AT_ONCE_SECONDS = 1024 * 1024, 10.0
#: What a write costs etcd besides its data.
WRITE_OVERHEAD = 4096
_RETRY_DELAY = 0.5
_REPAIR_SECONDS = 30.0
log = structlog.get_logger("longtask.admission")


class AdmissionLoop:
    """Collects candidates and releases, plans, writes, and tells who was admitted or must wait."""

    def __init__(
        self, ledgers: Ledgers, metrics: Metrics, on_change: Callable[[str], None], tenants: Tenants | None = None
    ) -> None:
        self._ledgers, self._metrics, self._on_change = ledgers, metrics, on_change
        self._tenants: Tenants = tenants or NoLimits()
        self.rivals: Callable[[str], Iterable[str]] = lambda uid: ()  #: who shares the idempotency key of a task
        #: Told of tasks about to be admitted; returns once it is known who shares the keys of these. Raises ApiError.
        self.learn_rivals: Callable[[Iterable[str]], Awaitable[None]] = _nothing
        self.admits: Callable[[str], Awaitable[bool]] = _always  #: whether the quotas let a ledger admit now
        self._snapshots = Snapshots(self._tenants, self._look_at_task, ledgers.most)
        self.claims = self._snapshots.claims
        self._snapshots.persons.coming = lambda uid: one.user if (one := self._in_flight.get(uid)) else None
        ledgers.riders += [self._snapshots.shares, self._snapshots.persons, self.claims]
        self._past: dict[str, Past] = defaultdict(Past)  #: by ledger
        self._work: dict[str, Work] = defaultdict(Work)  #: by ledger
        self._writing = Work()  #: what the write under way takes along
        self._room = WaitingRoom(metrics, on_change, self._explainer)
        ledgers.appeared.append(self._room.look_at)
        self._dirty: dict[str, None] = {}  #: ledgers to look at, in order
        self._soon: set[str] = set()  #: ledgers to look at in a moment, for releases
        self._in_flight: dict[str, Candidate | None] = {}
        self.attempts = Admitted()
        self._wake, self.cycles = asyncio.Event(), asyncio.Lock()  #: held during each cycle
        self._budget = ByteBudget(BYTES_PER_SECOND, seconds=BYTES_AT_ONCE_SECONDS)

    def home(self, tenant: str) -> str:
        """Return the name of the ledger that *tenant*'s attempts are admitted to now."""
        return ledger_name(tenant, self._tenants.limits(tenant).cohort)

    def submit(self, candidate: Candidate) -> None:
        """Let *candidate* wait for admission; the newest of a task counts, whatever tenant it had."""
        uid = candidate.entry.uid
        if self._room.candidate(uid) == candidate or self._in_flight.get(uid) == candidate:
            return
        self._room.enter(candidate)
        self.claims.heard(uid)
        for name in {self.home(candidate.tenant), *self._ledgers.standing(uid)}:
            if work := self._work.get(name):
                work.released.discard((uid, candidate.entry.attempt))
        self.look_at(self.home(candidate.tenant))

    def withdraw(self, uid: str, tenant: str) -> None:
        """Forget a task that waits no more."""
        self._room.forget_reason(uid)
        if self._in_flight.get(uid):
            self._in_flight[uid] = None
        if waiting := self._room.candidate(uid):  # what was kept for it others may have
            self._room.leave(uid)
            self.look_at(self.home(waiting.tenant))
        for name in self.claims.gone(uid):
            self.look_at(name)
        if (entry := self._ledgers.entry(uid)) and (run := self._tenants.run(entry)) and run.unreachable:
            self.run_changed(uid)  # time alone may have made it so

    def concerns(self, uid: str, tenant: str) -> bool:
        """Return whether a write that gives the task an entry is under way or still to come."""
        kept = any(uid in work.kept for work in (self._writing, *self._work.values()))
        return kept or uid in self._in_flight or self.stands_in_queue(uid)

    def keep(self, tenant: str, entry: LedgerEntry, key: str) -> None:
        """Put the entry of an attempt that lives back into the ledger, whatever the quota says.

        With a smaller size it gives back what a raise had reserved. The task, *key*, is told once the entry stands.
        """
        name = self.home(self._ledgers.tenant_of(entry.uid) or tenant)
        self._work[name].keep(Kept(self._ledgers.tenant_of(entry.uid) or tenant, entry, key))
        self.look_at(name)

    async def raise_entry(self, uid: str, entry: LedgerEntry) -> str:
        """Let the live attempt of *uid* hold what *entry* says, if that fits; return why not, empty if it stands.

        The new entry names the same attempt. Give back with `keep` and the smaller entry. Without an answer in time
        the entry may stand all the same, later.
        """
        tenant = self._ledgers.tenant_of(uid)
        if tenant is None:
            return "the ledger does not hold the attempt"
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        name = self.home(tenant)
        self._work[name].raise_to(Raise(entry, answer))
        self.look_at(name)
        try:
            return await asyncio.wait_for(answer, RAISE_SECONDS)
        except TimeoutError:
            return "the ledger could not be written in time"

    def release(self, tenant: str, uid: str, attempt: int) -> None:
        """Take an attempt out of the ledgers in which it stands, soon; *tenant* counts where it stands in none."""
        self.attempts.forget(uid, attempt)
        homes = {self.home(self._ledgers.tenant_of(uid) or tenant), self.home(tenant)}
        for name in {*homes, *self._ledgers.standing(uid)}:
            self._work[name].release(uid, attempt)
            if name not in self._soon:
                self._soon.add(name)
                asyncio.get_running_loop().call_later(RELEASE_DELAY, self._look_at_releases, name)

    def limits_changed(self, tenant: str) -> None:
        """Decide anew on everybody whom the limits of *tenant* concern: all of its cohort, if it has one."""
        home = self.home(tenant)
        elsewhere = [name for name in self._ledgers.names() if tenant in self._ledgers.ledger(name).tenants]
        for other in self._room.tenants():
            ours = self.home(other)  # of whatever cohort: it may have been the one that the tenant has left
            if (ours in (home, *elsewhere) or cohort_of(ours)) and self._room.look_at_all(other):
                self.look_at(ours)
        if any(name != home for name in elsewhere):
            self.look_at(home)
        for name in self.claims.names():
            self.look_at(name)

    def run_changed(self, uid: str) -> None:
        """Decide anew where the live attempt of a task may give way to somebody who waits, or may no more."""
        for name in self._ledgers.standing(uid):
            waiting = [tenant for tenant in self._members(name) if self._room.depth(tenant)]
            if any(self._tenants.limits(tenant).preemption != NEVER for tenant in waiting):
                self.look_at(name)

    def stands_in_queue(self, uid: str) -> bool:
        """Return whether a task waits for its turn here."""
        return self._room.tenant_of(uid) is not None

    def held_back(self, uid: str, said: Queue | None = None) -> HeldBack | None:
        """Return why a task still waits, whose status has *said* why, if a cycle looked at it and did not admit it."""
        candidate = self._room.candidate(uid)
        if candidate is None or not self._room.told(uid):
            return None
        return self._room.shown(candidate, self._explainer(candidate.tenant)(candidate), said)

    def queued(self, tenant: str) -> tuple[int, datetime | None]:
        """Return how many tasks of *tenant* wait, and when the oldest run of these began."""
        return self._room.depth(tenant), self._room.oldest(tenant)

    def tenants(self) -> list[str]:
        """Return the tenants of which something waits or is being admitted."""
        return self._room.tenants()

    def is_needed(self, name: str) -> bool:
        """Return whether anybody waits for ledger *name*, or has entries that are to come to it."""
        moving = any(self.home(tenant) == name for tenant in self._ledgers.tenants())
        return moving or any(self._room.depth(tenant) for tenant in self._members(name))

    def is_idle(self, name: str) -> bool:
        """Return whether nothing is to be done for ledger *name*."""
        return name not in self._work and name not in self._dirty

    def forget(self, name: str) -> None:
        """Forget ledger *name*, which is gone."""
        for known in (self._past, self._work):
            known.pop(name, None)
        self._snapshots.forget(name)

    async def run(self) -> None:
        """Admit for ever; never raises on faults of the API server."""
        clock = asyncio.get_running_loop().time
        self._budget = ByteBudget(BYTES_PER_SECOND, seconds=BYTES_AT_ONCE_SECONDS, clock=clock)
        for _, home in astray(self._ledgers, self.home):
            self.look_at(home)
        self._ledgers.appeared.append(self._look_at_late_line)
        while True:
            await self._wake.wait()
            self._wake.clear()
            dirty, self._dirty = list(self._dirty), {}
            for name in dirty:
                async with self.cycles:
                    await self._cycle(name)

    def _look_at_late_line(self, uid: str) -> None:
        """Look at a task of which another wrote a line: it may ask for none any more, and nothing else would tell."""
        if not self.concerns(uid, "") and len(self._ledgers.standing(uid)) == 1:
            self._look_at_task(uid)

    def _look_at_task(self, uid: str) -> None:
        if key := self._tenants.key(uid):
            self._on_change(key)

    def look_at(self, name: str) -> None:
        """Let the next cycle look at ledger *name*."""
        self._dirty[name] = None
        self._wake.set()

    def _look_at_releases(self, name: str) -> None:
        """Look at a ledger for the releases of the last moment, unless a write has taken all of them along."""
        self._soon.discard(name)
        if name in self._work:
            self.look_at(name)

    def _members(self, name: str) -> list[str]:
        """Return the tenants whose candidates are admitted to ledger *name*."""
        return [tenant for tenant in self._room.tenants() if self.home(tenant) == name]

    async def _cycle(self, name: str) -> None:
        """Plan and write once for one ledger; on a fault read it again and come back."""
        rest = self._past[name].rests_until - asyncio.get_running_loop().time()
        if (wait := max(self._budget.wait(), rest)) > EARLY_SECONDS:
            asyncio.get_running_loop().call_later(wait, self.look_at, name)
            return
        admits = await self.admits(name)
        work, ledger = self._work.pop(name, None) or Work(), self._ledgers.ledger(name)
        if ledger.broken:
            await self._await_repair(name, work)
            return
        if work.raises and not admits:  # who wants more waits as well
            self._work[name].raises, work.raises = work.raises, {}
        before = self._before_admission(name, work)
        planned = self._plan(name, before) if admits else []
        self._writing, self._in_flight = work, {candidate.entry.uid: candidate for candidate in planned}
        for candidate in planned:
            self._room.take_out(candidate)
        try:
            await self.learn_rivals(list(self._in_flight))
            admitted = self._one_of_each_key(name, before, planned)
            after = changed(before, added=[(candidate.tenant, candidate.entry) for candidate in admitted])
            if wrote := await self._ledgers.write(name, after):
                self._metrics.ledger_written()
                self._budget.spend(ledger.size + WRITE_OVERHEAD)
        except ApiError as error:
            await self._recover(name, work, planned, error)
            return
        finally:
            self._writing, self._in_flight = Work(), {}
        self._written(name, work, before, admitted, told=admits)
        for tenant in self._members(name) if wrote else ():  # what others have now may be another reason to wait
            self._room.moved(tenant)

    def _written(self, name: str, work: Work, before: Entries, admitted: list[Candidate], *, told: bool) -> None:
        """Tell everybody what a write, or the lack of a need for one, means for them; who waits if it may be *told*."""
        known = {uid for entries in before.values() for uid in entries}
        work.settle(entry for entries in self._ledgers.ledger(name).tenants.values() for entry in entries.values())
        for candidate in admitted:
            uid, number = candidate.entry.uid, candidate.entry.attempt
            self.attempts.note(uid, number, self._tenants.now(), anew=uid in known)
            self._room.admitted(candidate)
        for uid, kept in work.kept.items():  # it may have ended meanwhile: who saw that knew of no entry to release
            if self._ledgers.entry(uid) == kept.entry:
                self._on_change(kept.key)
        for tenant in self._members(name) if told else ():
            self._room.tell(tenant)
        self.claims.tell(name, self.stands_in_queue)
        for other, home in astray(self._ledgers, self.home):  # those whom this ledger has taken in may leave the other
            if home == name:
                self.look_at(other)

    def _before_admission(self, name: str, work: Work) -> Entries:
        """Return the entries of ledger *name* with all that is to change besides admissions."""
        before = settled(name, work, self._ledgers, self.home, self._work)
        if not work.raises:
            return before
        snapshot, now = self._snapshots.of(name, before, ()), self._tenants.now()
        return changed(before, added=granted(work.raises, before, snapshot, now, self._ledgers.tenant_of))

    def _plan(self, name: str, entries: Entries) -> list[Candidate]:
        """Return who may start now, taken out of their queues."""
        members = self._members(name)
        snapshot = self._snapshots.of(name, entries, members)
        queues = {tenant: self._room.of(tenant).queue for tenant in members}
        for tenant, queue in queues.items():
            limits = snapshot.members[tenant].limits
            queue.set_max_priority(limits.max_priority)
            queue.tell_persons_apart(limits.per_user is not None)
        before = self._past[name].plan.holder
        plan = plan_admissions(queues, snapshot, now=self._tenants.now(), holder=before.entry.uid if before else "")
        self._note_whether_full(name, snapshot)
        if plan.admitted and len(plan.admitted) >= snapshot.max_entries - snapshot.count:
            self.look_at(name)  # persons may need less room than was kept for them
        self._past[name].plan = plan
        self.claims.plan(name, plan.claims)
        return list(plan.admitted)

    def _note_whether_full(self, name: str, snapshot: Snapshot) -> None:
        """Log once that a ledger takes no more; whom that holds back is told like anybody who waits."""
        was_full, self._past[name].is_full = self._past[name].is_full, snapshot.count >= snapshot.max_entries
        if self._past[name].is_full and not was_full:
            log.warning("a ledger is full; nobody is admitted until attempts end", ledger=name, entries=snapshot.count)

    def _one_of_each_key(self, name: str, entries: Entries, admitted: list[Candidate]) -> list[Candidate]:
        """Leave out whose idempotency key another entry stands for: they decide anew, and others may take the room."""

        def holds(uid: str) -> bool:
            return any(uid in held for held in entries.values()) or self._ledgers.entry(uid) is not None

        kept, blocked = one_of_each_key(admitted, self.rivals, holds)
        for candidate in blocked:
            self._in_flight.pop(candidate.entry.uid, None)
            self._room.dismiss(candidate)
            self._on_change(candidate.key)
            self.look_at(name)
        return kept

    async def _await_repair(self, name: str, work: Work) -> None:
        """Hold everybody back while a ledger cannot be read, keep what is to be written, and look again later."""
        self._work[name].put_back(work)
        for tenant in self._members(name):
            self._room.tell(tenant)
        asyncio.get_running_loop().call_later(_REPAIR_SECONDS, self.look_at, name)
        await self._ledgers.reload(name)

    async def _recover(self, name: str, work: Work, admitted: list[Candidate], error: ApiError) -> None:
        """Put all back and read the ledger until it is known: the write may have been executed, or another was."""
        self._work[name].put_back(work)
        for candidate in self._in_flight.values():
            if candidate and not self.stands_in_queue(candidate.entry.uid):
                self._room.enter(candidate)
        if isinstance(error, Conflict | AlreadyExists):
            self._metrics.ledger_conflicted()
            log.info("the ledger was written by another; reading it again", ledger=name)
        elif isinstance(error, Invalid):
            self._past[name].rests_until = asyncio.get_running_loop().time() + _REPAIR_SECONDS
            log.error("the API server does not store a ledger; its tenants' tasks wait", ledger=name, error=str(error))
        else:
            log.warning("the ledger was not written; trying again", ledger=name, error=str(error))
            await asyncio.sleep(_RETRY_DELAY)
        while not await self._ledgers.reload(name):  # noqa: ASYNC110 - the API server changes it
            await asyncio.sleep(_RETRY_DELAY)
        for candidate in admitted:
            if not self.stands_in_queue(candidate.entry.uid):
                self._room.dismiss(candidate)
            self._on_change(candidate.key)  # also of tasks that went meanwhile: they may stand in the ledger now
        if isinstance(error, Invalid):
            self._ledgers.ledger(name).broken = f"cannot be stored: {error.message}"
            for tenant in self._members(name):
                self._room.tell(tenant)
        self.look_at(name)

    def _explainer(self, tenant: str) -> Explain:
        """Return what says why a candidate of *tenant* waits, as things are now."""
        waiting, name = self._room.of(tenant), self.home(tenant)
        ledger = self._ledgers.ledger(name)
        snapshot = self._snapshots.of(name, ledger.tenants, [tenant])
        scene = Scene(waiting.queue, snapshot, self._tenants.now(), self._past[name].plan)

        def explain(candidate: Candidate) -> HeldBack:
            position = waiting.position(candidate.entry.uid)
            if ledger.broken:
                message = f"the ledger {name} {ledger.broken}"
                return HeldBack(reason=QueueReason.BEHIND_OTHERS, message=message, position=position)
            return why_waiting(candidate, scene, position)

        return explain


async def _always(_: str) -> bool:
    return True


async def _nothing(_: Iterable[str]) -> None:
    return
