"""Several operators forced active at once: small quotas, many tasks, and nobody who knows of the other.

Two ways, both real. `leases`: each operator has a Lease of its own, so all of them lead from the beginning to the
end; no installation does that, and the ledger's compare-and-swap is all that is left between them. Each of them is
stopped for moments again and again, so that they do not think the same in step: two that have seen the same decide the
same, and even without the ledger's precondition nothing would come of it. `frozen`: the
leader is stopped at a moment of the seed's choice, as a node does it that is out of memory, until another
leads; then it goes on where it was. The auditors read etcd: no tenant ever has more attempts alive than its quota
says, no task two pods, and every task ends as it must.

A round is a set of tenants with their tasks. Some rounds are played at once before the same operators. In some of
them the tenants lend each other what they have, and their quotas change (`edits.py`); of operators with a Lease each
one then hears of no change, and finds out by itself. In others the quotas limit each person, and one has all tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.faults.api import Json
from tests.faults.beside import beside
from tests.faults.edits import SIZES, first_quota, keep_editing
from tests.faults.ground import Ground
from tests.faults.kubelet import Act
from tests.faults.operators import Replica, quiet
from tests.faults.play import FINISHED, GROUP
from tests.faults.proxy import Write
from tests.support.auditor import Auditor, Expected, ledger_text
from tests.support.auditor_editions import COHORT, LONE, EditionAuditor
from tests.support.auditor_history import Change, current_revision, read_history
from tests.support.auditor_quota import QuotaAuditor
from tests.support.operator_process import NAMESPACE, SERVICE_ACCOUNT

WAYS = ("leases", "frozen")
TASKS = 15
#: Of the tenants of a round.
QUOTAS = (1, 1, 2)
#: Rounds before the same operators: one of them alone is no work for them.
AT_ONCE = 5
#: Of these, so many have tenants that lend, and quotas that change.
LENDING = 2
#: And of so many the quotas say nothing but how many attempts each person may have.
PERSONAL = 1
#: Nobody waits for a Lease that each has for itself, and none is to end itself because it was stopped for moments.
CALM = {"lease_duration_seconds": "60", "lease_renew_deadline_seconds": "40"}
#: A batch with a planted bug may never come to its end, one without it does on a busy machine as well.
BATCH_SECONDS, MUTANT_SECONDS, REST_SECONDS = 400.0, 150.0, 15.0
QUICK = {"initialSeconds": 1, "factor": 1, "maxSeconds": 1, "jitterPercent": 0}


@dataclass(slots=True, kw_only=True)
class Round:
    """What came of one round. *most* is what each tenant ever held at once."""

    number: int
    way: str
    seed: int
    operators: int
    lends: bool = False  #: whether its tenants lend each other what they have, and their quotas change
    personal: bool = False  #: whether its quotas limit each person; all its tasks are of one
    mutant: str = ""
    tasks: int = TASKS
    seconds: float = 0.0
    conflicts: int = 0  #: writes that the API server refused with 409: the rivals did meet
    ledger_writers: int = 0  #: operators that wrote the ledgers of its tenants
    fenced: int = 0  #: operators that ended themselves because they could not renew their Lease
    edits: int = 0  #: changes of its quotas
    borrowed: int = 0  #: admissions beyond a tenant's own
    moves: int = 0  #: times that another ledger than before went by a tenant's quota
    most: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    @property
    def quotas(self) -> dict[str, int]:
        """Its tenants, each with the attempts that it may have at once."""
        return {f"rivals-{self.number}-{index}": nominal for index, nominal in enumerate(QUOTAS)}

    @property
    def cohorts(self) -> list[str]:
        return [f"rivals-{self.number}-{which}" for which in ("from", "to")] if self.lends else []

    @property
    def specs(self) -> dict[str, Json]:
        """The first TenantQuota of each tenant."""
        if self.lends:
            return {name: first_quota(nominal, self.cohorts[0]) for name, nominal in self.quotas.items()}
        if self.personal:
            return {name: {"perUser": {"maxConcurrency": most}} for name, most in self.quotas.items()}
        return {name: {"concurrency": {"nominal": nominal}} for name, nominal in self.quotas.items()}

    @property
    def ledgers(self) -> set[str]:
        return {f"{LONE}{name}" for name in self.quotas} | {f"{COHORT}{name}" for name in self.cohorts}

    @property
    def spaces(self) -> set[str]:
        """The names of its tenants and of their ledgers."""
        return {*self.quotas, *self.ledgers}

    def as_line(self, **more: Any) -> Json:
        return {**more, **asdict(self), "seconds": round(self.seconds, 2)}


@dataclass(slots=True)
class Batch:
    """Rounds of one way that are played at once, by as many operators."""

    way: str
    operators: int
    rounds: list[Round]
    rng: random.Random
    mutant: str = ""  #: a bug that is planted into all of them
    expected: dict[str, Expected] = field(default_factory=dict)  #: how each task must end

    @property
    def spaces(self) -> set[str]:
        """The names of all its tenants and their ledgers."""
        return {name for found in self.rounds for name in found.spaces}


@dataclass(slots=True)
class Arena:
    """The operators of a batch, each behind a port of its own."""

    ground: Ground
    replicas: list[Replica]

    async def leading(self, *replicas: Replica) -> None:
        """Wait until each of them says that it leads."""
        async with asyncio.timeout(60):
            while not all(replica.says("leading") for replica in replicas):  # noqa: ASYNC110 - other processes do it
                await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def arena(ground: Ground, count: int, way: str, mutant: str = "", *, sound: int = 0) -> AsyncIterator[Arena]:
    """Yield *count* operators that are about to lead, all of them or, with one Lease, one of them.

    *mutant* is planted into all but the first *sound* ones.
    """
    kubeconfigs = [await ground.operator_kubeconfig() for _ in range(count)]
    replicas = []
    for number, kubeconfig in enumerate(kubeconfigs):
        identity = f"rival-{way}-{number}"
        settings = {"lease_name": f"longtask-rival-{number}", **CALM} if way == "leases" else {}
        log = ground.folder / f"{identity}-{time.monotonic_ns()}.log"
        planted = mutant if number >= sound else ""
        replicas.append(Replica(ground.forks, kubeconfig, log, identity, settings, mutant=planted))
    try:
        async with beside(*(replica.keep_running() for replica in replicas)):
            yield Arena(ground, replicas)
    finally:
        for replica in replicas:
            await replica.kill()


async def prepare(ground: Ground) -> None:
    """Let operators have Leases by other names than the chart's."""
    verbs = ["--verb=get,create,update", "--resource=leases.coordination.k8s.io", "-n", NAMESPACE]
    account = f"--serviceaccount={NAMESPACE}:{SERVICE_ACCOUNT}"
    for command in (["role", "rivals", *verbs], ["rolebinding", "rivals", "--role=rivals", account, "-n", NAMESPACE]):
        made = ground.kubectl("create", *command, "--dry-run=client", "-o", "yaml").stdout
        ground.kubectl("apply", "-f", "-", input=made)


async def play_rounds(
    grounds: Sequence[Ground], chosen: Iterable[Batch], tell: Callable[[Round], None] = lambda _: None
) -> list[Round]:
    """Play the rounds of all *chosen* batches, on all *grounds* at once; *tell* hears of each."""
    waiting, done = deque(chosen), list[Round]()

    async def work_off(ground: Ground) -> None:
        await prepare(ground)
        while waiting:
            for found in await play_batch(ground, waiting.popleft()):
                done.append(found)
                tell(found)

    async with asyncio.TaskGroup() as group:
        for ground in grounds:
            group.create_task(work_off(ground))
    return done


def batches(rounds: int, seed: int, *, first: int = 1, mutant: str = "") -> Iterator[Batch]:
    """Yield batches of so many rounds in all, numbered from *first* on, by both ways in turn."""
    for index, number in enumerate(range(first, first + rounds, AT_ONCE)):
        rng, way = random.Random(f"{seed} {number}"), WAYS[index % len(WAYS)]
        operators = 2 if way == "leases" else rng.choice([2, 3])
        numbers = range(number, min(number + AT_ONCE, first + rounds))
        made: Json = {"way": way, "seed": seed, "operators": operators, "mutant": mutant}
        lends, personal = range(number, number + LENDING), range(number + LENDING, number + LENDING + PERSONAL)
        found = [Round(number=n, lends=n in lends, personal=n in personal, **made) for n in numbers]
        yield Batch(way, operators, found, rng, mutant)


async def play_batch(ground: Ground, batch: Batch) -> list[Round]:
    """Play the rounds of *batch* and judge each of them."""
    since = await asyncio.to_thread(current_revision, ground.etcd)
    for found in batch.rounds:
        for name, spec in found.specs.items():  # before there is an operator: each of them reads them first
            await ground.namespace(name, spec)
    ground.proxy.arm()
    started = time.monotonic()
    async with arena(ground, batch.operators, batch.way, batch.mutant) as rivals:
        left = await _play(rivals, batch)
        complaints = [line for replica in rivals.replicas for line in replica.complaints(0)]
        fenced = sum(replica.fenced for replica in rivals.replicas)
    history = await asyncio.to_thread(read_history, ground.etcd, since=since)
    for found in batch.rounds:
        found.fenced, found.seconds = fenced, time.monotonic() - started
        found.violations += complaints
        found.violations += [f"Unfinished: {what}" for what in left if what.split("/")[0] in found.spaces]
        _judge(found, history, batch.expected)
        _count(found, ground.proxy.writes)
    spaces = [name for found in batch.rounds for name in found.quotas]
    await asyncio.gather(*(ground.api.delete(f"{GROUP}/namespaces/{name}/longtasks") for name in spaces))
    return batch.rounds


async def _play(rivals: Arena, batch: Batch) -> list[str]:
    """Let the operators do all the tasks; return what they left undone."""
    ground = rivals.ground
    if batch.way == "leases":
        await rivals.leading(*rivals.replicas)
    always, once = ([_stutter(rivals, batch.rng)], []) if batch.way == "leases" else ([], [_freeze(rivals, batch)])
    async with beside(*always):
        try:
            async with asyncio.timeout(MUTANT_SECONDS if batch.mutant else BATCH_SECONDS) as limit:
                await asyncio.gather(
                    *(_submit(ground, batch, found) for found in batch.rounds), _change(rivals, batch, once)
                )
                while await unfinished(ground, batch.spaces):  # noqa: ASYNC110 - other processes do it
                    await asyncio.sleep(0.3)
        except TimeoutError:
            if not limit.expired():
                raise
    return await _left(ground, batch.spaces, REST_SECONDS if batch.mutant else 3 * REST_SECONDS)


async def _left(ground: Ground, spaces: Collection[str], seconds: float) -> list[str]:
    """Return what is still unfinished *seconds* later, when nobody is stopped any more.

    Who had not heard of an end brings the attempt's entry back to the ledger; that has to be released again.
    """
    await quiet(lambda: ground.proxy.last_write, 1.0, REST_SECONDS)
    until = time.monotonic() + seconds
    while (left := await unfinished(ground, spaces)) and time.monotonic() < until:  # noqa: ASYNC110 - others end it
        await asyncio.sleep(0.3)
    return left


async def _change(rivals: Arena, batch: Batch, meanwhile: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Change the quotas of those who lend, until *meanwhile* is over; with a Lease for each, one never hears of it."""
    ground, busy = rivals.ground, asyncio.gather(*meanwhile)
    lenders = [found for found in batch.rounds if found.lends]
    while not _has_begun(ground.proxy.writes, batch):  # noqa: ASYNC110 - another process does it
        await asyncio.sleep(0.05)
    if batch.way == "leases":
        deaf = rivals.replicas[-1].port
        while not any(write.operator == deaf for write in ground.proxy.writes):  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.05)
        ground.proxy.held_back[deaf] = "tenantquotas"

    async def edit(found: Round) -> None:
        async def goes_on() -> bool:
            return not busy.done() or len(await unfinished(ground, found.quotas)) > TASKS // 5

        found.edits = await keep_editing(ground, found.specs, found.cohorts, batch.rng, goes_on)

    await asyncio.gather(busy, *(edit(found) for found in lenders))


async def _submit(ground: Ground, batch: Batch, found: Round) -> None:
    """Create the tasks of a round, all at once, every fifth of which fails once; note how each must end."""
    spaces = list(found.quotas) * (TASKS // len(QUOTAS))
    chosen, bodies = batch.rng.randrange(5), []
    for index, namespace in enumerate(spaces):
        name, fails = f"r{found.number:03d}-{index:02d}", index // len(QUOTAS) % 5 == chosen
        works = Act(after=batch.rng.uniform(0.02, 0.8))
        ground.kubelet.acts[(namespace, name)] = (Act(exit=1, after=0.1), works) if fails else (works,)
        # Whoever sees a later task of a higher priority first begins with another one.
        spec = {"image": "registry.example/task:1", "priority": batch.rng.randrange(10), "retry": {"backoff": QUICK}}
        spec |= {"resources": {"cpu": "250m", "memory": batch.rng.choice(SIZES)}} if found.lends else {}
        meta = {"name": name, "namespace": namespace}
        body = {"apiVersion": "longtask.dev/v1alpha1", "kind": "LongTask", "metadata": meta, "spec": spec}
        bodies.append((namespace, body))
        causes = ("Application", "Completed") if fails else ("Completed",)
        batch.expected[f"{namespace}/{name}"] = Expected(phase="Succeeded", causes=causes)
    for namespace, body in bodies:
        await ground.api.request("POST", f"{GROUP}/namespaces/{namespace}/longtasks", body)


async def _stutter(rivals: Arena, rng: random.Random) -> None:
    """Stop one operator after the other for a moment, until cancelled."""
    while True:
        replica = rng.choice(rivals.replicas)
        with stopped(replica):
            await asyncio.sleep(rng.uniform(0.05, 0.6))
        await asyncio.sleep(rng.uniform(0.2, 0.8))


async def _freeze(rivals: Arena, batch: Batch) -> None:
    """Stop whoever leads, at a moment of chance, until another leads; then let it go on."""
    leader = await _leader(rivals)
    others = [replica for replica in rivals.replicas if replica is not leader]
    while not _has_begun(rivals.ground.proxy.writes, batch):  # noqa: ASYNC110 - another process does it
        await asyncio.sleep(0.05)
    await asyncio.sleep(batch.rng.uniform(0.0, 1.5))
    with stopped(leader):
        async with asyncio.timeout(60):
            while not any(replica.says("leading") for replica in others):  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(0.02)
        await asyncio.sleep(batch.rng.uniform(0.0, 0.6))


@contextlib.contextmanager
def stopped(replica: Replica) -> Iterator[None]:
    if not replica.runs:
        yield
        return
    replica.freeze()
    try:
        yield
    finally:
        replica.thaw()


async def _leader(rivals: Arena) -> Replica:
    async with asyncio.timeout(60):
        while True:
            for replica in rivals.replicas:
                if replica.says("leading"):
                    return replica
            await asyncio.sleep(0.02)


async def unfinished(ground: Ground, spaces: Collection[str]) -> list[str]:
    """Return what is still to come, each with its tenant or ledger before a slash: tasks, ledger lines, finalizers."""
    found = []
    for task in await ground.api.items(f"{GROUP}/longtasks"):
        space, phase = task["metadata"]["namespace"], (task.get("status") or {}).get("phase")
        if space in spaces and phase not in FINISHED:
            found.append(f"{space}/{task['metadata']['name']} {phase}")
    for pod in await ground.api.items("/api/v1/pods"):
        space = pod["metadata"]["namespace"]
        if space in spaces and "longtask.dev/accounting" in (pod["metadata"].get("finalizers") or []):
            found.append(f"{space}/{pod['metadata']['name']} is held")
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
    for ledger in await ground.api.items(path, labelSelector="app.kubernetes.io/component=ledger"):
        name = ledger["metadata"]["name"]
        if name in spaces:  # planted bugs leave lines of others
            found += [f"{name}/{line}" for line in ledger_text(ledger).splitlines()]
    return found


def _judge(found: Round, history: Sequence[Change], expected: dict[str, Expected]) -> None:
    ours = [c for c in history if {c.namespace, c.name} & found.spaces]
    wanted = {key: end for key, end in expected.items() if key.split("/")[0] in found.quotas}
    quotas = QuotaAuditor(found.quotas).replay(() if found.lends else ours)  # it takes no quota for lowered in between
    editions = EditionAuditor().replay(ours)
    found.most, found.borrowed, found.moves = dict(quotas.most), editions.borrowed, editions.moves
    for violation in [*Auditor().replay(ours).finish(wanted), *quotas.violations, *editions.violations]:
        found.violations.append(f"{violation.rule}: {violation.about} at {violation.revision}: {violation.message}")


def _count(found: Round, writes: Sequence[Write]) -> None:
    """Count who wrote the ledgers of the round; where each has a Lease, all of them must have."""
    ours = [w for w in writes if w.namespace in found.quotas or _is_ledger(w, found)]
    found.conflicts = sum(write.code == 409 for write in ours)
    found.ledger_writers = len({write.operator for write in ours if _is_ledger(write, found)})
    needed = found.operators if found.way == "leases" else 2
    if found.ledger_writers < needed:
        found.violations.append(f"NoRivals: {found.ledger_writers} of {found.operators} operators wrote its ledgers")


def _has_begun(writes: Sequence[Write], batch: Batch) -> bool:
    """Tell whether a ledger of each round was written."""
    return all(any(_is_ledger(write, found) for write in writes) for found in batch.rounds)


def _is_ledger(write: Write, found: Round) -> bool:
    return write.resource == "configmaps" and write.name in found.ledgers
