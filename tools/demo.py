"""`make demo`: a cluster, the images, the chart and the example tasks, shown live until they finish.

Repeatable: what is there already is used. `--down` removes what it started.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import stack
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from devcluster import api as devcluster
from devcluster.console import Progress
from devcluster.errors import DevclusterError

ROOT = Path(__file__).resolve().parent.parent
TENANTS = {"analytics": "research", "media": "studio"}
#: Example folder -> namespace.
EXAMPLES = {"wordcount": "analytics", "csvstats": "analytics", "thumbnails": "media", "shell-progress": "media"}
TIMEOUT_SECONDS = 900
_COLORS = {"Succeeded": "green", "Failed": "red", "Cancelled": "yellow", "Running": "cyan", "Backoff": "yellow"}
_BAR = 24


def main() -> int:
    """Run the demo; 0 if all tasks succeeded, 1 with a sentence if not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="longtask", help="name of the devcluster")
    parser.add_argument("--down", action="store_true", help="remove what the demo started")
    parser.add_argument("--images-only", action="store_true", help="only build the images")
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 140)
    try:
        if arguments.down:
            return down(console, arguments.name)
        return demo(console, arguments.name, images_only=arguments.images_only)
    except (stack.StackError, DevclusterError) as error:
        console.print(Text(str(error), style="red"))
        return 1


def demo(console: Console, name: str, *, images_only: bool) -> int:
    """Bring everything up, run the examples, say what to try next."""
    started, progress = time.monotonic(), Progress(sys.stderr)
    target = stack.choose_target(progress, name=name)
    digests = stack.ensure_images(target, progress)
    if images_only:
        return 0
    stack.install_chart(target, progress, digests)
    kubectl = stack.kubectl_command(target)
    with _step(progress, "Example tasks"):
        _apply_examples(kubectl)
    finished = watch(console, kubectl)
    _say_next(console, target, time.monotonic() - started)
    return 0 if finished else 1


def down(console: Console, name: str) -> int:
    """Remove the devcluster of the demo, or from another cluster the release and the namespaces of the examples."""
    if devcluster.get(name):
        devcluster.down(name)
        console.print(f"devcluster {name} is gone")
        return 0
    if not stack.has_other_cluster():
        devcluster.down(name)  # what a crash may have left
        console.print(f"there is no devcluster {name}; nothing to remove")
        return 0
    target = stack.choose_target(Progress(sys.stderr), name=name)
    kubectl = stack.kubectl_command(target)
    for namespace in TENANTS:
        _kubectl(kubectl, "delete", "namespace", namespace, "--ignore-not-found")
    helm = Path(sys.executable).with_name("helm")
    context = ["--kube-context", target.context] if target.context else []
    command = [str(helm), "uninstall", stack.RELEASE, "--namespace", stack.NAMESPACE, "--ignore-not-found", "--wait"]
    subprocess.run([*command, "--kubeconfig", str(target.kubeconfig), *context], check=True)
    console.print("the release and the demo's namespaces are gone")
    return 0


def watch(console: Console, kubectl: list[str]) -> bool:
    """Show the tasks until all have finished; return whether all succeeded."""
    tasks: list[dict[str, Any]] = []
    with Live(console=console, refresh_per_second=4, auto_refresh=console.is_terminal) as live:
        said: dict[str, str] = {}
        for tasks in _looks(kubectl):
            live.update(table(tasks))
            if not console.is_terminal:
                _say_changes(console, tasks, said)
    if not all(_finished(task) for task in tasks):
        console.print(f"not finished after {TIMEOUT_SECONDS} s; see `kubectl describe lt -A`")
    return all(_status(task).get("phase") == "Succeeded" for task in tasks)


def _looks(kubectl: list[str]) -> Iterator[list[dict[str, Any]]]:
    """Yield the tasks twice a second until all have finished, or the time is over."""
    until = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < until:
        tasks = _tasks(kubectl)
        yield tasks
        if tasks and all(_finished(task) for task in tasks):
            return
        time.sleep(0.5)


def _say_changes(console: Console, tasks: list[dict[str, Any]], said: dict[str, str]) -> None:
    """Print a line for each task of which something changed: what a log file can show of a live view."""
    for task in tasks:
        status, name = _status(task), task["metadata"]["name"]
        line = f"{status.get('phase') or 'Pending':<10} {(status.get('progress') or {}).get('display') or ''}"
        if said.get(name) != line:
            said[name] = line
            console.print(f"  {name:<16} {line}", highlight=False)


def table(tasks: list[dict[str, Any]]) -> Table:
    """Return the tasks as a table with progress bars."""
    shown = Table(title="LongTasks", title_justify="left", expand=False)
    widths = {"tenant": 8, "task": 14, "phase": 9, "progress": _BAR + 5, "attempt": 7, "size": 10, "result": 8}
    for column, width in widths.items():
        shown.add_column(column, no_wrap=True, min_width=width)
    for task in tasks:
        status = _status(task)
        phase = status.get("phase") or "Pending"
        shown.add_row(
            status.get("tenant") or "",
            task["metadata"]["name"],
            Text(phase, style=_COLORS.get(phase, "")),
            _bar(status),
            str(status.get("attempt") or 0),
            (status.get("sizing") or {}).get("display", ""),
            _result(status),
        )
    return shown


def _bar(status: dict[str, Any]) -> Text:
    progress = status.get("progress") or {}
    percent = 100 if status.get("phase") == "Succeeded" else progress.get("percent")
    if percent is None:
        return Text(progress.get("display") or "")
    full = _BAR * percent // 100
    return Text("█" * full + "░" * (_BAR - full), style="green") + Text(f" {percent:3d}%")


def _result(status: dict[str, Any]) -> str:
    result = (status.get("result") or {}).get("value")
    text = json.dumps(result, ensure_ascii=False) if result is not None else ""
    return text if len(text) <= 20 else text[:19] + "…"


def _apply_examples(kubectl: list[str]) -> None:
    for namespace, tenant in TENANTS.items():
        labels = {"longtask.dev/tenant": tenant, "pod-security.kubernetes.io/enforce": "restricted"}
        metadata = {"name": namespace, "labels": labels}
        _kubectl(
            kubectl,
            "apply",
            "-f",
            "-",
            text=json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}),
        )
    for example, namespace in EXAMPLES.items():
        folder = ROOT / "worker-image" / "examples" / example
        _kubectl(kubectl, "delete", "lt", example, "-n", namespace, "--ignore-not-found")
        _kubectl(kubectl, "apply", "-n", namespace, "-f", str(folder / "longtask.yaml"))


def _say_next(console: Console, target: stack.Target, seconds: float) -> None:
    kubectl = Path(stack.kubectl_command(target)[0])
    console.print(
        f"\nDone in {seconds:.0f} s. The cluster keeps running; [bold]make down[/bold] removes it. Try next:\n"
    )
    console.print(f"  export KUBECONFIG={target.kubeconfig}", soft_wrap=True)
    if kubectl.is_absolute() and kubectl.parent != Path("/usr/bin"):
        console.print(f"  export PATH={kubectl.parent}:$PATH", soft_wrap=True)
    for line in (
        "get lt -A -o wide",
        "describe lt wordcount -n analytics",
        "get lt wordcount -n analytics -o jsonpath='{.status.result.value}'",
        "explain lt.spec",
        'patch lt wordcount -n analytics --type merge -p \'{"spec":{"redrive":"again"}}\'',
        "logs -n longtask-system deploy/longtask-operator",
    ):
        console.print(f"  kubectl {line}", soft_wrap=True, markup=False, highlight=False)


@contextmanager
def _step(progress: Progress, title: str) -> Iterator[None]:
    progress.expect(1)
    with progress.step(title):
        yield


def _tasks(kubectl: list[str]) -> list[dict[str, Any]]:
    answer = json.loads(_kubectl(kubectl, "get", "longtasks", "-A", "-o", "json"))
    wanted = set(EXAMPLES)
    return [
        item
        for item in answer["items"]
        if item["metadata"]["name"] in wanted and item["metadata"]["namespace"] in TENANTS
    ]


def _finished(task: dict[str, Any]) -> bool:
    return any(c["type"] == "Finished" and c["status"] == "True" for c in _status(task).get("conditions") or [])


def _status(task: dict[str, Any]) -> dict[str, Any]:
    status: dict[str, Any] = task.get("status") or {}
    return status


def _kubectl(command: list[str], *arguments: str, text: str | None = None) -> str:
    done = subprocess.run([*command, *arguments], input=text, text=True, capture_output=True, check=False)
    if done.returncode:
        raise stack.StackError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
