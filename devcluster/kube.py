"""The few calls to the API server that bringing a cluster up needs, with the administrator's token."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

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
        self._url = url
        self._token = token
        tls = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(authority)))
        # no proxy: the cluster is on this machine, whatever the environment says
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), tls)

    @classmethod
    def of(cls, paths: ClusterPaths, plan: Plan) -> Kube:
        """Client of a cluster whose files exist."""
        return cls(plan.api_url, paths.pki / "ca.crt", pki.admin_token(paths))

    def ready(self) -> bool:
        """Whether the API server answers and says that it is ready."""
        try:
            return self._send("GET", "/readyz", None, "", timeout=2) == b"ok"
        except (OSError, DevclusterError):
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

    def _send(self, method: str, path: str, body: bytes | None, content_type: str, timeout: float = 30) -> bytes:
        request = urllib.request.Request(self._url + path, data=body, method=method)
        request.add_header("Authorization", f"Bearer {self._token}")
        request.add_header("User-Agent", "devcluster")
        if body is not None:
            request.add_header("Content-Type", content_type)
        try:
            with self._opener.open(request, timeout=timeout) as response:
                answer: bytes = response.read()
                return answer
        except urllib.error.HTTPError as error:
            problem = NotFoundError if error.code == 404 else DevclusterError
            text = error.read().decode(errors="replace")[:300]
            raise problem(f"The API server answered {error.code} to {method} {path}: {text}") from None


class NotFoundError(DevclusterError):
    """The API server does not know the object."""
