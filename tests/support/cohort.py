"""A cohort for tests of admission: members, what they hold, who of them waits, and for whom room is made."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from longtask_operator.core.admission import NO_PLAN, Plan, plan_admissions
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.precedence import HeldBack
from longtask_operator.core.preemption import Claim, Run, format_claims, parse_claims
from longtask_operator.core.queueing import Candidate, TenantQueue
from longtask_operator.core.quota import RECLAIM, Caps, Limits, usage_of
from longtask_operator.core.sizing import Size
from longtask_operator.core.snapshot import Snapshot, member_of
from longtask_operator.core.why_waiting import Scene, why_waiting
from tests.builders import SMALLEST, START, at

TENANTS = ("a", "b", "c")
LARGE = Size(cpu=4000, memory=SMALLEST.memory)


def limits(nominal: int | None, borrow: int | None = None, lend: int | None = None, **further: Any) -> Limits:
    caps = {"borrowing": Caps(concurrency=borrow), "lending": Caps(concurrency=lend)}
    return Limits(origin="a quota", cohort="research", concurrency=nominal, **{**caps, **further})


class Cohort:
    """Members, what they hold, and who of them waits."""

    def __init__(
        self, now: datetime = START, decayed: dict[str, Any] | None = None, name: str = "research", **members: Limits
    ) -> None:
        self.name, self.users = name, dict[str, str]()  #: the person of each task, if there is one
        self.limits, self.now, self.decayed = dict(members), now, decayed or {}
        self.held: dict[str, dict[str, LedgerEntry]] = {tenant: {} for tenant in members}
        self.queues = {tenant: TenantQueue() for tenant in members}
        self.holder: Candidate | None = None
        self.plan = NO_PLAN
        self.count = 0
        self.claims: tuple[Claim, ...] = ()
        self.runs: dict[str, Run] = {}

    def entry(self, uid: str, size: Size = SMALLEST) -> LedgerEntry:
        return LedgerEntry(uid=uid, attempt=1, generation=1, size=size)

    def holds(self, tenant: str, number: int = 1, size: Size = SMALLEST, priority: int = 0, **run: Any) -> str:
        """Let live attempts be there; return the uid of the last one."""
        uid = ""
        for _ in range(number):
            self.count += 1
            uid = f"x{self.count:04}"
            self.held[tenant][uid] = self.entry(uid, size)
            known: dict[str, Any] = {"queued_at": START, "since": START, **run}
            self.runs[uid] = Run(key=f"{tenant}/{uid}", priority=priority, **known)
        return uid

    def records_stops(self) -> list[str]:
        """Let the statuses of all victims say so; return their uids."""
        named = [uid for claim in self.claims for uid, _ in claim.victims]
        for uid in named:
            self.runs[uid] = replace(self.runs[uid], leaving=True)
        return named

    def ends(self, *uids: str) -> None:
        """Let attempts end: their lines leave the ledger."""
        for held in self.held.values():
            for uid in uids:
                held.pop(uid, None)

    def victims(self) -> list[str]:
        """Return who gives way, in order of uid."""
        return sorted(uid for claim in self.claims for uid, _ in claim.victims)

    def waits(
        self,
        tenant: str,
        number: int = 1,
        *,
        size: Size = SMALLEST,
        seconds: float = 0,
        priority: int = 0,
        user: str = "",
    ) -> str:
        uid = ""
        for _ in range(number):
            self.count += 1
            uid = f"u{self.count:04}"
            self.users[uid] = user
            self.queues[tenant].put(
                Candidate(
                    key=f"{tenant}/{uid}",
                    tenant=tenant,
                    priority=priority,
                    queued_at=at(seconds),
                    entry=self.entry(uid, size),
                    user=user,
                )
            )
        return uid

    def snapshot(self) -> Snapshot:
        """Return the snapshot of the ledger; what *held* has of others than the members is astray in it."""
        members = {
            tenant: member_of(
                own, self.held.get(tenant, {}), self.user_of, decayed=self.decayed.get(tenant, (0.0, 0.0, 0.0))
            )
            for tenant, own in self.limits.items()
        }
        return Snapshot(
            members=members,
            cohort=self.name,
            strays=usage_of(self.strays()),
            claims=tuple(claim for claim in self.claims if claim.tenant in members),
            runs=lambda entry: self.runs.get(entry.uid),
        )

    def user_of(self, uid: str) -> str:
        return self.users.get(uid, "")

    def strays(self) -> list[LedgerEntry]:
        """Return what the ledger has of tenants that are no members."""
        return [entry for tenant, held in self.held.items() if tenant not in self.limits for entry in held.values()]

    def cycle(self) -> list[str]:
        """Admit; return the tenants of the admitted in order."""
        uid = self.holder.entry.uid if self.holder else ""
        plan: Plan = plan_admissions(self.queues, self.snapshot(), now=self.now, holder=uid)
        self.plan, self.holder, self.claims = plan, plan.holder, parse_claims(format_claims(plan.claims))
        for candidate in plan.admitted:
            self.held.setdefault(candidate.tenant, {})[candidate.entry.uid] = candidate.entry
            self.runs[candidate.entry.uid] = Run(
                key=candidate.key, priority=candidate.priority, queued_at=candidate.queued_at, since=self.now
            )
        return [candidate.tenant for candidate in plan.admitted]

    def look_again(self) -> Plan:
        """Return what a further cycle would decide at once; nothing of the cohort changes."""
        twins = {tenant: TenantQueue() for tenant in self.queues}
        for tenant, queue in self.queues.items():
            for candidate in queue:
                twins[tenant].put(candidate)
        uid = self.holder.entry.uid if self.holder else ""
        return plan_admissions(twins, self.snapshot(), now=self.now, holder=uid)

    def why(self, tenant: str, uid: str) -> HeldBack:
        candidate = self.queues[tenant].get(uid)
        assert candidate is not None, f"{uid} does not wait"
        return why_waiting(candidate, Scene(self.queues[tenant], self.snapshot(), self.now, self.plan))


class CohortStory(RuleBasedStateMachine):
    """What happens to every cohort of `TENANTS`, whatever a story is about; the story makes *cohort*."""

    cohort: Cohort

    def cycle_once(self) -> None:
        """Let the cohort have a cycle: a second one would admit nobody, and stop nobody who has just started."""
        before = {uid for held in self.cohort.held.values() for uid in held}
        self.cohort.cycle()
        started = {uid for held in self.cohort.held.values() for uid in held} - before
        again = self.cohort.look_again()
        assert not again.admitted, f"a second cycle admits {[one.key for one in again.admitted]}"
        stopped = started & {uid for claim in again.claims for uid, _ in claim.victims}
        if any(self.cohort.limits[claim.tenant].preemption == RECLAIM for claim in again.claims):
            return  # what others give back may, with who has just started, be enough for who was in front of it
        assert not stopped, f"{stopped} have just started and give way"

    @rule(tenant=st.sampled_from(TENANTS))
    def is_cancelled(self, tenant: str) -> None:
        for candidate in list(self.cohort.queues[tenant])[:1]:
            self.cohort.queues[tenant].remove(candidate.entry.uid)

    @rule(seconds=st.sampled_from([1, 120, 700, 4000]))
    def time_passes(self, seconds: int) -> None:
        self.cohort.now += timedelta(seconds=seconds)
