"""Operators that lead at once and know TenantQuotas of different age, on a model of the API server.

Only their admission is real here: ledgers, quotas, editions, the loop. Judged is every write of a ledger, by what the
TenantQuotas said in the edition that the ledger lists.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from longtask_operator.adapters.errors import ApiError
from longtask_operator.adapters.kube import Kube
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.persons import parse_persons
from longtask_operator.core.queueing import Candidate
from longtask_operator.core.quota import Limits
from longtask_operator.engines.admission_loop import AdmissionLoop
from longtask_operator.engines.context import Clock, new_caches
from longtask_operator.engines.editions import Editions
from longtask_operator.engines.housekeeping import Housekeeping
from longtask_operator.engines.ledgers import Ledgers
from longtask_operator.engines.quotas import Quotas
from longtask_operator.engines.wiring import take_quota_event
from tests.builders import SMALLEST, START
from tests.support.contexts import context_on
from tests.support.sim_api import Broken, Json, Request, SimApi
from tests.support.sim_operator import METRICS, LogTrap, Pending, SimKube, VirtualLoop

HOME, DEFAULT = "longtask-system", 1
TENANTS, COHORTS = ("x", "y"), ("", "c", "d", "?")  # the last one cannot be read
COHORT_LEDGER, LONE_LEDGER = "longtask-ledger-cohort-", "longtask-ledger-tenant-"
Lines = dict[str, set[str]]  #: by tenant: `uid attempt`


class Rival:
    """An operator that admits; it hears of TenantQuotas when it is told to."""

    def __init__(self, api: SimApi, loop: VirtualLoop) -> None:
        self.loop, self.kube, self.inbox = loop, SimKube(), deque[tuple[str, Json]]()
        nothing: Any = None
        clock = Clock(now=loop.now, jitter=lambda: 0.5)
        self.context = replace(context_on(new_caches()), kube=cast(Kube, self.kube), clock=clock, metrics=nothing)
        self.ledgers = Ledgers(cast(Kube, self.kube), HOME)
        self.quotas = Quotas(self.context, Limits(origin="the default quota", concurrency=DEFAULT))
        for body in api.of("tenantquotas"):
            take_quota_event(self.context, "ADDED", body)
        self.admission = self.loop.within(lambda: AdmissionLoop(self.ledgers, METRICS, lambda key: None, self.quotas))
        self.editions = wire(self)
        self.quotas.listeners.append(self.admission.limits_changed)
        parts = (self.context, self.ledgers, self.admission, self.quotas)
        self.housekeeping = Housekeeping(*parts, memories=(), idle_seconds=0)
        self.tidying: list[asyncio.Task[None]] = []
        self.notice: Callable[[str, str, Json], None] = lambda plural, kind, body: (
            self.inbox.append((kind, body)) if plural == "tenantquotas" else None
        )
        api.watchers.append(self.notice)
        self.task = loop.create_task(self._lead())

    async def _lead(self) -> None:
        while True:
            try:
                await self.ledgers.load()
                break
            except ApiError:
                await asyncio.sleep(1)
        await self.admission.run()

    def hear(self) -> bool:
        """Let the next event of a TenantQuota arrive; return whether there was one."""
        if not self.inbox:
            return False
        kind, body = self.inbox.popleft()
        self.loop.within(lambda: take_quota_event(self.context, kind, body))
        return True

    def submit(self, uid: str, tenant: str) -> None:
        """Let a task wait here; nobody can look up whose it is once it waits no more."""
        key, person = f"{tenant}/{uid}", person_of(uid)
        entry = LedgerEntry(uid=uid, attempt=1, generation=1, size=SMALLEST)
        candidate = Candidate(key=key, tenant=tenant, priority=0, queued_at=START, entry=entry, user=person)
        self.loop.within(lambda: self.admission.submit(candidate))

    def end(self, uid: str, tenant: str) -> None:
        """Hear that the task has ended: it waits no more and holds nothing."""
        self.loop.within(lambda: self.admission.withdraw(uid, tenant))
        self.loop.within(lambda: self.admission.release(tenant, uid, 1))

    def tidy(self) -> None:
        """Begin to delete the ledgers in which nothing stands."""
        self.tidying.append(self.loop.create_task(self.housekeeping.tidy()))
        self.loop.settle()

    @property
    def sent(self) -> list[Pending]:
        return self.kube.pending

    @property
    def requests(self) -> list[Pending]:
        """Those that have no answer yet."""
        return [pending for pending in self.kube.pending if not pending.reply.done()]

    def stop(self, api: SimApi) -> None:
        api.watchers.remove(self.notice)
        for task in (self.task, *self.tidying):
            task.cancel()
        self.loop.settle()
        for pending in self.kube.pending:
            pending.reply.cancel()
        self.loop.settle()


def wire(rival: Rival) -> Editions:
    """Let *rival*'s ledgers carry the editions of the quotas, as `build_leader` does."""
    admission = rival.admission
    editions = Editions(rival.context, rival.ledgers, rival.quotas, admission.look_at, admission.is_needed)
    admission.admits = editions.admits
    rival.ledgers.riders.append(editions)
    rival.quotas.listeners.append(editions.limits_changed)
    return editions


def person_of(uid: str) -> str:
    """Return whose task that is: one in two of the model is of one person, the others of none."""
    return "eve" if int(uid[1:]) % 2 else ""


@dataclass(slots=True)
class Judge:
    """Looks at every write of a ledger."""

    quotas: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)  #: tenant, edition -> nominal, cohort
    order: dict[str, list[str]] = field(default_factory=lambda: defaultdict(lambda: ["-"]))  #: editions by tenant
    lines: dict[str, Lines] = field(default_factory=dict)  #: by ledger
    listed: dict[str, dict[str, list[str]]] = field(default_factory=dict)  #: ledger -> tenant -> edition, maybe joining
    newest: dict[str, int] = field(default_factory=dict)  #: by tenant: place in its order that a ledger ever went by
    promised: dict[str, int] = field(default_factory=dict)  #: the same of those that an operator said to stand
    admissions: int = 0
    stood: set[str] = field(default_factory=set)  #: lines that ever did: a move by a late rival may bring one back
    per_user: dict[tuple[str, str], int] = field(default_factory=dict)  #: tenant, edition -> attempts of one person
    counted: set[str] = field(default_factory=set)  #: lines of persons that came while their tenant had such a limit

    def quota(self, tenant: str, edition: str, nominal: int, cohort: str, per_user: int | None = None) -> None:
        """Note that the quota of *tenant* says this from now on."""
        self.quotas[tenant, edition] = (nominal, cohort)
        self.per_user.pop((tenant, edition), None)
        if per_user is not None:
            self.per_user[tenant, edition] = per_user
        self.order[tenant].append(edition)

    def place(self, tenant: str, edition: str) -> int:
        """Return the place of the last of the editions of *tenant* that is called so."""
        order = self.order[tenant]
        return len(order) - 1 - order[::-1].index(edition)

    def promise(self, tenant: str, edition: str) -> None:
        """Note that an operator has said: nobody of *tenant* is admitted by an older edition any more."""
        self.promised[tenant] = max(self.promised.get(tenant, 0), self.place(tenant, edition))

    def says(self, tenant: str, edition: str) -> tuple[int, str]:
        return self.quotas.get((tenant, edition), (DEFAULT, ""))

    def written(self, plural: str, kind: str, body: Json) -> None:
        if plural != "configmaps":
            return
        name, data = body["metadata"]["name"], body["data"] if kind != "DELETED" else {}
        if kind == "DELETED" and any(self.lines[name].values()):
            raise Broken(f"{name} is deleted, in which {self.lines[name]} stand")
        after = lines_of(name, data)
        self.lines[name] = after
        listing = [line.split() for line in data.get("quota.editions", "").splitlines()]
        self._list(name, {fields[0]: fields[1:] for fields in listing})
        for tenant, lines in after.items():
            if new := lines - self.stood:
                self.stood |= new
                self.admissions += len(new)
                self._judge(name, tenant)
                self._judge_persons(name, tenant, new)
        carried = parse_persons(data.get("quota.persons", ""))
        if strangers := carried.keys() - {line.split()[0] for lines in after.values() for line in lines}:
            raise Broken(f"{name} knows whom {sorted(strangers)} count for, which it does not hold")

    def _judge_persons(self, name: str, tenant: str, new: set[str]) -> None:
        """Of those that came under a limit of each person no more live at once than the newest of them may."""
        most = self.per_user.get((tenant, self.listed[name][tenant][0]))
        of_eve = {line for line in new if person_of(line.split()[0])}
        if most is None or not of_eve:
            return
        self.counted |= of_eve
        held = {line for ledger in self.lines.values() for line in ledger.get(tenant, set())} & self.counted
        if len(held) > most:
            raise Broken(f"{sorted(held)} of one person live at once in {tenant}, each may have {most}")

    def _list(self, name: str, listing: dict[str, list[str]]) -> None:
        known = self.listed.get(name, {})
        self.listed[name] = listing
        for tenant, said in listing.items():
            if said == known.get(tenant) or said[1:]:
                continue
            place = self.place(tenant, said[0])
            if place < self.newest.get(tenant, 0):
                raise Broken(f"{name} goes back to edition {said[0]} of {tenant}")
            self.newest[tenant] = place
            also = [other for other, of in self.listed.items() if other != name and of.get(tenant, ["", "x"])[1:] == []]
            if also:
                raise Broken(f"{tenant} may be admitted to {name} and to {also}")

    def _judge(self, name: str, tenant: str) -> None:
        said = self.listed[name].get(tenant)
        if said is None or said[1:]:
            raise Broken(f"{tenant} is admitted to {name}, which lists {said}")
        if self.place(tenant, said[0]) < self.promised.get(tenant, 0):
            raise Broken(f"{tenant} is admitted by {said[0]}, although a newer quota was said to stand")
        cohort = self.says(tenant, said[0])[1]
        home = f"{COHORT_LEDGER}{cohort}" if cohort else f"{LONE_LEDGER}{tenant}"
        if home != name:
            raise Broken(f"{tenant} is admitted to {name}, and {said[0]} says {home}")
        members = self.listed[name]
        most = sum(self.says(member, edition[0])[0] for member, edition in members.items())
        held = {line for ledger in self.lines.values() for member in members for line in ledger.get(member, set())}
        if len(held) > most:
            raise Broken(f"{sorted(held)} of {name} live at once, the quotas are {most}")


def lines_of(name: str, data: Json) -> Lines:
    """Return the attempts in the data of a ledger, by tenant."""
    keys = {key: text for key, text in data.items() if "." not in key}
    if name.startswith(LONE_LEDGER):
        keys = {name.removeprefix(LONE_LEDGER): data.get("attempts", "")}
    return {tenant: {" ".join(line.split()[:2]) for line in text.splitlines()} for tenant, text in keys.items()}


class Ground:
    """The model of the API server, its judge, and the rivals."""

    def __init__(self, rivals: int = 2) -> None:
        self.trap, self.loop = LogTrap(), VirtualLoop()
        self.api, self.judge = SimApi(now=self.loop.now), Judge()
        self.api.watchers.append(self.judge.written)
        self.rivals = [Rival(self.api, self.loop) for _ in range(rivals)]
        self.tasks: dict[str, str] = {}  #: those that have not ended: uid -> tenant
        self.count = 0

    def quota(self, tenant: str, nominal: int | None, cohort: str = "", per_user: int | None = None) -> None:
        """Create or change a TenantQuota; nobody hears of it yet. Without *nominal* it has one that cannot be read."""
        before = self.api.objects.get(("tenantquotas", "", tenant))
        amount = {"nominal": "?" if nominal is None else nominal}
        spec: Json = {"concurrency": amount} | ({"cohort": cohort} if cohort else {})
        spec |= {} if per_user is None else {"perUser": {"maxConcurrency": per_user}}
        if before is None:
            self.count += 1
            uid, generation = f"{self.count:08d}-quota", 1
            meta: Json = {"name": tenant, "uid": uid, "generation": generation}
        else:
            meta = before["metadata"]
            uid, generation = meta["uid"], meta["generation"] + 1
        self.judge.quota(tenant, f"{uid[:8]}/{generation}", nominal or 0, cohort, per_user)
        body = {"metadata": {**meta, "generation": generation}, "spec": spec}
        if before is None:
            self.api.new("tenantquotas", "", body)
        else:
            self.api.put("tenantquotas", body)

    def no_quota(self, tenant: str) -> None:
        if body := self.api.objects.get(("tenantquotas", "", tenant)):
            self.judge.quota(tenant, "-", DEFAULT, "")
            self.api.remove("tenantquotas", body)

    def come(self, tenant: str, *rivals: Rival) -> str:
        self.count += 1
        uid = f"u{self.count:04}"
        self.tasks[uid] = tenant
        for rival in rivals or self.rivals:
            rival.submit(uid, tenant)
        return uid

    def end(self, uid: str) -> None:
        tenant = self.tasks.pop(uid)
        for rival in self.rivals:
            rival.end(uid, tenant)

    def step(self, rival: Rival, reply: str = "ok") -> bool:
        """Execute the oldest request of *rival* that is not, or else answer or lose the oldest."""
        self.loop.settle()
        for pending in rival.requests:
            if not pending.executed:
                pending.execute(self.api)
                return True
            if reply == "lost":
                pending.lose()
            else:
                pending.deliver()
            self.loop.settle()
            return True
        return False

    def run(self, *rivals: Rival, seconds: float = 30) -> None:
        """Let *rivals* do what they have to, all if none is named."""
        those = rivals or self.rivals
        self.loop.pass_time(seconds, lambda: sum(self.step(rival) for rival in those))  # each has its turn

    def restart(self, rival: Rival) -> Rival:
        """Kill *rival* and start another operator, which hears of all tasks."""
        rival.stop(self.api)
        new = Rival(self.api, self.loop)
        self.rivals[self.rivals.index(rival)] = new
        for uid, tenant in self.tasks.items():
            new.submit(uid, tenant)
        return new

    def requests_of(self, rival: Rival) -> list[Request]:
        """Return all that *rival* has sent."""
        return [pending.request for pending in rival.sent]

    def held(self, tenant: str) -> set[str]:
        return {line.split()[0] for of in self.judge.lines.values() for line in of.get(tenant, set())}

    def close(self) -> None:
        for rival in self.rivals:
            rival.stop(self.api)
        self.loop.close()
        self.trap.close()


def grounds(rivals: int = 2) -> Iterator[Ground]:
    """Yield a ground, and close it."""
    ground = Ground(rivals)
    try:
        yield ground
    finally:
        ground.close()


class RivalStory(RuleBasedStateMachine):
    """Anything in any order; at the end all hear of everything, and nobody waits in front of free room."""

    def __init__(self) -> None:
        super().__init__()
        self.ground = Ground()

    which = st.integers(0, 1)
    tenant = st.sampled_from(TENANTS)

    @rule(
        tenant=tenant,
        nominal=st.sampled_from([0, 1, 2, 3, None]),
        cohort=st.sampled_from(COHORTS),
        per_user=st.sampled_from([None, None, 1, 2]),
    )
    def edit(self, tenant: str, nominal: int | None, cohort: str, per_user: int | None) -> None:
        self.ground.quota(tenant, nominal, cohort, per_user)

    @rule(tenant=tenant)
    def delete(self, tenant: str) -> None:
        self.ground.no_quota(tenant)

    @rule(which=which)
    def hear(self, which: int) -> None:
        self.ground.rivals[which].hear()

    @rule(tenant=tenant, who=st.sampled_from([(0,), (1,), (0, 1)]))
    def come(self, tenant: str, who: tuple[int, ...]) -> None:
        self.ground.come(tenant, *(self.ground.rivals[one] for one in who))

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        if self.ground.tasks:
            self.ground.end(data.draw(st.sampled_from(sorted(self.ground.tasks))))

    @rule(which=which, number=st.integers(1, 8))
    def steps(self, which: int, number: int) -> None:
        for _ in range(number):
            self.ground.step(self.ground.rivals[which])

    @rule(which=which)
    def lose(self, which: int) -> None:
        self.ground.step(self.ground.rivals[which], "lost")

    @rule(tenant=tenant)
    def depart(self, tenant: str) -> None:
        for uid in [uid for uid, of in self.ground.tasks.items() if of == tenant]:
            self.ground.end(uid)
        self.ground.no_quota(tenant)

    @rule(which=which)
    def tidy(self, which: int) -> None:
        self.ground.run(self.ground.rivals[which], seconds=1)
        self.ground.rivals[which].tidy()

    @rule(which=which)
    def crash(self, which: int) -> None:
        self.ground.restart(self.ground.rivals[which])

    @invariant()
    def mirror(self) -> None:
        """Let each operator say which generation of a quota it goes by, if that stands: it is a promise."""
        for rival in self.ground.rivals:
            for tenant in TENANTS:
                if rival.editions.stands(tenant):
                    self.ground.judge.promise(tenant, rival.quotas.edition(tenant))

    @rule(seconds=st.sampled_from([0.3, 1.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.ground.loop.elapsed += seconds
        self.ground.loop.settle()

    def teardown(self) -> None:
        ground = self.ground
        try:
            if self.ground.api.broken is None:
                self._come_to_rest()
            assert ground.trap.unexpected == []
        finally:
            ground.close()

    def _come_to_rest(self) -> None:
        ground = self.ground
        for rival in ground.rivals:
            while rival.hear():
                pass
            for uid, tenant in ground.tasks.items():
                if uid not in ground.held(tenant):
                    rival.submit(uid, tenant)
        ground.run(seconds=60)
        for rival in ground.rivals:
            assert rival.task.done() is False
            assert all(task.done() and not task.exception() for task in rival.tidying)
        for tenant in TENANTS:
            body = ground.api.objects.get(("tenantquotas", "", tenant))
            nominal = body["spec"]["concurrency"]["nominal"] if body else DEFAULT
            waits = [uid for uid, of in ground.tasks.items() if of == tenant and uid not in ground.held(tenant)]
            if body and "perUser" in body["spec"]:  # whose person has too many waits all the same
                waits = [uid for uid in waits if not person_of(uid)]
            if not (body and (body["spec"].get("cohort") or nominal == "?")):
                assert not waits or len(ground.held(tenant)) >= nominal, (tenant, waits, ground.judge.lines)
