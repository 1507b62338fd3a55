"""The chart on a real cluster: `helm test`, and an uninstall that leaves nothing stuck and loses no result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.rendering import CHART, NAMESPACE, binary
from tests.support.live import await_
from tests.support.rules import ControlPlane

pytestmark = pytest.mark.e2e

FINALIZER = "longtask.dev/accounting"


def helm(cluster: ControlPlane, version: str, *args: str) -> str:
    """Run Helm 3 or 4 in the operator's namespace and return its output; fails the test on a refusal."""
    program = binary("helm") if version == "4" else str(Path(sys.executable).with_name("helm"))
    command = [program, *args, "--namespace", NAMESPACE]
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("version", ["3", "4"])
def test_helm_test_runs_a_task_and_removes_it(cluster: ControlPlane, version: str) -> None:
    helm(cluster, version, "test", "longtask", "--timeout", "4m")
    left = cluster.kubectl("get", "longtasks,jobs,serviceaccounts", "-n", NAMESPACE, "-o", "name").stdout
    assert "test" not in left


@pytest.fixture
def values(cluster: ControlPlane, tmp_path: Path) -> Iterator[Path]:
    """Return a file with the values of the release; afterwards the release is there again."""
    path = tmp_path / "values.json"
    path.write_text(helm(cluster, "3", "get", "values", "longtask", "--output", "json"))
    yield path
    install = ["upgrade", "--install", "longtask", str(CHART), "--values", str(path), "--wait", "--timeout", "3m"]
    helm(cluster, "3", *install)


#: What a program of `a_task` waits for.
MARK = "/dev/shm/may-end"


def a_task(name: str, namespace: str, image: str) -> dict[str, Any]:
    program = f"import pathlib, time\nwhile not pathlib.Path('{MARK}').exists(): time.sleep(0.1)"
    return {
        "apiVersion": "longtask.dev/v1alpha1",
        "kind": "LongTask",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"image": image, "command": ["python3", "-c", program], "retry": {"limits": {"application": 0}}},
    }


def pods(cluster: ControlPlane, namespace: str) -> list[dict[str, Any]]:
    found = cluster.kubectl("get", "pods", "-n", namespace, "-o", "json").stdout
    items: list[dict[str, Any]] = json.loads(found)["items"]
    return items


def let_end(cluster: ControlPlane, namespace: str, task: str) -> None:
    """Let the program of a task's only attempt come to its end."""
    (pod,) = [pod for pod in pods(cluster, namespace) if pod["metadata"]["labels"]["longtask.dev/task"] == task]
    mark = f"import pathlib; pathlib.Path('{MARK}').touch()"
    cluster.kubectl("exec", "-n", namespace, pod["metadata"]["name"], "--", "python3", "-c", mark)


def left_of(cluster: ControlPlane) -> str:
    """Return the names of what is there; the garbage collector takes the pods of hooks a moment later."""
    return cluster.kubectl("get", "all,serviceaccounts,clusterroles,roles", "-n", NAMESPACE, "-o", "name").stdout


def wait_until(cluster: ControlPlane, namespace: str, phase: str, count: int) -> None:
    end = time.monotonic() + 240
    while sum(pod["status"]["phase"] == phase for pod in pods(cluster, namespace)) < count:
        assert time.monotonic() < end, f"not {count} pods {phase}"
        time.sleep(0.5)


@pytest.mark.parametrize("version", ["3", "4"])
def test_uninstall_releases_all_pods_and_a_new_install_goes_on(
    cluster: ControlPlane, fresh_namespace: str, values: Path, version: str
) -> None:
    """One task ends while no operator is there, one after: both succeed in the end, each in its first attempt."""
    image = json.loads(cluster.kubectl("get", "deployment", "longtask-operator", "-n", NAMESPACE, "-o", "json").stdout)[
        "spec"
    ]["template"]["spec"]["containers"][0]["image"]
    tasks = [a_task(name, fresh_namespace, image) for name in ("ends-meanwhile", "ends-later")]
    cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(tasks))
    wait_until(cluster, fresh_namespace, "Running", 2)
    helm(cluster, version, "uninstall", "longtask", "--wait", "--timeout", "4m")
    assert [pod["metadata"].get("finalizers") for pod in pods(cluster, fresh_namespace) if FINALIZER in str(pod)] == []
    # Ledgers, the Lease and the CA are the operator's memory and stay for the next install.
    await_(lambda: f"nothing but that, not {left_of(cluster)}", lambda: "longtask" not in left_of(cluster), 120)
    let_end(cluster, fresh_namespace, "ends-meanwhile")
    wait_until(cluster, fresh_namespace, "Succeeded", 1)
    install = ["install", "longtask", str(CHART), "--values", str(values), "--wait", "--timeout", "3m"]
    helm(cluster, version, *install)
    let_end(cluster, fresh_namespace, "ends-later")
    for task in tasks:
        name = task["metadata"]["name"]
        wait = ["wait", "--for=condition=Finished", f"longtask/{name}", "-n", fresh_namespace, "--timeout=240s"]
        cluster.kubectl(*wait)
        status = json.loads(cluster.kubectl("get", "longtask", name, "-n", fresh_namespace, "-o", "json").stdout)[
            "status"
        ]
        assert (status["phase"], status["attempt"]) == ("Succeeded", 1)
