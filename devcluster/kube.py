"""The few calls to the API server that bringing a cluster up needs, with the administrator's token."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from devcluster import pki
from devcluster.errors import DevclusterError
from devcluster.paths import ClusterPaths
from devcluster.plan import Plan


def cluster_role(user: str, rules: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """A cluster role and its binding to a user of the same name."""
    group = "rbac.authorization.k8s.io"
    base = f"/apis/{group}/v1"
    about = {"apiVersion": f"{group}/v1", "metadata": {"name": user}}
    binding = {
        **about,
        "kind": "ClusterRoleBinding",
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": user},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }
    return [
        (f"{base}/clusterroles/{user}", {**about, "kind": "ClusterRole", "rules": rules}),
        (f"{base}/clusterrolebindings/{user}", binding),
    ]


class Kube:
    """A small synchronous client; every method raises DevclusterError for an answer above 399."""

    def __init__(self, url: str, authority: Path, token: str) -> None:
        self._address = urlsplit(url).netloc
        self._headers = {"Authorization": f"Bearer {token}", "User-Agent": "devcluster"}
        self._tls = ssl.create_default_context(cafile=str(authority))
        self._kept = threading.local()  # a connection per thread, kept open: TLS costs more than most requests

    @classmethod
    def of(cls, paths: ClusterPaths, plan: Plan) -> Kube:
        """Client of a cluster whose files exist."""
        return cls(plan.api_url, paths.pki / "ca.crt", pki.admin_token(paths))

    def ready(self) -> bool:
        """Whether the API server answers and says that it is ready."""
        try:
            return self._send("GET", "/readyz", None, "text/plain") == b"ok"
        except DevclusterError:
            return False

    def get(self, path: str) -> dict[str, Any] | None:
        """One object or list; None when it does not exist."""
        try:
            answer: dict[str, Any] = json.loads(self._send("GET", path, None, "application/json"))
        except NotFoundError:
            return None
        return answer

    def ready_nodes(self) -> int:
        """How many nodes are Ready."""
        nodes = (self.get("/api/v1/nodes") or {}).get("items", [])
        conditions = [condition for node in nodes for condition in node.get("status", {}).get("conditions", [])]
        return sum(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)

    def apply(self, path: str, document: dict[str, Any]) -> None:
        """Create or update one object by server-side apply."""
        query = "?fieldManager=devcluster&force=true"
        self._send("PATCH", path + query, json.dumps(document).encode(), "application/apply-patch+yaml")

    def _send(self, method: str, path: str, body: bytes | None, content_type: str) -> bytes:
        connection = self._connection()
        try:
            connection.request(method, path, body=body, headers={**self._headers, "Content-Type": content_type})
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as problem:
            del self._kept.connection
            raise DevclusterError(f"The API server at {self._address} does not answer: {problem}") from None
        if response.status >= 400:
            error = NotFoundError if response.status == 404 else DevclusterError
            text = answer.decode(errors="replace")[:300]
            raise error(f"The API server answered {response.status} to {method} {path}: {text}")
        return answer

    def _connection(self) -> http.client.HTTPSConnection:
        if not hasattr(self._kept, "connection"):
            self._kept.connection = http.client.HTTPSConnection(self._address, context=self._tls, timeout=30)
        connection: http.client.HTTPSConnection = self._kept.connection
        return connection


class NotFoundError(DevclusterError):
    """The API server does not know the object."""
