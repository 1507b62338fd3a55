"""A namespace in which scenarios are played at the same time, and a cluster whose operator is ours to kill."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import operator_process
from tests.support.auditor import Auditor, Expected, Violation
from tests.support.auditor_history import current_revision, read_history, versions
from tests.support.live import Client, Json, Tasks, await_
from tests.support.operator_process import NAMESPACE, OperatorProcess

DEPLOYMENT = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/longtask-operator"
QUOTAS = "/apis/longtask.dev/v1alpha1/tenantquotas"
#: Of a local operator, unless a test asks for another: none is to end itself because the machine is slow for a moment.
LEASE = {"lease_duration_seconds": "20", "lease_renew_deadline_seconds": "16"}
#: Seconds until an operator leads, who may have to wait for the end of another's lease.
UNTIL_LEADING = 90
#: Ends at once on SIGTERM; a plain `sleep` as process 1 would ignore it.
STOPPABLE = "trap 'exit 143' TERM; sleep {seconds} & wait $!"


def stoppable(seconds: int = 300) -> str:
    """Return a script that works for *seconds*, or until SIGTERM."""
    return STOPPABLE.format(seconds=seconds)


def held(then: str = "true") -> str:
    """Return a script that works until `Stage.let_end` or SIGTERM; let end, it does *then* and succeeds."""
    return f"let_end() {{ {then}; exit 0; }}; trap let_end USR1; {stoppable(600)}"


def says(result: Any) -> str:
    """Return a script that leaves *result* as its outcome and succeeds."""
    return f"printf '%s' '{json.dumps({'longtask': 1, 'result': result})}' > /dev/termination-log"


@dataclass(frozen=True, slots=True)
class Stage:
    """One namespace; *since* is etcd's revision when it was made."""

    cluster: Any
    client: Client
    tasks: Tasks
    since: int

    @classmethod
    def open(
        cls, cluster: Any, client: Client, name: str, labels: Mapping[str, str], quota: int | None = 1000
    ) -> Stage:
        """Make a namespace whose tenant may have *quota* attempts at once; None leaves it the default quota."""
        since = current_revision(cluster.etcd_endpoint)
        meta = {"name": name, "labels": dict(labels)}
        stage = cls(cluster, client, Tasks(client, name), since)
        if quota is not None:
            stage.set_quota(concurrency={"nominal": quota})
        client.request("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
        account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        await_("the default ServiceAccount", lambda: client.find(account), 90)
        return stage

    @property
    def namespace(self) -> str:
        return self.tasks.namespace

    def close(self) -> None:
        for path in (f"/api/v1/namespaces/{self.namespace}", f"{QUOTAS}/{self.namespace}"):
            if self.client.find(path):
                self.client.request("DELETE", path)

    def set_quota(self, **spec: Any) -> Json:
        """Create the tenant's TenantQuota, or merge *spec* into it."""
        path = f"{QUOTAS}/{self.namespace}"
        if self.client.find(path):
            return self.client.request("PATCH", path, {"spec": spec}, form="application/merge-patch+json")
        meta = {"name": self.namespace}
        body = {"apiVersion": "longtask.dev/v1alpha1", "kind": "TenantQuota", "metadata": meta, "spec": spec}
        return self.client.request("POST", QUOTAS, body)

    def quota(self) -> Json:
        """Return the tenant's TenantQuota."""
        return self.client.request("GET", f"{QUOTAS}/{self.namespace}")

    def most_at_once(self) -> tuple[int, int]:
        """Return the most lines the ledger ever had and the most pods that lived at once, from etcd's history."""
        history = read_history(self.cluster.etcd_endpoint, since=self.since, namespaces=[self.namespace, NAMESPACE])
        lines, pods, most = 0, set[str](), 0
        for change in history:
            body = change.body or {}
            if change.kind == "ConfigMap" and change.name == self.ledger_name:
                lines = max(lines, len((body.get("data") or {}).get("attempts", "").splitlines()))
            if change.kind == "Pod" and change.namespace == self.namespace:
                alive = change.body and (body.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
                (pods.add if alive else pods.discard)(change.name)
                most = max(most, len(pods))
        return lines, most

    def metric(self, series: str) -> float:
        """Return the value of a series of the installed operator, written as it exposes it; 0 where it is not there."""
        selector = "app.kubernetes.io/component=operator"
        (pod,) = self.client.items(f"/api/v1/namespaces/{NAMESPACE}/pods", labelSelector=selector)
        ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
        target = f"{pod['metadata']['name']}:{ports['http']}"
        text = self.cluster.kubectl(
            "get", "--raw", f"/api/v1/namespaces/{NAMESPACE}/pods/{target}/proxy/metrics"
        ).stdout
        wanted = f"{series} "
        return sum(float(line.removeprefix(wanted)) for line in text.splitlines() if line.startswith(wanted))

    def kubectl(self, *args: str, input: str | None = None, check: bool = True) -> Any:
        return self.cluster.kubectl("-n", self.namespace, *args, input=input, check=check)

    def statuses(self, name: str) -> list[Json]:
        """Return every status that the task ever had, from etcd's history."""
        return self.all_statuses([name])[name]

    def all_statuses(self, names: Iterable[str]) -> dict[str, list[Json]]:
        """Return every status that each of the tasks ever had, from etcd's history."""
        history = read_history(self.cluster.etcd_endpoint, since=self.since, namespaces=[self.namespace])
        bodies = {name: versions(history, "LongTask", self.namespace, name) for name in names}
        return {name: [body.get("status") or {} for body in found] for name, found in bodies.items()}

    def ledger(self) -> str:
        """Return the lines of the tenant's ledger."""
        found = self.client.find(f"/api/v1/namespaces/{NAMESPACE}/configmaps/{self.ledger_name}")
        return str(((found or {}).get("data") or {}).get("attempts") or "")

    def cohort_ledger(self, cohort: str) -> dict[str, str]:
        """Return the data of a cohort's ledger."""
        path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/longtask-ledger-cohort-{cohort}"
        return dict((self.client.find(path) or {}).get("data") or {})

    def until_released(self, cohort: str) -> None:
        """Wait until no attempt stands in a cohort's ledger."""
        await_("an empty ledger", lambda: not any("." not in key for key in self.cohort_ledger(cohort)), 90)

    @property
    def ledger_name(self) -> str:
        return f"longtask-ledger-tenant-{self.namespace}"

    def audit(self, expected: Mapping[str, Expected] | None = None, cohort: str = "") -> list[Violation]:
        """Replay all that happened here and return what was broken; *expected* by the task's name.

        The ledger of *cohort* is read too; all of its members must have ended what they ran.
        """
        await_(lambda: f"an empty ledger, not {self.ledger()!r}", lambda: not self.ledger().strip(), 90)
        await_("pods let go of", lambda: not self.held_pods(), 90)
        wanted = {f"{self.namespace}/{name}": end for name, end in (expected or {}).items()}
        history = read_history(self.cluster.etcd_endpoint, since=self.since, namespaces=[self.namespace, NAMESPACE])
        ledgers = {self.ledger_name, f"longtask-ledger-cohort-{cohort}"}
        ours = [c for c in history if c.namespace == self.namespace or c.name in ledgers]
        assert any(c.kind == "Job" for c in ours), "the history holds no Job: the audit would be empty"
        return Auditor().replay(ours).finish(wanted)

    def let_end(self, name: str) -> None:
        """Let the container of a task with a `held` script end, once it runs, and return when it has."""
        uid, told = self.tasks.get(name)["metadata"]["uid"], False

        def ended() -> bool:
            nonlocal told
            # Only the first process: a child that is about to become something else would die of it.
            found = [pid for pid in processes_of(uid, "let_end") if is_first(pid)]
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGUSR1)  # nothing happens before its trap is set, so it is sent again
            told = told or bool(found)
            return told and not found

        await_(f"the end of {self.namespace}/{name}", ended, 60)

    def held_pods(self) -> list[str]:
        pods = self.client.items(f"/api/v1/namespaces/{self.namespace}/pods")
        return [
            pod["metadata"]["name"]
            for pod in pods
            if "longtask.dev/accounting" in (pod["metadata"].get("finalizers") or [])
        ]


#: A scenario is played by a thread of its own and returns what its tests look at.
Scenario = Callable[[Stage], Any]


class Played:
    """Scenarios in progress; `of` waits for one and raises what it raised."""

    def __init__(self, futures: Mapping[str, Future[Any]]) -> None:
        self._futures = dict(futures)

    def of(self, scenario: Scenario, seconds: float = 450) -> Any:
        return self._futures[scenario.__name__].result(seconds)

    def wait(self) -> None:
        """Wait for all, whatever comes of them."""
        for future in self._futures.values():
            future.exception(450)


@contextmanager
def played(stage: Stage, *scenarios: Scenario) -> Iterator[Played]:
    """Play *scenarios* at the same time."""
    with ThreadPoolExecutor(len(scenarios)) as pool:
        yield Played({scenario.__name__: pool.submit(scenario, stage) for scenario in scenarios})


@dataclass(slots=True)
class Detached:
    """Starts local operators and ends those that are left."""

    cluster: Any
    client: Client
    kubeconfig: Path
    directory: Path
    started: list[OperatorProcess] = field(default_factory=list)

    def start(self, identity: str = "local", **settings: str) -> OperatorProcess:
        """Start an operator; *settings* by their names in lower case."""
        env = {
            "LONGTASK_OPERATOR_REPORT_HOST": host_address(self.cluster),
            **{f"LONGTASK_OPERATOR_{key.upper()}": value for key, value in (LEASE | settings).items()},
        }
        self.started.append(operator_process.start(self.kubeconfig, env, directory=self.directory, identity=identity))
        return self.started[-1]

    def leading(self, identity: str, **settings: str) -> OperatorProcess:
        """Return an operator of that name that leads, after ending all others; they give their lease back."""
        self.end_all()
        return self.start(identity, **settings).until_leading(UNTIL_LEADING)

    def end_all(self) -> None:
        for operator in self.started:
            if operator.runs():
                operator.terminate()
        self.started.clear()


@contextmanager
def run_detached(cluster: Any, client: Client, directory: Path) -> Iterator[Detached]:
    """Take the installed operator away, and put it back at the end."""
    kubeconfig = operator_process.operator_kubeconfig(cluster, directory / "kubeconfig")
    scale(client, 0)
    found = Detached(cluster, client, kubeconfig, directory)
    try:
        yield found
    finally:
        for operator in found.started:
            operator.end()
        scale(client, 1)


def scale(client: Client, replicas: int) -> None:
    """Scale the installed operator and wait until that is so."""
    client.request("PATCH", DEPLOYMENT, {"spec": {"replicas": replicas}}, form="application/merge-patch+json")
    pods = f"/api/v1/namespaces/{NAMESPACE}/pods"

    def done() -> bool:
        running = client.items(pods, labelSelector="app.kubernetes.io/component=operator")
        status = client.request("GET", DEPLOYMENT).get("status") or {}
        return len(running) == replicas and (status.get("readyReplicas") or 0) == replicas

    await_(f"{replicas} replicas of the installed operator", done, 150)


def host_address(cluster: Any) -> str:
    """Return the address of this machine as pods reach it: that of the route to the API server."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        server = cluster.etcd_endpoint.removeprefix("http://").partition(":")[0]
        probe.connect((server, 9))
        return str(probe.getsockname()[0])


def worker_of(uid: str, program: str) -> int:
    """Return the process of a task's container, as this machine numbers it: the one that runs *program*."""
    found = processes_of(uid, program)
    assert len(found) == 1, found
    return found[0]


def processes_of(uid: str, program: str) -> list[int]:
    """Return the processes of a task's containers, as this machine numbers them, that run *program*."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environ, command = (process / "environ").read_bytes(), (process / "cmdline").read_bytes()
        except OSError:
            continue
        if f"LONGTASK_UID={uid}".encode() in environ.split(b"\0") and program.encode() in command:
            found.append(int(process.name))
    return found


@contextmanager
def endless(pod: Json) -> Iterator[None]:
    """Let nobody end the containers of a running task's *pod*: their runtime hears of nothing meanwhile."""
    uid = pod["metadata"]["labels"]["longtask.dev/task-uid"]
    (first,) = [pid for pid in processes_of(uid, "") if is_first(pid)]
    runtime = int(Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(runtime, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(runtime, signal.SIGCONT)


def is_first(pid: int) -> bool:
    """Tell whether a process is the first one of its container."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    return status.partition("NSpid:")[2].splitlines()[0].split()[-1] == "1"


def seconds_between(first: str, second: str) -> float:
    """Return the seconds from one time of a status to another."""
    form = "%Y-%m-%dT%H:%M:%S"
    one, two = (time.mktime(time.strptime(text[:19], form)) for text in (first, second))
    return two - one
