"""What the cluster refuses is a wait, on the real API server with real webhooks; quotas and policies are in tests/e2e.

All stories are played at the same time, each with a namespace of its own.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.integration.worker_support import make_chain
from tests.support.live import MERGE, Json, RefusedError, await_
from tests.support.operating import Stage
from tests.support.ports import free_port
from tests.support.tenants import Story, Tenant, Told, told

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
ADMISSION = "admissionregistration.k8s.io/v1"
WEBHOOKS = f"/apis/{ADMISSION}/validatingwebhookconfigurations"
CA, CERTIFICATE, KEY = make_chain()


class Denies(BaseHTTPRequestHandler):
    """Denies whatever it is asked."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        denied = {
            "uid": review["request"]["uid"],
            "allowed": False,
            "status": {"message": "no budget code", "code": 403},
        }
        answer = json.dumps({**review, "response": denied}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def a_webhook_may_deny_the_job(ground: Stage, denying: int) -> None:
    tenant = Tenant.open(ground, "denied-job")
    with webhook(tenant, denying, "batch", "jobs"):
        assert "denied the request: no budget code" in refused(tenant)["message"]
    tenant.until(Admitted=1)


def a_webhook_may_deny_the_pod(ground: Stage, denying: int) -> None:
    tenant = Tenant.open(ground, "denied-pod")
    with webhook(tenant, denying, "", "pods"):
        assert "denied the request: no budget code" in refused(tenant)["message"]
    tenant.until(Admitted=1)
    tenant.stage.pod_of("a")


def a_webhook_that_does_not_answer_refuses_the_job(ground: Stage) -> None:
    """Its failurePolicy is Fail: the API server answers 500, and the sentence names the webhook."""
    tenant = Tenant.open(ground, "silent-job")
    with webhook(tenant, free_port(), "batch", "jobs"):
        assert 'failed calling webhook "silent-job.example.com"' in refused(tenant)["message"]
    tenant.until(Admitted=1)


def a_webhook_that_does_not_answer_refuses_the_pod_in_the_end(ground: Stage) -> None:
    """After half a minute: until then it may be a fault that passes."""
    tenant = Tenant.open(ground, "silent-pod")
    with webhook(tenant, free_port(), "", "pods"):
        assert 'failed calling webhook "silent-pod.example.com"' in refused(tenant)["message"]
    tenant.until(Admitted=1)
    tenant.stage.pod_of("a")


def a_quota_on_jobs_refuses_the_job(ground: Stage) -> None:
    tenant = Tenant.open(ground, "no-jobs")
    path = f"/api/v1/namespaces/{tenant.name}/resourcequotas"
    body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "jobs"}}
    ground.client.request("POST", path, body | {"spec": {"hard": {"count/jobs.batch": "0"}}})
    await_("the quota at work", lambda: asks(tenant, "jobs", "exceeded quota: jobs"), 90)
    assert "exceeded quota: jobs" in refused(tenant)["message"]
    ground.client.request("DELETE", f"{path}/jobs")
    tenant.until(Admitted=1)


def pod_security_refuses_what_others_put_into_a_pod(ground: Stage) -> None:
    """Pods as the operator makes them are `restricted`; an injector of sidecars may make others of them."""
    tenant = Tenant.open(ground, "restricted")
    path = f"/api/v1/namespaces/{tenant.name}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    ground.client.request("PATCH", path, {"metadata": {"labels": labels}}, form=MERGE)
    with injecting(tenant):
        assert 'violates PodSecurity "restricted:latest": host namespaces (hostPID=true)' in refused(tenant)["message"]
    tenant.until(Admitted=1)
    tenant.stage.pod_of("a")


@contextmanager
def injecting(tenant: Tenant) -> Iterator[None]:
    """Let the API server change each new pod in the namespace of *tenant* so that it shares the node's processes."""
    client, name = tenant.stage.client, f"{tenant.name}.example.com"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    where = {"matchLabels": {"kubernetes.io/metadata.name": tenant.name}}
    spec = {
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "matchConstraints": {"namespaceSelector": where, "resourceRules": [rule]},
        "mutations": [
            {
                "patchType": "JSONPatch",
                "jsonPatch": {"expression": '[JSONPatch{op: "add", path: "/spec/hostPID", value: true}]'},
            }
        ],
    }
    made = [("MutatingAdmissionPolicy", "mutatingadmissionpolicies", spec)]
    made += [("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings", {"policyName": name})]
    for kind, plural, body in made:
        document = {"apiVersion": ADMISSION, "kind": kind, "metadata": {"name": name}, "spec": body}
        client.request("POST", f"/apis/{ADMISSION}/{plural}", document)
    try:
        await_(f"{name} at work", lambda: asks(tenant, "pods", "hostPID"), 90)
        yield
    finally:
        for _, plural, _ in made:
            client.request("DELETE", f"/apis/{ADMISSION}/{plural}/{name}")


def refused(tenant: Tenant) -> Json:
    """Return what a new task says of its place, once nothing is left of its attempt."""
    tenant.submit("a")
    queue = tenant.until_waits("a", "RefusedByCluster")
    path = f"/api/v1/namespaces/{tenant.stage.home}/configmaps/longtask-ledger-tenant-{tenant.name}"

    def nothing_is_held() -> bool:
        ledger = (tenant.stage.client.find(path) or {}).get("data") or {}
        return not tenant.stage.tasks.jobs("a") and not ledger.get("attempts", "").strip()

    await_(f"{tenant.name}: neither Job nor ledger entry", nothing_is_held, 90)
    return queue


@contextmanager
def webhook(tenant: Tenant, port: int, group: str, plural: str) -> Iterator[None]:
    """Let the API server ask a webhook about every such object in the namespace of *tenant*."""
    client, name = tenant.stage.client, f"{tenant.name}.example.com"
    entry = {
        "name": name,
        "rules": [{"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [plural]}],
        "clientConfig": {"url": f"https://127.0.0.1:{port}/", "caBundle": base64.b64encode(CA).decode()},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": tenant.name}},
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "timeoutSeconds": 30,  # where nobody listens the answer is there at once
    }
    api = {"apiVersion": ADMISSION, "kind": "ValidatingWebhookConfiguration"}
    client.request("POST", WEBHOOKS, {**api, "metadata": {"name": name}, "webhooks": [entry]})
    try:
        await_(f"{name} at work", lambda: asks(tenant, plural), 90)
        yield
    finally:
        client.request("DELETE", f"{WEBHOOKS}/{name}")


def asks(tenant: Tenant, plural: str, says: str = "webhook") -> bool:
    """Tell whether what refuses objects like those of the operator is at work, and says so in that word."""
    spec = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}
    pod: Json = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": spec}
    job: Json = {**pod, "apiVersion": "batch/v1", "kind": "Job", "spec": {"template": {"spec": spec}}}
    path, body = ("/apis/batch/v1", job) if plural == "jobs" else ("/api/v1", pod)
    try:
        query = {"dryRun": "All"}
        tenant.stage.client.request("POST", f"{path}/namespaces/{tenant.name}/{plural}", body, query=query)
    except RefusedError as error:
        return says in error.message
    return False


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    """Serve `Denies` on a port of loopback, with a certificate of CA."""
    pem = folder / "server.pem"
    pem.write_bytes(KEY + CERTIFICATE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Denies)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


DENIED = [a_webhook_may_deny_the_job, a_webhook_may_deny_the_pod]
OTHERS: list[Story] = [
    a_webhook_that_does_not_answer_refuses_the_job,
    a_webhook_that_does_not_answer_refuses_the_pod_in_the_end,
    a_quota_on_jobs_refuses_the_job,
    pod_security_refuses_what_others_put_into_a_pod,
]
NAMES = [story.__name__ for story in (*DENIED, *OTHERS)]


@pytest.fixture(scope="module")
def stories(control_plane: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    with serving(tmp_path_factory.mktemp("webhook")) as port:
        all_of_them = [*(partial(story, denying=port) for story in DENIED), *OTHERS]
        with told(control_plane, tmp_path_factory.mktemp("operator"), "refusals", all_of_them, {}) as found:
            yield found


@pytest.mark.parametrize("name", NAMES)
def test_story(stories: Told, name: str) -> None:
    list(stories.values())[NAMES.index(name)].result()
