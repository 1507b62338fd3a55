"""The chart on a real API server: install, upgrade, uninstall, permissions, and the scripts of its hooks."""

from __future__ import annotations

import base64
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.chart.rendering import CHART, EVERYTHING, KUBE_VERSION, NAMESPACE, ROOT, binary, objects
from tests.support.rules import ControlPlane

pytestmark = pytest.mark.integration

OPERATOR = f"system:serviceaccount:{NAMESPACE}:longtask-operator"
#: A namespace that ends slowly must not be in the way of the next run.
TEAM = f"chart-team-{os.getpid()}"
FINALIZER = "longtask.dev/accounting"
HELM_3 = str(Path(sys.executable).with_name("helm"))


class Release:
    """One release of the chart, by one version of Helm."""

    def __init__(self, program: str, cluster: ControlPlane) -> None:
        self.program = program
        self.cluster = cluster

    def helm(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Run Helm and return what it did; fails the test on a refusal."""
        environment = {**os.environ, "KUBECONFIG": str(self.cluster.kubeconfig)}
        command = [self.program, *args, "--namespace", NAMESPACE]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)
        assert done.returncode == 0, done.stderr
        return done

    def install(self, *args: str) -> None:
        # Other tests of the same cluster may have left the CRD behind.
        self.helm("install", "longtask", str(CHART), "--create-namespace", "--take-ownership", *args)

    def uninstall(self) -> None:
        self.helm("uninstall", "longtask", "--no-hooks", "--ignore-not-found")


@pytest.fixture(scope="module")
def team(control_plane: ControlPlane) -> Iterator[str]:
    control_plane.kubectl("create", "namespace", TEAM)
    yield TEAM
    control_plane.kubectl("delete", "namespace", TEAM, "--wait=false")


@pytest.fixture(params=["3", "4"])
def release(request: pytest.FixtureRequest, control_plane: ControlPlane) -> Iterator[Release]:
    release = Release(HELM_3 if request.param == "3" else binary("helm"), control_plane)
    assert release.helm("version", "--short").stdout.startswith(f"v{request.param}.")
    yield release
    release.uninstall()


def apply(cluster: ControlPlane, *items: dict[str, Any]) -> None:
    """Apply *items*, again while the API server or its policies do not know the kind yet: a minute at most."""
    end = time.monotonic() + 120
    while True:
        done = cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(items), check=False)
        if done.returncode == 0:
            return
        assert any(text in done.stderr for text in _KIND_IS_NEW), done.stderr
        assert time.monotonic() < end, done.stderr
        time.sleep(1)


#: What policies and discovery say of a kind whose CRD is some moments old.
_KIND_IS_NEW = ("Kind=LongTask not found", 'no matches for kind "LongTask"')


def until_answered(cluster: ControlPlane, answer: str, *asked: str) -> None:
    """Wait until `auth can-i` says so: the API server takes up roles and bindings a moment after they are written."""
    end = time.monotonic() + 60
    while (said := cluster.kubectl("auth", "can-i", *asked, check=False)).stdout.strip() != answer:
        assert time.monotonic() < end, f"{asked}: not {answer} but {said.stdout}{said.stderr}"
        time.sleep(0.3)


def a_task(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "longtask.dev/v1alpha1",
        "kind": "LongTask",
        "metadata": {"name": name, "namespace": TEAM},
        "spec": {"image": "registry.example/x:1"},
    }


def test_install_upgrade_uninstall_and_again(release: Release, team: str, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump({**EVERYTHING, "metrics": {}}))
    release.install()
    apply(release.cluster, a_task("kept"))
    release.helm("upgrade", "longtask", str(CHART), "--values", str(values))
    assert release.cluster.kubectl("get", "networkpolicy,pdb", "-n", NAMESPACE, "-o", "name").stdout.count("\n") == 2
    release.uninstall()
    left = release.cluster.kubectl("get", "deploy,role,sa,svc", "-n", NAMESPACE, "-o", "name").stdout
    assert "longtask" not in left
    assert release.cluster.kubectl("get", "longtask", "kept", "-n", team, "-o", "name").stdout.strip()
    release.install()
    release.cluster.kubectl("delete", "longtask", "kept", "-n", team)


def test_kubectl_applies_what_helm_renders(control_plane: ControlPlane) -> None:
    """Each object says its namespace: one of them is not the release's, and `-n` would be refused for it."""
    home = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    control_plane.kubectl("apply", "-f", "-", input=yaml.safe_dump(home))
    rendering = ("template", "longtask", str(CHART), "--no-hooks", "--kube-version", KUBE_VERSION)
    text = Release(HELM_3, control_plane).helm(*rendering).stdout
    # Other tests of the same cluster may have left the CRDs behind.
    server_side = ("apply", "--server-side", "--force-conflicts", "-f", "-")
    ours = [item for item in yaml.safe_load_all(text) if item and item["kind"] != "CustomResourceDefinition"]
    try:
        for _ in range(2):
            applied = control_plane.kubectl(*server_side, input=text).stdout.splitlines()
            assert len(applied) == len(ours) + 2
        rights = ("get", "leases.coordination.k8s.io/node-1", "-n", "kube-node-lease")
        until_answered(control_plane, "yes", *rights, "--as", OPERATOR)
        refused = control_plane.kubectl(*server_side, "-n", NAMESPACE, input=text, check=False)
        assert "does not match" in refused.stderr
    finally:
        control_plane.kubectl("delete", "-f", "-", "--ignore-not-found", input=yaml.safe_dump_all(ours))


@pytest.fixture(scope="module")
def installed(control_plane: ControlPlane, team: str) -> Iterator[ControlPlane]:
    release = Release(HELM_3, control_plane)
    release.install()
    # Cluster-wide, and in both namespaces that are not the tasks'.
    until_answered(control_plane, "yes", "watch", "longtasks.longtask.dev", "-n", TEAM, "--as", OPERATOR)
    for namespace, lease in ((NAMESPACE, "longtask-operator"), ("kube-node-lease", "node-1")):
        mine = ("get", f"leases.coordination.k8s.io/{lease}", "-n", namespace)
        until_answered(control_plane, "yes", *mine, "--as", OPERATOR)
    yield control_plane
    release.uninstall()


@pytest.mark.parametrize(
    ("verb", "resource", "namespace", "answer"),
    [
        ("watch", "longtasks.longtask.dev", "team", "yes"),
        ("update", "longtasks.longtask.dev", "team", "no"),
        ("patch", "longtasks.longtask.dev --subresource=status", "team", "yes"),
        ("create", "jobs.batch", "team", "yes"),
        ("create", "pods", "team", "no"),
        ("delete", "pods", "team", "yes"),
        ("update", "pods", "team", "no"),
        ("create", "pods --subresource=exec", "team", "no"),
        ("get", "secrets", "team", "no"),
        ("get", "secrets/longtask-report-ca", NAMESPACE, "yes"),
        ("get", "secrets/other", NAMESPACE, "no"),
        ("update", "leases.coordination.k8s.io/longtask-operator", NAMESPACE, "yes"),
        ("update", "leases.coordination.k8s.io/other", NAMESPACE, "no"),
        ("get", "leases.coordination.k8s.io/node-1", "kube-node-lease", "yes"),
        ("list", "leases.coordination.k8s.io", "kube-node-lease", "no"),
        ("create", "configmaps", "team", "no"),
        ("delete", "configmaps", "team", "no"),
        ("delete", "configmaps", NAMESPACE, "yes"),
    ],
)
def test_what_the_operator_may_do(
    installed: ControlPlane, verb: str, resource: str, namespace: str, answer: str
) -> None:
    where = TEAM if namespace == "team" else namespace
    command = ["auth", "can-i", verb, *resource.split(), "-n", where, "--as", OPERATOR]
    assert installed.kubectl(*command, check=False).stdout.strip() == answer


@pytest.mark.parametrize(
    ("role", "verb", "resource", "answer"),
    [
        ("view", "list", "longtasks.longtask.dev", "yes"),
        ("view", "create", "longtasks.longtask.dev", "no"),
        ("edit", "create", "longtasks.longtask.dev", "yes"),
        ("edit", "delete", "longtasks.longtask.dev", "yes"),
        ("admin", "patch", "longtasks.longtask.dev --subresource=status", "no"),
    ],
)
def test_who_may_view_or_edit_a_namespace_may_do_so_with_tasks(
    installed: ControlPlane, role: str, verb: str, resource: str, answer: str
) -> None:
    """The controller manager adds our roles to those of Kubernetes, a moment after the install."""
    binding = ["create", "rolebinding", f"chart-{role}", f"--clusterrole={role}", f"--user=a-{role}", "-n", TEAM]
    installed.kubectl(*binding, check=False)
    until_answered(installed, "yes", "list", "longtasks.longtask.dev", "-n", TEAM, "--as", f"a-{role}")
    until_answered(installed, answer, verb, *resource.split(), "-n", TEAM, "--as", f"a-{role}")


def test_a_team_sees_its_quota_by_the_commands_of_the_page_alone(installed: ControlPlane, team: str) -> None:
    """TenantQuotas are cluster-scoped: a binding in a namespace does not show them, whatever its role."""
    page = (ROOT / "docs" / "how-to" / "multi-tenancy.md").read_text()
    commands = [shlex.split(line)[1:] for line in re.findall(r"^kubectl create clusterrole.*$", page, re.MULTILINE)]
    (quota,) = [word.partition("=")[2] for word in commands[0] if word.startswith("--resource-name=")]
    (group,) = [word for word in commands[1] if word.startswith("--group=")]
    viewer = ("--as=somebody", group.replace("--group", "--as-group"))
    installed.kubectl("create", "rolebinding", "group-viewer", "--clusterrole=admin", group, "-n", team)
    until_answered(installed, "yes", "list", "longtasks.longtask.dev", "-n", team, *viewer)
    mine, all_of_them = ("get", f"tenantquotas.longtask.dev/{quota}"), ("list", "tenantquotas.longtask.dev")
    until_answered(installed, "no", *mine, *viewer)
    try:
        for command in commands:
            installed.kubectl(*command)
        until_answered(installed, "yes", *mine, *viewer)
        until_answered(installed, "no", *all_of_them, *viewer)
    finally:
        for command in commands:
            installed.kubectl("delete", *command[1:3], "--ignore-not-found")


@pytest.fixture
def script_environment(installed: ControlPlane, tmp_path: Path) -> dict[str, str]:
    """Return the environment that a pod would give a script: address and CA of the API server."""
    cluster = yaml.safe_load(Path(installed.kubeconfig).read_text())["clusters"][0]["cluster"]
    data = cluster.get("certificate-authority-data")
    ca = base64.b64decode(data) if data else Path(cluster["certificate-authority"]).read_bytes()
    (tmp_path / "ca.crt").write_bytes(ca)
    server = urlsplit(cluster["server"])
    return {
        "PATH": os.environ["PATH"],
        "ACCOUNT_DIR": str(tmp_path),
        "KUBERNETES_SERVICE_HOST": str(server.hostname),
        "KUBERNETES_SERVICE_PORT": str(server.port),
    }


#: What each hook may do.
HOOKS = {"longtask-release-pods": ("patch", "pods"), "longtask-test": ("create", "longtasks.longtask.dev")}


@pytest.fixture
def as_hook(installed: ControlPlane, script_environment: dict[str, str]) -> Iterator[Callable[[str], None]]:
    """Create the objects of a hook but its Job, and put the token of its ServiceAccount where the script looks."""
    created: list[dict[str, Any]] = []

    def create(name: str) -> None:
        created.extend(item for item in objects() if item["metadata"]["name"] == name and item["kind"] != "Job")
        apply(installed, *created)
        account = f"system:serviceaccount:{NAMESPACE}:{name}"
        until_answered(installed, "yes", *HOOKS[name], "-n", NAMESPACE, "--as", account)
        token = installed.kubectl("create", "token", name, "-n", NAMESPACE).stdout.strip()
        Path(script_environment["ACCOUNT_DIR"], "token").write_text(token)

    yield create
    installed.kubectl("delete", "--ignore-not-found", "-f", "-", input=yaml.safe_dump_all(created))


def run_script(
    name: str, environment: dict[str, str], meanwhile: Callable[[], object] = lambda: None
) -> subprocess.CompletedProcess[str]:
    """Run a script; *meanwhile* is called once it has said its first line, or has ended without one."""
    command = [sys.executable, "-u", str(CHART / "files" / "scripts" / name)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout
        try:
            first = process.stdout.readline()
            meanwhile()
            out, err = process.communicate(timeout=200)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, first + out, err)


def a_pod(name: str, finalizers: list[str], labels: dict[str, str], namespace: str = TEAM) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "labels": labels, "finalizers": finalizers}
    spec = {
        "containers": [{"name": "task", "image": "registry.example/x:1"}],
        "automountServiceAccountToken": False,
        "nodeSelector": {"no-such": "node"},
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def test_release_pods_waits_for_the_operator_and_takes_only_our_finalizer(
    installed: ControlPlane, team: str, script_environment: dict[str, str], as_hook: Callable[[str], None]
) -> None:
    """As after an uninstall: no operator, no policies."""
    Release(HELM_3, installed).uninstall()
    as_hook("longtask-release-pods")
    ours = {"app.kubernetes.io/managed-by": "longtask"}
    selector = {"app.kubernetes.io/component": "stand-in-operator"}
    apply(
        installed,
        a_pod("held", ["example.com/other", FINALIZER], ours),
        a_pod("terminating", [FINALIZER], ours),
        a_pod("foreign", [FINALIZER], {}),
        a_pod("stand-in", [], selector, NAMESPACE),
    )
    installed.kubectl("delete", "pod", "terminating", "-n", team, "--wait=false")
    environment = {
        **script_environment,
        "OPERATOR_NAMESPACE": NAMESPACE,
        "OPERATOR_SELECTOR": "app.kubernetes.io/component=stand-in-operator",
    }
    stop = ("delete", "pod", "stand-in", "-n", NAMESPACE, "--wait=false", "--grace-period=0")
    done = run_script("release_pods.py", environment, lambda: installed.kubectl(*stop))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("waiting for the operator to stop")
    shown = installed.kubectl(
        "get", "pods", "-n", team, "--no-headers", "-o", "custom-columns=N:.metadata.name,F:.metadata.finalizers"
    ).stdout.split()
    assert shown == ["foreign", f"[{FINALIZER}]", "held", "[example.com/other]"]
    for name in ("foreign", "held"):
        installed.kubectl("patch", "pod", name, "-n", team, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    Release(HELM_3, installed).install()


def finish(cluster: ControlPlane, succeeded: str, reason: str) -> None:
    """Write the status of the one task of `helm test`, as the operator would, once it is there."""
    end = time.monotonic() + 90
    while not (name := cluster.kubectl("get", "longtasks", "-n", NAMESPACE, "-o", "name").stdout.strip()):
        assert time.monotonic() < end, "no task of the test appeared"
        time.sleep(0.2)
    since = "2026-01-01T00:00:00Z"
    conditions = [
        {"type": "Succeeded", "status": succeeded, "reason": reason, "message": "m", "lastTransitionTime": since},
        {"type": "Finished", "status": "True", "reason": "Finished", "message": "m", "lastTransitionTime": since},
    ]
    patch = yaml.safe_dump({"status": {"conditions": conditions}})
    cluster.kubectl("patch", name, "-n", NAMESPACE, "--subresource=status", "--type=merge", "-p", patch)


@pytest.mark.parametrize(
    ("succeeded", "reason", "code", "says"),
    [("True", "Completed", 0, "the task succeeded"), ("False", "Application", 1, "the task did not succeed")],
)
def test_smoke_test_says_how_the_task_ended_and_removes_it(
    installed: ControlPlane,
    script_environment: dict[str, str],
    as_hook: Callable[[str], None],
    succeeded: str,
    reason: str,
    code: int,
    says: str,
) -> None:
    as_hook("longtask-test")
    environment = {**script_environment, "TASK_NAMESPACE": NAMESPACE, "TASK_IMAGE": "x", "TIMEOUT_SECONDS": "120"}
    operator = threading.Thread(target=finish, args=(installed, succeeded, reason))
    operator.start()
    done = run_script("smoke_test.py", environment)
    operator.join()
    assert (done.returncode, says in done.stdout) == (code, True), done.stdout + done.stderr
    assert not installed.kubectl("get", "longtasks", "-n", NAMESPACE, "-o", "name").stdout


def test_smoke_test_says_when_nobody_looks_at_the_task_or_it_may_not(
    installed: ControlPlane, script_environment: dict[str, str], as_hook: Callable[[str], None]
) -> None:
    as_hook("longtask-test")
    environment = {**script_environment, "TASK_NAMESPACE": NAMESPACE, "TASK_IMAGE": "x", "TIMEOUT_SECONDS": "1"}
    done = run_script("smoke_test.py", environment)
    assert (done.returncode, "the operator has not looked at the task" in done.stdout) == (1, True)
    installed.kubectl("delete", "rolebinding", "longtask-test", "-n", NAMESPACE)
    account = f"system:serviceaccount:{NAMESPACE}:longtask-test"
    until_answered(installed, "no", *HOOKS["longtask-test"], "-n", NAMESPACE, "--as", account)
    done = run_script("smoke_test.py", environment)
    assert (done.returncode, "the API server refused: longtasks.longtask.dev is forbidden" in done.stdout) == (1, True)
