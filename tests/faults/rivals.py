"""Several operators forced active at once: thirty tasks, five small quotas, and nobody who knows of the other.

Two ways, both real. `leases`: each operator has a Lease of its own, so all of them lead from the beginning to the
end; no installation does that, and the ledger's compare-and-swap is all that is left between them. `frozen`: the
leader is stopped at a moment of the seed's choice, as a node does it that is out of memory, until another
leads; then it goes on where it was. The auditors read etcd: no tenant ever has more attempts alive than its quota
says, no task two pods, and every task ends as it must.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.faults.api import Json
from tests.faults.ground import Ground
from tests.faults.kubelet import Act
from tests.faults.operators import Replica
from tests.faults.play import FINISHED, GROUP
from tests.support.auditor import Auditor, Expected, ledger_text
from tests.support.auditor_history import Change, current_revision, read_history
from tests.support.auditor_quota import QuotaAuditor
from tests.support.operator_process import NAMESPACE, SERVICE_ACCOUNT

TASKS = 30
#: Tenants and their quotas.
QUOTAS: dict[str, Json] = {f"rivals-{n}": {"concurrency": {"nominal": n}} for n in (1, 2, 3, 4, 5)}
ROUND_SECONDS = 90.0
QUICK = {"initialSeconds": 1, "factor": 1, "maxSeconds": 1, "jitterPercent": 0}


@dataclass(slots=True, kw_only=True)
class Round:
    """What came of one round. *most* is what each tenant ever held at once."""

    number: int
    way: str
    seed: int
    operators: int
    tasks: int = TASKS
    seconds: float = 0.0
    conflicts: int = 0  #: writes that the API server refused with 409: the rivals did meet
    writers: int = 0  #: operators that wrote anything
    fenced: int = 0  #: operators that ended themselves because they could not renew their Lease
    most: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def as_line(self, **more: Any) -> Json:
        return {**more, **asdict(self), "seconds": round(self.seconds, 2)}


@dataclass(slots=True)
class Arena:
    """The operators of a round, each behind a port of its own."""

    ground: Ground
    replicas: list[Replica]

    async def leading(self, *replicas: Replica) -> None:
        """Wait until each of them says that it leads."""
        async with asyncio.timeout(40):
            while not all(replica.says("leading") for replica in replicas):  # noqa: ASYNC110 - other processes do it
                await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def arena(ground: Ground, count: int, way: str, mutant: str = "") -> AsyncIterator[Arena]:
    """Yield *count* operators that are about to lead, all of them or, with one Lease, one of them."""
    kubeconfigs = [await ground.operator_kubeconfig() for _ in range(count)]
    replicas = []
    for number, kubeconfig in enumerate(kubeconfigs):
        identity = f"rival-{way}-{number}"
        settings = {"lease_name": f"longtask-rival-{number}"} if way == "leases" else {}
        log = ground.folder / f"{identity}-{time.monotonic_ns()}.log"
        replicas.append(Replica(ground.forks, kubeconfig, log, identity, settings, mutant))
    keepers = [asyncio.create_task(replica.keep_running()) for replica in replicas]
    try:
        yield Arena(ground, replicas)
    finally:
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        for replica in replicas:
            await replica.kill()


async def prepare(ground: Ground) -> None:
    """Make the tenants, and let operators have Leases by other names than the chart's."""
    verbs = ["--verb=get,create,update", "--resource=leases.coordination.k8s.io", "-n", NAMESPACE]
    ground.kubectl("create", "role", "rivals", *verbs)
    account = f"--serviceaccount={NAMESPACE}:{SERVICE_ACCOUNT}"
    ground.kubectl("create", "rolebinding", "rivals", "--role=rivals", account, "-n", NAMESPACE)
    for name, quota in QUOTAS.items():
        await ground.namespace(name, quota)


async def play_rounds(ground: Ground, rounds: int, seed: int) -> AsyncIterator[Round]:
    """Yield so many rounds, by both ways in turn."""
    await prepare(ground)
    for number in range(1, rounds + 1):
        yield await play_round(ground, number, "leases" if number % 2 else "frozen", seed)


async def play_round(ground: Ground, number: int, way: str, seed: int, mutant: str = "") -> Round:
    """Play one round and judge it."""
    rng = random.Random(f"{seed} {number}")
    found = Round(number=number, way=way, seed=seed, operators=rng.choice([2, 2, 3]))
    since = await asyncio.to_thread(current_revision, ground.etcd)
    ground.proxy.arm()
    started = time.monotonic()
    async with arena(ground, found.operators, way, mutant) as rivals:
        if way == "leases":
            await rivals.leading(*rivals.replicas)
        expected = await _submit(ground, rng, number)
        try:
            async with asyncio.timeout(ROUND_SECONDS):
                if way == "frozen":
                    await _freeze(rivals, rng)
                await _all_at_rest(ground, expected)
        except TimeoutError:
            found.violations.append(f"Unfinished: {await _unfinished(ground, expected)}")
        found.violations += [line for replica in rivals.replicas for line in replica.complaints(0)]
        found.fenced = sum(replica.fenced for replica in rivals.replicas)
    history = await asyncio.to_thread(read_history, ground.etcd, since=since, namespaces=[*QUOTAS, NAMESPACE])
    _judge(found, history, expected)
    writes = ground.proxy.writes
    found.conflicts, found.writers = sum(w.code == 409 for w in writes), len({w.operator for w in writes})
    if way == "leases" and found.writers < found.operators:
        found.violations.append(f"NoRivals: only {found.writers} of {found.operators} operators wrote")
    found.seconds = time.monotonic() - started
    await _clear(ground)
    return found


async def _submit(ground: Ground, rng: random.Random, number: int) -> dict[str, Expected]:
    """Create the tasks, every fifth of which fails once; return how each must end."""
    names = list(QUOTAS) * (TASKS // len(QUOTAS))
    expected = {}
    for index, namespace in enumerate(names):
        name, fails = f"r{number:03d}-{index:02d}", index % 5 == rng.randrange(5)
        works = Act(after=rng.uniform(0.02, 0.4))
        acts = (Act(exit=1, after=rng.uniform(0.02, 0.2)), works) if fails else (works,)
        ground.kubelet.acts[(namespace, name)] = acts
        body = {
            "apiVersion": "longtask.dev/v1alpha1",
            "kind": "LongTask",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"image": "registry.example/task:1", "retry": {"backoff": QUICK}},
        }
        await ground.api.request("POST", f"{GROUP}/namespaces/{namespace}/longtasks", body)
        causes = ("Application", "Completed") if fails else ("Completed",)
        expected[f"{namespace}/{name}"] = Expected(phase="Succeeded", causes=causes)
    return expected


async def _freeze(rivals: Arena, rng: random.Random) -> None:
    """Stop whoever leads, at a moment of chance, until another leads; then let it go on."""
    leader = await _leader(rivals)
    await asyncio.sleep(rng.uniform(0.0, 1.5))
    leader.freeze()
    try:
        others = [replica for replica in rivals.replicas if replica is not leader]
        async with asyncio.timeout(30):
            while not any(replica.says("leading") for replica in others):  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(0.02)
        await asyncio.sleep(rng.uniform(0.0, 0.6))
    finally:
        leader.thaw()


async def _leader(rivals: Arena) -> Replica:
    async with asyncio.timeout(30):
        while True:
            for replica in rivals.replicas:
                if replica.says("leading"):
                    return replica
            await asyncio.sleep(0.02)


async def _all_at_rest(ground: Ground, expected: dict[str, Expected]) -> None:
    while await _unfinished(ground, expected):  # noqa: ASYNC110 - other processes do it
        await asyncio.sleep(0.2)


async def _unfinished(ground: Ground, expected: dict[str, Expected]) -> list[str]:
    """Return what is still to come: tasks that run, ledger lines, finalizers."""
    found = []
    for namespace in QUOTAS:
        for task in await ground.api.items(f"{GROUP}/namespaces/{namespace}/longtasks"):
            key, phase = f"{namespace}/{task['metadata']['name']}", (task.get("status") or {}).get("phase")
            if key in expected and phase not in FINISHED:
                found.append(f"{key} {phase}")
        for pod in await ground.api.items(f"/api/v1/namespaces/{namespace}/pods"):
            if "longtask.dev/accounting" in (pod["metadata"].get("finalizers") or []):
                found.append(f"pod {pod['metadata']['name']} is held")
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
    for ledger in await ground.api.items(path, labelSelector="app.kubernetes.io/component=ledger"):
        found += ["ledger " + line for line in ledger_text(ledger).splitlines()]
    return found


def _judge(found: Round, history: Sequence[Change], expected: dict[str, Expected]) -> None:
    limits = {name: quota["concurrency"]["nominal"] for name, quota in QUOTAS.items()}
    quotas = QuotaAuditor(limits).replay(history)
    found.most = dict(quotas.most)
    for violation in [*Auditor().replay(history).finish(expected), *quotas.violations]:
        found.violations.append(f"{violation.rule}: {violation.about} at {violation.revision}: {violation.message}")


async def _clear(ground: Ground) -> None:
    for namespace in QUOTAS:
        await ground.api.delete(f"{GROUP}/namespaces/{namespace}/longtasks")
