"""A report server on a real API server: real pods' tokens, real certificates, real connections."""

from __future__ import annotations

import asyncio
import ssl
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import aiohttp

from longtask_operator.adapters.certificates import ServingCertificate
from longtask_operator.adapters.kube import Kube, load_credentials, resource_path
from longtask_operator.adapters.tokens import TokenVerifier
from longtask_operator.engines.report_book import ReportBook
from longtask_operator.engines.report_server import LivePod, LiveTask, ReportServer

TASK, TASK_UID = "wordcount", "11111111-2222-3333-4444-555555555555"


class Directory:
    """What the caches would know; a test says it."""

    def __init__(self) -> None:
        self.synced = True
        self.pods: dict[str, LivePod] = {}
        self.tasks: dict[tuple[str, str], LiveTask] = {}
        self.newer_confirmed = False
        self.asked_to_confirm = 0

    def is_synced(self) -> bool:
        return self.synced

    def pod_of(self, uid: str) -> LivePod | None:
        return self.pods.get(uid)

    def task_of(self, namespace: str, name: str) -> LiveTask | None:
        return self.tasks.get((namespace, name))

    def live_attempts(self) -> int:
        return len(self.pods)

    async def confirm_newer_attempt(self, namespace: str, name: str, attempt: int) -> bool:
        self.asked_to_confirm += 1
        return self.newer_confirmed


@dataclass(frozen=True)
class Answer:
    """An answer of the server."""

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str]


@dataclass
class World:
    """The server, and all that is needed to talk to it."""

    kube: Kube
    namespace: str
    certificate: ServingCertificate
    server: ReportServer
    port: int
    directory: Directory
    book: ReportBook
    codes: list[int] = field(default_factory=list)
    certificate_age: list[timedelta] = field(default_factory=list)

    def url(self, attempt: int = 1, *, namespace: str | None = None, name: str = TASK) -> str:
        path = f"/v1/namespaces/{namespace or self.namespace}/longtasks/{name}/attempts/{attempt}/report"
        return f"https://127.0.0.1:{self.port}{path}"

    @cached_property
    def trust(self) -> ssl.SSLContext:
        """What a worker trusts: our CA and nothing else."""
        return ssl.create_default_context(cadata=self.certificate.ca_bundle())

    async def post(self, token: str | None, url: str = "", *, data: Any = b'{"sequence": 1}', **more: Any) -> Answer:
        headers = more.pop("headers", {}) | ({"Authorization": f"Bearer {token}"} if token is not None else {})
        connector = aiohttp.TCPConnector(ssl=self.trust, local_addr=(more.pop("source", "127.0.0.1"), 0))
        async with (
            aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session,
            session.request(
                more.pop("method", "POST"), url or self.url(), data=data, headers=headers, **more
            ) as response,
        ):
            return Answer(response.status, await response.json(), response.headers)

    async def a_pod(self, *, attempt: int = 1, task: str = TASK, known: bool = True, namespace: str = "") -> LivePod:
        """Create a pod object, as the Job controller would, and tell the directory."""
        namespace = namespace or self.namespace
        name = f"{task}-{uuid.uuid4().hex[:8]}"
        spec = {"containers": [{"name": "task", "image": "example/task:1"}], "serviceAccountName": "default"}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        made = await self.kube.create(resource_path("v1", "pods", namespace), body)
        uid = made["metadata"]["uid"]
        pod = LivePod(uid=uid, namespace=namespace, task_name=task, task_uid=TASK_UID, attempt=attempt, is_live=True)
        self.names[uid] = name
        if known:
            self.directory.pods[uid] = pod
        return pod

    names: dict[str, str] = field(default_factory=dict)

    async def token(self, pod: LivePod | None, *, audience: str = "longtask", account: str = "default") -> str:
        """Return a token as the kubelet gets it for *pod*; None: bound to no pod."""
        spec: dict[str, Any] = {"audiences": [audience], "expirationSeconds": 3600}
        if pod:
            bound = {"apiVersion": "v1", "kind": "Pod", "name": self.names[pod.uid], "uid": pod.uid}
            spec["boundObjectRef"] = bound
        namespace = pod.namespace if pod else self.namespace
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = await self.kube.create(resource_path("v1", "serviceaccounts", namespace, account, "token"), body)
        token: str = answer["status"]["token"]
        return token

    async def delete_pod(self, pod: LivePod) -> None:
        """Remove the pod's object at once."""
        path = resource_path("v1", "pods", pod.namespace, self.names[pod.uid])
        await self.kube.delete(f"{path}?gracePeriodSeconds=0", uid=pod.uid)

    async def until_refused(self, token: str) -> None:
        """Wait until the API server refuses a *token* whose pod is deleted: it looks into a cache of pods first."""
        body = {"spec": {"token": token, "audiences": ["longtask"]}}
        path = resource_path("authentication.k8s.io/v1", "tokenreviews")
        async with asyncio.timeout(60):
            while (await self.kube.create(path, body))["status"].get("authenticated"):  # noqa: ASYNC110 - it changes there
                await asyncio.sleep(0.05)


@asynccontextmanager
async def a_namespace(kube: Kube) -> AsyncIterator[str]:
    """Make a namespace with its default ServiceAccount; delete it afterwards."""
    name = f"reports-{uuid.uuid4().hex[:8]}"
    await kube.create(
        resource_path("v1", "namespaces"), {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    )
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    try:
        await kube.create(resource_path("v1", "serviceaccounts", name), account)
    except Exception as error:
        if "AlreadyExists" not in str(error):
            raise
    made = await kube.get(resource_path("v1", "namespaces", name=name))
    try:
        yield name
    finally:
        await kube.delete(resource_path("v1", "namespaces", name=name), uid=made["metadata"]["uid"])


@asynccontextmanager
async def a_world(kubeconfig: Path, *, verifier_kube: type[Kube] = Kube, age_days: int = 0) -> AsyncIterator[World]:
    """Run a report server with a namespace of its own; the task `wordcount` is at attempt 1.

    The certificate was made *age_days* ago.
    """
    credentials = load_credentials({"KUBECONFIG": str(kubeconfig)})
    async with Kube(credentials) as kube, verifier_kube(credentials) as asking, a_namespace(kube) as namespace:
        age = [timedelta(days=age_days)]  # a test may change it
        certificate = ServingCertificate(
            kube, namespace=namespace, host="localhost", days=365, now=lambda: datetime.now(UTC) - age[0]
        )
        await certificate.ensure()
        directory, book, codes = Directory(), ReportBook(), list[int]()
        directory.tasks[namespace, TASK] = LiveTask(uid=TASK_UID, attempt=1)
        server = ReportServer(
            port=0,
            directory=directory,
            verifier=TokenVerifier(asking),
            book=book,
            context=certificate.context,
            observe=lambda code, seconds: codes.append(code),
        )
        running = asyncio.create_task(server.run())
        await server.listener.ready.wait()
        try:
            yield World(kube, namespace, certificate, server, server.listener.port, directory, book, codes, age)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
