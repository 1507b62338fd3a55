"""The CRD and the chart's policies on a bare API server, for tests that talk to it as users do, with kubectl."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import yaml

ROOT = Path(__file__).resolve().parents[2]
HELM = Path(sys.executable).with_name("helm")

RELEASE = "longtask"
OPERATOR_NAMESPACE = "longtask-system"
OPERATOR = f"system:serviceaccount:{OPERATOR_NAMESPACE}:longtask-operator"
#: Someone who may do anything with the objects of these tests but holds no verb `assign`.
ALICE = "alice"
#: A GitOps controller that may name persons where the chart trusts it.
GITOPS = "system:serviceaccount:argocd:application-controller"
#: Someone who holds it.
ASSIGNER = "assigner"

Result = subprocess.CompletedProcess[str]


class ControlPlane(Protocol):
    """What the shared fixture offers."""

    kubeconfig: Any

    def kubectl(self, *args: str, input: str | None = None, check: bool = True) -> Result: ...


def rendered_policies(*settings: str, namespace: str = OPERATOR_NAMESPACE) -> list[dict[str, Any]]:
    """Return the documents of the chart's policies, rendered with `--set` *settings* for *namespace*."""
    command = [str(HELM), "template", RELEASE, str(ROOT / "charts/longtask"), "--namespace", namespace]
    command += ["--kube-version", "1.36.3"]
    for setting in settings:
        command += ["--set", setting]
    rendered = subprocess.run(command, check=False, capture_output=True, text=True)
    assert rendered.returncode == 0, rendered.stderr
    documents = [document for document in yaml.safe_load_all(rendered.stdout) if document]
    return [d for d in documents if d["apiVersion"].startswith("admissionregistration.k8s.io/")]


def a_longtask(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    """Return a LongTask manifest; a minimal valid one without *spec*."""
    return {
        "apiVersion": "longtask.dev/v1alpha1",
        "kind": "LongTask",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"image": "registry.example/app:1", **spec},
    }


class Api:
    """kubectl with objects instead of files, as a user of choice."""

    def __init__(self, control_plane: ControlPlane, namespace: str) -> None:
        self._control_plane = control_plane
        self.namespace = namespace

    def run(self, *args: str, user: str = "", document: Any = None, check: bool = False) -> Result:
        """Run kubectl as *user* (empty: the cluster's admin) with *document* on its standard input."""
        prefix = [f"--as={user}"] if user else []
        text = None if document is None else json.dumps(document)
        return self._control_plane.kubectl(*prefix, *args, input=text, check=check)

    def create(self, document: Any, *args: str, user: str = "") -> Result:
        return self.run("create", "-f", "-", *args, user=user, document=document)

    def patch(self, what: str, patch: Any, *args: str, user: str = "", kind: str = "merge") -> Result:
        target = ["-n", self.namespace, "patch", *what.split("/"), f"--type={kind}", "-p", json.dumps(patch)]
        return self.run(*target, *args, user=user)

    def get(self, what: str) -> dict[str, Any]:
        result = self.run("-n", self.namespace, "get", *what.split("/"), "-o", "json", check=True)
        document: dict[str, Any] = json.loads(result.stdout)
        return document

    def status(self, name: str, status: dict[str, Any] | None) -> Result:
        """Write *status* of a LongTask as the operator does; None removes it."""
        return self.patch(f"longtask/{name}", {"status": status}, "--subresource=status", user=OPERATOR)

    def until(self, what: str, check: Callable[[], bool], seconds: float = 20) -> None:
        """Wait until *check* holds: the API server takes up changed policies and parameters a moment later."""
        limit = time.monotonic() + seconds
        while not check():
            assert time.monotonic() < limit, f"after {seconds} s still not: {what}"
            time.sleep(0.1)


def refused(answer: Result, says: str) -> bool:
    """Tell whether the answer is a refusal with this sentence; shows the answer when it is not."""
    assert answer.returncode != 0, f"accepted: {answer.stdout}"
    assert says in answer.stderr
    return True


def accepted(answer: Result) -> bool:
    """Tell whether the request went through; shows the refusal when it did not."""
    assert answer.returncode == 0, answer.stderr
    return True


def stored(api: Api, name: str, user: str = "", **spec: Any) -> str:
    """Create a LongTask, replacing one of the same name, and return `longtask/<name>`."""
    api.run("-n", api.namespace, "delete", "longtask", name, "--ignore-not-found", check=True)
    assert accepted(api.create(a_longtask(name, api.namespace, **spec), user=user))
    return f"longtask/{name}"


def running(run: int = 1, attempt: int = 1) -> dict[str, Any]:
    """Return the status of a task whose attempt runs."""
    return {
        "observedGeneration": 1,
        "run": run,
        "attempt": attempt,
        "conditions": [condition("Finished", "False")],
        "attempts": [{"number": attempt, "run": run, "generation": 1}],
    }


def finished(run: int = 1, attempt: int = 1) -> dict[str, Any]:
    """Return the status of a task whose run has ended."""
    return {**running(run, attempt), "conditions": [condition("Finished", "True")]}


def condition(kind: str, status: str) -> dict[str, str]:
    """Return a condition as the operator writes it."""
    return {
        "type": kind,
        "status": status,
        "reason": "Test",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


@contextmanager
def installed(control_plane: ControlPlane, namespace: str, *settings: str) -> Iterator[Api]:
    """Install the CRD and the policies and yield an Api; remove the policies and the tasks afterwards."""
    api = Api(control_plane, namespace)
    control_plane.kubectl("apply", "-f", str(ROOT / "crds"))
    control_plane.kubectl("wait", "--for=condition=Established", "crd/longtasks.longtask.dev", "--timeout=20s")
    documents = {"apiVersion": "v1", "kind": "List", "items": [*_ground(namespace), *rendered_policies(*settings)]}
    api.run("apply", "-f", "-", document=documents, check=True)
    api.until("policies at work", lambda: _at_work(api))
    try:
        yield api
    finally:
        policies = {"apiVersion": "v1", "kind": "List", "items": rendered_policies(*settings)}
        api.run("delete", "--ignore-not-found", "-f", "-", document=policies, check=True)
        api.run("delete", "longtasks", "--all", "-n", namespace, "--wait=false", check=True)


def _at_work(api: Api) -> bool:
    """Tell whether policies refuse what they alone can refuse; the last one applied, on quotas, takes effect last."""
    quota = {"apiVersion": "longtask.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": "a.b"}, "spec": {}}
    bad: list[dict[str, Any]] = [{"image": "no image"}, {"resources": {"cpu": "3"}}]
    probes = [*(a_longtask("probe", api.namespace, **spec) for spec in bad), quota]
    answers = [api.create(probe, "--dry-run=server") for probe in probes]
    forged = a_longtask("probe", api.namespace)
    forged["metadata"]["annotations"] = {"longtask.dev/created-by": "nobody"}
    named = api.create(forged, "--dry-run=server", "-o", "json")
    return all(answer.returncode for answer in answers) and not named.returncode and "nobody" not in named.stdout


def _ground(namespace: str) -> list[dict[str, Any]]:
    """Namespaces, and users who may write everything these tests touch."""
    rules = [
        {"apiGroups": ["longtask.dev"], "resources": ["longtasks", "longtasks/status"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["pods", "pods/status", "pods/resize", "configmaps"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["namespaces", "namespaces/status", "namespaces/finalize"], "verbs": ["*"]},
        {"apiGroups": ["batch"], "resources": ["jobs", "jobs/status"], "verbs": ["*"]},
    ]
    assign = [{"apiGroups": ["longtask.dev"], "resources": ["tenantquotas"], "verbs": ["assign"]}]
    users = [ALICE, ASSIGNER, OPERATOR, "system:serviceaccount:kube-system:job-controller", "system:node:n1"]
    users += [GITOPS]
    users += [f"system:serviceaccount:kueue-system:{name}" for name in ("kueue-controller-manager", "default")]
    return [
        *[{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": n}} for n in (namespace, OPERATOR_NAMESPACE)],
        *_role("longtask-test-writer", rules, users),
        *_role("longtask-test-assigner", assign, [ASSIGNER]),
    ]


def _role(name: str, rules: list[dict[str, Any]], users: list[str]) -> list[dict[str, Any]]:
    group = "rbac.authorization.k8s.io"
    subjects = [{"kind": "User", "apiGroup": group, "name": user} for user in users]
    return [
        {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules},
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
            "subjects": subjects,
        },
    ]
