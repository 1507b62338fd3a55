"""What a scenario does: it submits tasks, says what their containers do, changes, cancels, deletes, waits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tests.faults.api import ApiFault, Json
from tests.faults.ground import KUEUE, Ground
from tests.faults.kubelet import SUCCEEDS, Act
from tests.faults.proxy import Interlude, Write
from tests.support.auditor import LEDGER_PREFIX, ledger_text
from tests.support.auditor_history import forget_key
from tests.support.operator_process import NAMESPACE

GROUP = "/apis/longtask.dev/v1alpha1"
PATIENCE = 60.0  #: seconds for one step, a restart of the operator on a busy machine and the wait for a Lease included
FINISHED = ("Succeeded", "Failed", "Cancelled")


def lender_of(namespace: str) -> str:
    """Return the namespace of the tenant that lends to that of *namespace*."""
    return f"{namespace}-lender"


class Stuck(AssertionError):  # noqa: N818 - what the trial is then
    """A step did not come to pass in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A story with a name. *quota* is the spec of its tenant's TenantQuota; without one the default holds.

    With *lender*, a second tenant with that quota is in a cohort with the first.
    """

    name: str
    story: Callable[[Play], Awaitable[None]]
    quota: Json | None = None
    lender: Json | None = None
    about: str = ""
    fresh: bool = False  #: a namespace, and so a ledger, of its own for each trial
    counts_quota: bool = False  #: count writes to the tenant's quota too; they come when they like, if nobody waits
    #: What may differ between two runs, each with the reason: counts (`Job deleted`, `Pod created`, …), `attempt`,
    #: the numbers of attempts and with them how many Jobs there were, or `sizing`, what is said of a size.
    may_differ: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Play:
    """One performance of a scenario, in a namespace; its tasks' names end with *suffix*."""

    ground: Ground
    scenario: Scenario
    namespace: str
    suffix: str
    patience: float = PATIENCE  #: seconds for one step
    uids: list[str] = field(default_factory=list)  #: of all its tasks, those that are gone included

    def counts(self, write: Write) -> bool:
        """Tell whether a write of the operator belongs to this play: one to its objects, or to a ledger."""
        if write.resource.startswith("tenantquotas"):
            return self.scenario.counts_quota and write.name == self.namespace
        return write.namespace in self.namespaces or write.resource == "configmaps"

    @property
    def namespaces(self) -> list[str]:
        """All that the play takes place in."""
        return [self.namespace, *([lender_of(self.namespace)] if self.scenario.lender is not None else [])]

    def as_lender(self) -> Play:
        """Return the same play with the lender's namespace as its own; the tasks' names must differ."""
        return replace(self, namespace=lender_of(self.namespace))

    async def submit(self, name: str, *acts: Act, **spec: Any) -> None:
        """Create a task whose attempts do what *acts* say, the last of them again and again."""
        whole = name + self.suffix
        self.ground.kubelet.acts[(self.namespace, whole)] = acts or (SUCCEEDS,)
        body = {
            "apiVersion": "longtask.dev/v1alpha1",
            "kind": "LongTask",
            "metadata": {"name": whole, "namespace": self.namespace},
            "spec": {"image": "registry.example/task:1", **spec},
        }
        made = await self.ground.api.request("POST", self._tasks, body)
        self.uids.append(made["metadata"]["uid"])

    async def until(self, name: str, *phases: str, check: Callable[[Json], Any] | None = None) -> Json:
        """Wait until the task is in one of *phases*, or *check* holds for its status; return that. Raises Stuck."""
        status: Json = {}

        async def holds() -> bool:
            nonlocal status
            status = (await self.find(name) or {}).get("status") or {}
            return bool(check(status)) if check else status.get("phase") in phases

        await self.await_(lambda: f"{name}: {' or '.join(phases) or 'check'}; {json.dumps(status)[:1200]}", holds)
        return status

    def once_admitted(self, act: Callable[[], Awaitable[None]]) -> asyncio.Future[None]:
        """Do *act* as soon as the tenant's own ledger has an entry, before the operator hears of that; see `over`."""
        ledger, over = f"{LEDGER_PREFIX}tenant-{self.namespace}", asyncio.get_running_loop().create_future()

        def meets(body: bytes) -> bool:
            written = json.loads(body)
            return bool(written["metadata"]["name"] == ledger and ledger_text(written))

        self.ground.proxy.interlude = Interlude("configmaps", meets, act, over)
        return over

    def before_the_stop(self, cause: str, act: Callable[[], Awaitable[None]]) -> asyncio.Future[None]:
        """Do *act* before the first status that says *cause* reaches the API server; see `over`."""
        over, said = asyncio.get_running_loop().create_future(), json.dumps(cause).encode()
        self.ground.proxy.interlude = Interlude("longtasks/status", lambda body: said in body, act, over, before=True)
        return over

    async def over(self, act: asyncio.Future[None]) -> None:
        """Wait until what `once_admitted` or `before_the_stop` was given is done. Raises what it raised."""

        async def done() -> bool:
            return act.done()

        await self.await_(lambda: "the write at which something is to be done", done)
        act.result()

    async def finished(self, *names: str) -> None:
        for name in names:
            await self.until(name, *FINISHED)

    async def change(self, name: str, **spec: Any) -> None:
        await self.ground.api.request("PATCH", f"{self._tasks}/{name}{self.suffix}", {"spec": spec})

    async def delete(self, name: str) -> None:
        await self.ground.api.delete(f"{self._tasks}/{name}{self.suffix}")

    async def gone(self, name: str) -> None:
        """Wait until neither the task nor a Job or pod of it is left."""

        async def nothing() -> bool:
            return await self.find(name) is None and not await self.jobs(name) and not await self.pods(name)

        await self.await_(lambda: f"{name} gone without a trace", nothing)

    async def find(self, name: str) -> Json | None:
        return await self.ground.api.find(f"{self._tasks}/{name}{self.suffix}")

    async def jobs(self, name: str) -> list[Json]:
        return await self._children("/apis/batch/v1", "jobs", name)

    async def pods(self, name: str) -> list[Json]:
        return await self._children("/api/v1", "pods", name)

    async def pod(self, name: str) -> Json:
        """Wait for the one pod of the task that works and return it."""
        found: list[Json] = []

        async def there() -> bool:
            nonlocal found
            pods = await self.pods(name)
            found = [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Running"]
            return bool(found)

        await self.await_(lambda: f"a running pod of {name}", there)
        return found[0]

    def tell(self, name: str, act: Act = SUCCEEDS) -> None:
        """Let the working container of the task end as *act* says."""
        self.ground.kubelet.tell(self.namespace, name + self.suffix, act)

    async def evict(self, name: str) -> None:
        """Evict the task's pod as a drain does."""
        pod = await self.pod(name)
        meta = {"name": pod["metadata"]["name"], "namespace": self.namespace}
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta}
        await self.ground.api.request("POST", f"{self._pod_path(pod)}/eviction", body)

    async def lose_pod(self, name: str) -> None:
        """Let the task's pod vanish without a word, from etcd itself: no API would do that with a finalizer on it."""
        key = f"/registry/pods/{self.namespace}/{(await self.pod(name))['metadata']['name']}"
        await asyncio.to_thread(forget_key, self.ground.etcd, key)

    async def delete_job(self, name: str) -> None:
        for job in await self.jobs(name):
            path = f"/apis/batch/v1/namespaces/{self.namespace}/jobs/{job['metadata']['name']}"
            await self.ground.api.delete(path, propagationPolicy="Background")

    async def kueue(self, name: str, *, attempt: int, suspend: bool) -> None:
        """Admit the Job of an attempt as Kueue does, or take it back; waits until the operator shows it as held."""
        if not suspend:
            held = {"reason": "BehindOthers"}.items()
            await self.until(
                name,
                check=lambda status: status.get("attempt") == attempt and held <= (status.get("queue") or {}).items(),
            )
        label = f"longtask.dev/task={name}{self.suffix},longtask.dev/attempt={attempt}"
        path = f"/apis/batch/v1/namespaces/{self.namespace}/jobs"
        (job,) = await self.ground.api.items(path, labelSelector=label)
        change = {"spec": {"suspend": suspend}}
        await self.ground.api.request("PATCH", f"{path}/{job['metadata']['name']}", change, user=KUEUE)

    async def lose_node(self, name: str) -> None:
        """Let the node of the task's running pod answer no more: nobody ends the pod, nobody knows whether it runs."""
        await self.ground.kubelet.forsake(await self.pod(name))

    async def observed(self, name: str, generation: int) -> None:
        """Wait until the operator shows that it knows the task's spec of that generation."""
        await self.until(name, check=lambda status: status.get("observedGeneration") == generation)

    async def queued(self, name: str, reason: str, *, placed: bool = False) -> None:
        """Wait until the task waits for *reason*, and is *placed* in the queue where it waits for nothing else."""

        def waits(status: Any) -> bool:
            queue = status.get("queue") or {}
            return queue.get("reason") == reason and (not placed or queue.get("position") is not None)

        await self.until(name, check=waits)

    async def quota(self, **spec: Any) -> None:
        """Merge *spec* into the tenant's quota and wait until the operator took it in."""
        path = f"{GROUP}/tenantquotas/{self.namespace}"
        changed = await self.ground.api.request("PATCH", path, {"spec": spec})

        async def known() -> bool:
            status = (await self.ground.api.request("GET", path)).get("status") or {}
            return bool(status.get("observedGeneration") == changed["metadata"]["generation"])

        await self.await_(lambda: f"{spec} of the quota observed", known)

    async def refuse(self, **hard: str) -> None:
        """Let a ResourceQuota of the namespace refuse what goes beyond *hard*; `_` stands for what no name may have."""
        limits = {name.replace("_jobs", "/jobs.batch").replace("_", "."): amount for name, amount in hard.items()}
        meta = {"name": "refuses", "namespace": self.namespace}
        body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": {"hard": limits}}
        await self.ground.api.request("POST", self._refusals, body)

        async def at_work() -> bool:
            made = await self.ground.api.request("GET", f"{self._refusals}/refuses")
            return bool((made.get("status") or {}).get("hard"))

        await self.await_(lambda: "the ResourceQuota at work", at_work)

    async def refuse_no_more(self) -> None:
        await self.ground.api.delete(f"{self._refusals}/refuses")

    async def ledger_holds(self, ledger: str, name: str, mebibytes: int | None = None) -> None:
        """Wait until the task's attempt stands in the ledger of that name, given without its prefix, with so much."""
        task = await self.find(name)
        assert task is not None

        async def there() -> bool:
            found = await self._held(ledger, task)
            return bool(found) and mebibytes in (None, *found)

        await self.await_(lambda: f"{name} in ledger {ledger}", there)

    async def ledger_let_go(self, ledger: str, name: str) -> None:
        """Wait until no attempt of the task stands in the ledger of that name, given without its prefix."""
        task = await self.find(name)
        assert task is not None

        async def gone() -> bool:
            return not await self._held(ledger, task)

        await self.await_(lambda: f"{name} not in ledger {ledger}", gone)

    async def _held(self, ledger: str, task: Json) -> list[int]:
        """Return the MiB of each of the task's attempts in a ledger."""
        path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{LEDGER_PREFIX}{ledger}"
        lines = [line.split() for line in ledger_text(await self.ground.api.find(path)).splitlines()]
        return [int(line[4]) for line in lines if line[0] == task["metadata"]["uid"]]

    async def await_(self, what: Callable[[], str], check: Callable[[], Awaitable[bool]], pause: float = 0.04) -> None:
        """Wait until *check* holds. Raises Stuck."""
        loop = asyncio.get_running_loop()
        limit = loop.time() + self.patience
        while not await check():
            if loop.time() > limit:
                raise Stuck(f"after {self.patience:.0f} s still not: {what()}")
            await asyncio.sleep(pause)

    async def _children(self, api: str, plural: str, name: str) -> list[Json]:
        path = f"{api}/namespaces/{self.namespace}/{plural}"
        return await self.ground.api.items(path, labelSelector=f"longtask.dev/task={name}{self.suffix}")

    def _pod_path(self, pod: Json) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}"

    @property
    def _refusals(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/resourcequotas"

    @property
    def _tasks(self) -> str:
        return f"{GROUP}/namespaces/{self.namespace}/longtasks"


__all__ = ["ApiFault", "Play", "Scenario", "Stuck"]
