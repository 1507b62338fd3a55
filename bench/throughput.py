"""How many tasks a second, beside bare Jobs in the same run; memory and writes of the operator.

    python bench/throughput.py [--tasks 300] [--pairs 3] [--out build/bench]

Brings up a devcluster with fake nodes, runs the operator from the sources, and in turn
drives N bare Jobs and N LongTasks to their end. A round counts only if all N finished.
Writes `throughput.json` and prints a table.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "operator")]

from devcluster import api as devcluster  # noqa: E402
from devcluster.console import Progress  # noqa: E402
from longtask_operator.adapters.errors import Gone  # noqa: E402
from longtask_operator.adapters.kube import Json, Kube, load_credentials, resource_path  # noqa: E402

NAMESPACE = "bench"
HTTP_PORT, REPORT_PORT = 18931, 18932
_IN_FLIGHT = 32
_ROUND_SECONDS = 300
JOBS = resource_path("batch/v1", "jobs", NAMESPACE)
TASKS = resource_path("longtask.dev/v1alpha1", "longtasks", NAMESPACE)


def main() -> int:
    """Run the bench and return 0 if every round was complete."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--memory-tasks", type=int, default=1000, help="finished tasks for the memory reading")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench")
    arguments = parser.parse_args()
    name = f"bench-{os.getpid()}"
    cluster = devcluster.up(name, nodes="fake:20", progress=Progress(sys.stderr))
    try:
        with _operator(cluster) as process:
            figures = asyncio.run(_measure(cluster, process, arguments))
    finally:
        cluster.down()
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "throughput.json").write_text(json.dumps(figures, indent=2) + "\n")
    _print(figures)
    return 0


@contextlib.contextmanager
def _operator(cluster: devcluster.Cluster) -> Iterator[subprocess.Popen[bytes]]:
    kubectl = [str(cluster.binaries["kubectl"]), "--kubeconfig", str(cluster.kubeconfig)]
    subprocess.run(
        [*kubectl, "apply", "--server-side", "-f", str(ROOT / "crds")], check=True, stdout=subprocess.DEVNULL
    )
    for namespace in ("longtask-system", NAMESPACE):
        subprocess.run([*kubectl, "create", "namespace", namespace], check=True, stdout=subprocess.DEVNULL)
    environment = {
        **os.environ,
        "KUBECONFIG": str(cluster.kubeconfig),
        "PYTHONPATH": str(ROOT / "operator"),
        "LONGTASK_OPERATOR_HTTP_PORT": str(HTTP_PORT),
        "LONGTASK_OPERATOR_REPORT_PORT": str(REPORT_PORT),
        "LONGTASK_OPERATOR_DEFAULT_CONCURRENCY": "10000",
    }
    log = (cluster.paths.root / "operator.log").open("wb")
    process = subprocess.Popen([sys.executable, "-m", "longtask_operator"], env=environment, stdout=log, stderr=log)
    try:
        _await_ready()
        yield process
    finally:
        process.terminate()
        process.wait(30)


def _await_ready() -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            metrics = urllib.request.urlopen(f"http://127.0.0.1:{HTTP_PORT}/metrics", timeout=2).read()
            if b"longtask_leader 1.0" in metrics:
                return
        time.sleep(0.2)
    raise SystemExit("the operator did not lead within 60 s")


async def _measure(cluster: Any, process: subprocess.Popen[bytes], arguments: argparse.Namespace) -> Json:
    credentials = load_credentials({"KUBECONFIG": str(cluster.kubeconfig)})
    async with Kube(credentials, connections=_IN_FLIGHT + 2, user_agent="bench") as kube:
        await asyncio.sleep(3)
        figures: Json = {"tasks": arguments.tasks, "rss_idle_mib": _rss(process.pid), "rounds": []}
        for number in range(arguments.pairs):
            bare = await _round(kube, JOBS, [_job(f"bare-{number}-{i}") for i in range(arguments.tasks)], _job_done)
            before = _cpu(process.pid)
            tasks = [_task(f"task-{number}-{i}") for i in range(arguments.tasks)]
            ours = await _round(kube, TASKS, tasks, _task_done)
            cpu = (_cpu(process.pid) - before) / arguments.tasks * 1000
            figures["rounds"].append(
                {"bare_per_s": bare, "tasks_per_s": ours, "ratio": ours / bare, "operator_cpu_ms_per_task": cpu}
            )
            print(json.dumps(figures["rounds"][-1]), file=sys.stderr)
        figures["ratio_median"] = statistics.median(entry["ratio"] for entry in figures["rounds"])
        figures["writes_per_task"] = _writes(cluster.audit_log, arguments.tasks * arguments.pairs)
        done = arguments.tasks * arguments.pairs
        if arguments.memory_tasks > done:
            more = [_task(f"more-{i}") for i in range(arguments.memory_tasks - done)]
            await _round(kube, TASKS, more, _task_done)
        figures["rss_mib"] = {"tasks": max(done, arguments.memory_tasks), "rss": _rss(process.pid)}
    return figures


async def _round(kube: Kube, path: str, bodies: list[Json], done: Any) -> float:
    """Create all *bodies* and return finished objects a second, from the first create to the last end."""
    wanted = {body["metadata"]["name"] for body in bodies}
    listed = await kube.get(path, limit="1")
    watching = asyncio.create_task(_await_all(kube, path, listed["metadata"]["resourceVersion"], wanted, done))
    gate, started = asyncio.Semaphore(_IN_FLIGHT), time.monotonic()

    async def create(body: Json) -> None:
        async with gate:
            await kube.create(path, body)

    await asyncio.gather(*(create(body) for body in bodies))
    async with asyncio.timeout(_ROUND_SECONDS):
        await watching
    return len(bodies) / (time.monotonic() - started)


async def _await_all(kube: Kube, path: str, version: str, wanted: set[str], done: Any) -> None:
    async for event in _events(kube, path, version):
        if event["type"] == "MODIFIED" and done(event["object"]):
            wanted.discard(event["object"]["metadata"]["name"])
            if not wanted:
                return


async def _events(kube: Kube, path: str, version: str) -> AsyncIterator[Json]:
    while True:
        try:
            async for event in kube.watch(path, resource_version=version):
                version = event["object"]["metadata"]["resourceVersion"]
                yield event
        except Gone:
            raise SystemExit("the bench's own watch fell behind; use fewer tasks") from None


def _job_done(body: Json) -> bool:
    return any(c["type"] == "Complete" for c in (body.get("status") or {}).get("conditions") or [])


def _task_done(body: Json) -> bool:
    return bool((body.get("status") or {}).get("phase") == "Succeeded")


def _job(name: str) -> Json:
    container = {"name": "task", "image": "none", "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}}}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    spec = {"backoffLimit": 0, "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}


def _task(name: str) -> Json:
    api = "longtask.dev/v1alpha1"
    return {"apiVersion": api, "kind": "LongTask", "metadata": {"name": name}, "spec": {"image": "none"}}


def _rss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _writes(audit_log: Path, tasks: int) -> Json:
    """Return the operator's writes per task by verb and resource, from the API server's audit log."""
    counts: Counter[str] = Counter()
    with audit_log.open() as lines:
        for line in lines:
            event = json.loads(line)
            ref = event.get("objectRef") or {}
            ours = "longtask-operator" in (event.get("userAgent") or "")
            if (
                not ours
                or event["verb"] not in ("create", "update", "patch", "delete")
                or ref.get("resource") == "leases"
            ):
                continue
            if event.get("stage") == "ResponseComplete":
                counts["/".join(filter(None, (event["verb"], ref.get("resource"), ref.get("subresource"))))] += 1
    return {name: round(count / tasks, 3) for name, count in counts.most_common()}


def _print(figures: Json) -> None:
    print(f"{'round':>5} {'bare Jobs/s':>12} {'tasks/s':>9} {'ratio':>6} {'operator CPU ms/task':>21}")
    for number, entry in enumerate(figures["rounds"], start=1):
        print(
            f"{number:>5} {entry['bare_per_s']:>12.1f} {entry['tasks_per_s']:>9.1f} {entry['ratio']:>6.2f}"
            f" {entry['operator_cpu_ms_per_task']:>21.2f}"
        )
    print(f"median ratio {figures['ratio_median']:.2f}; RSS idle {figures['rss_idle_mib']} MiB, {figures['rss_mib']}")
    print(f"operator writes per task: {figures['writes_per_task']}")


if __name__ == "__main__":
    sys.exit(main())
