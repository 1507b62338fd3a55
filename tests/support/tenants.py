"""Tenants beside each other on a bare control plane, under one operator: each story of a test has some of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.support.live import FINISHED_PHASES, GROUP_PATH, MERGE, PATIENCE, Json, await_, condition
from tests.support.operating import Stage, operating

QUOTAS = f"{GROUP_PATH}/tenantquotas"

#: What happens to tenants of its own; asserts what must come of it.
Story = Callable[[Stage], None]
Told = Mapping[Story, Future[None]]
#: Ledgers that an earlier leader left: the data by the name of each.
Ledgers = Mapping[str, Mapping[str, str]]
LEDGER_LABELS = {"app.kubernetes.io/managed-by": "longtask", "app.kubernetes.io/component": "ledger"}


@dataclass(frozen=True, slots=True)
class Tenant:
    """A namespace, and the tenant of that name."""

    stage: Stage

    @classmethod
    def open(cls, ground: Stage, name: str, **quota: Any) -> Tenant:
        """Make the tenant *name* with that quota; without one it has the default."""
        tenant = cls(ground.beside(name))
        if quota:
            body = {"apiVersion": "longtask.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": name}}
            tenant._until_known(tenant.stage.client.request("POST", QUOTAS, body | {"spec": quota}))
        return tenant

    @property
    def name(self) -> str:
        return self.stage.namespace

    def change_quota(self, **spec: Any) -> None:
        """Merge *spec* into the quota's, and wait until the operator knows."""
        path = f"{QUOTAS}/{self.name}"
        self._until_known(self.stage.client.request("PATCH", path, {"spec": spec}, form=MERGE))

    def _until_known(self, quota: Json) -> None:
        """Wait until the operator has seen *quota*: a task that it sees before has the limits from before."""
        wanted = quota["metadata"]["generation"]
        await_(f"{self.name}: generation {wanted} known", lambda: self.quota().get("observedGeneration", 0) >= wanted)

    def quota(self) -> Json:
        """Return the status of the quota."""
        found: Json = self.stage.client.request("GET", f"{QUOTAS}/{self.name}").get("status") or {}
        return found

    def submit(self, *names: str, cpu: str = "", memory: str = "", **spec: Any) -> None:
        """Create tasks of that size, the smallest if none is given."""
        size = {"resources": {"cpu": cpu, "memory": memory}} if cpu else {}
        for name in names:
            self.stage.tasks.create(name, "true", **size, **spec)

    def age(self, name: str, **by: float) -> None:
        """Make the run of a task that waits begin that much earlier: nobody waits for hours here.

        It is the oldest of its tenant then. What is created afterwards finds an operator that knows.
        """
        self.stage.tasks.until(name, "its first visit", lambda status: status.get("runStartTime"))
        began = (datetime.now(UTC) - timedelta(**by)).strftime("%Y-%m-%dT%H:%M:%SZ")
        path = f"{self.stage.tasks.path}/{name}/status"
        self.stage.client.request("PATCH", path, {"status": {"runStartTime": began}}, form=MERGE)
        await_(lambda: f"{began}, not {self.quota()}", lambda: self.quota().get("oldestQueuedTime") == began)

    def until(self, seconds: float = PATIENCE, **counts: int) -> dict[str, Json]:
        """Wait until so many tasks have each verdict, and none another; return their statuses by name."""
        found: dict[str, Json] = {}

        def said() -> dict[str, int]:
            found.clear()
            for task in self.stage.client.items(self.stage.tasks.path):
                found[task["metadata"]["name"]] = task.get("status") or {}
            return dict(Counter(map(verdict, found.values())))

        await_(lambda: f"{self.name}: {counts}, not {said()}", lambda: said() == counts, seconds)
        return found

    def until_admitted(self, name: str) -> None:
        self.stage.tasks.until(name, "admitted", lambda status: verdict(status) == "Admitted")

    def until_in_queue(self, name: str) -> None:
        """Wait until *name* has a place in the queue: it waits for nothing else any more."""
        self.stage.tasks.until(name, "its place", lambda status: (status.get("queue") or {}).get("position"))

    def until_waits(self, name: str, reason: str) -> Json:
        """Wait until *name* says that it waits for *reason*; return what it says of its place."""
        status = self.stage.tasks.until(name, reason, lambda status: verdict(status) == reason)
        found: Json = status["queue"]
        return found

    def end(self, *names: str, exit_code: int = 0) -> None:
        """End the newest pods of *names*, as a kubelet does."""
        for name in names:
            self.stage.end(name, exit_code)


def verdict(status: Json) -> str:
    """Return where a task stands in a word: its phase at the end, else Admitted, else why it waits."""
    if status.get("phase") in FINISHED_PHASES:
        return str(status["phase"])
    if condition(status, "Admitted").get("status") == "True":
        return "Admitted"
    return str((status.get("queue") or {}).get("reason") or "")


def those(found: dict[str, Json], word: str) -> list[str]:
    """Return the names of those with that verdict."""
    return sorted(name for name, status in found.items() if verdict(status) == word)


def numbered(letter: str, count: int) -> Iterable[str]:
    """Return that many names, in their order."""
    return (f"{letter}{number:02}" for number in range(count))


@contextmanager
def told(control_plane: Any, directory: Path, name: str, stories: Sequence[Story], ledgers: Ledgers) -> Iterator[Told]:
    """Tell all *stories* at the same time under one operator, which finds *ledgers* when it begins.

    Tenants without a quota have the chart's default.
    """
    with operating(control_plane, directory, name) as ground:
        for ledger, data in ledgers.items():
            meta = {"name": ledger, "labels": LEDGER_LABELS}
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": dict(data)}
            ground.client.request("POST", f"/api/v1/namespaces/{ground.home}/configmaps", body)
        ground.start({"LONGTASK_OPERATOR_DEFAULT_CONCURRENCY": "5"})
        with ThreadPoolExecutor(len(stories)) as pool:
            yield {story: pool.submit(story, ground) for story in stories}
