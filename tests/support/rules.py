"""The CRD and the chart's policies on a bare API server, for tests that talk to it as users do, with kubectl."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import yaml

from tests.support import crds

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

    def until(self, what: str, check: Callable[[], bool], seconds: float = 90) -> None:
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
    """Install the CRDs and the policies and yield an Api; remove the policies and the tasks afterwards.

    Each wait names who must have refused: a request that came to nothing for any other reason says nothing of policies.
    """
    api = Api(control_plane, namespace)
    crds.install(control_plane)
    policies = {"apiVersion": "v1", "kind": "List", "items": rendered_policies(*settings)}
    try:
        documents = {**policies, "items": [*_ground(namespace), *policies["items"]]}
        api.run("apply", "-f", "-", document=documents, check=True)
        api.until("policies at work", lambda: _refusals(api) == [True] * 3 and _creator_of_probe(api) == "admin")
        api.until("users at work", lambda: _may(api, ALICE, "create longtasks") and _may(api, ASSIGNER, "assign"))
        api.run("wait", "--for=create", "serviceaccount/default", "-n", namespace, "--timeout=120s", check=True)
        yield api
    finally:
        api.run("delete", "--ignore-not-found", "-f", "-", document=policies, check=True)
        # Else those of who comes next would seem to be at work before they are.
        api.until("policies gone", lambda: _refusals(api) == [False] * 3 and _creator_of_probe(api) == "nobody")
        api.run("delete", "longtasks", "--all", "-n", namespace, "--wait=false", check=True)


def _refusals(api: Api) -> list[bool | None]:
    """Tell for three policies whether each refuses what it alone can refuse, None where the answer says neither.

    Policies take effect and go in their order, and that on quotas is the last one.
    """
    quota = {"apiVersion": "longtask.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": "a.b"}, "spec": {}}
    task = partial(a_longtask, "probe", api.namespace)
    probes = [("longtask-spec", task(image="no image")), ("longtask-cluster", task(resources={"cpu": "3"}))]
    return [_refuses(api, policy, probe) for policy, probe in (*probes, ("longtask-tenantquotas", quota))]


def _refuses(api: Api, policy: str, document: dict[str, Any]) -> bool | None:
    answer = api.create(document, "--dry-run=server")
    return False if answer.returncode == 0 else True if f"'{policy}'" in answer.stderr else None


def _creator_of_probe(api: Api) -> str:
    """Return who is the creator of a task that says that it was nobody; empty when it was not taken."""
    forged = a_longtask("probe", api.namespace)
    forged["metadata"]["annotations"] = {"longtask.dev/created-by": "nobody"}
    answer = api.create(forged, "--dry-run=server", "-o", "json")
    if answer.returncode:
        return ""
    creator: str = json.loads(answer.stdout)["metadata"]["annotations"]["longtask.dev/created-by"]
    return creator


def _may(api: Api, user: str, what: str) -> bool:
    """Tell whether *user* has the verb on longtasks or tenantquotas: the API server takes up roles a moment later."""
    verb, _, plural = what.partition(" ")
    asked = ["auth", "can-i", verb, f"{plural or 'tenantquotas'}.longtask.dev", "-n", api.namespace]
    return api.run(*asked, user=user).stdout.strip() == "yes"


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
