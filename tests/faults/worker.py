"""What the worker in a pod would send: reports over TLS, with the pod's own token, to the address that it was given."""

from __future__ import annotations

import contextlib
import json
import ssl
from dataclasses import dataclass, field

import aiohttp

from tests.faults.api import Api, Json

CA = "longtask.dev/report-ca"


@dataclass(slots=True)
class Worker:
    """The worker of one pod, which trusts and asks whom its pod says."""

    api: Api
    pod: Json
    _token: str = field(default="", repr=False)

    def variable(self, name: str) -> str:
        """Return a variable of the task container's environment. Raises KeyError."""
        container = next(c for c in self.pod["spec"]["containers"] if c["name"] == "task")
        return str({entry["name"]: entry.get("value", "") for entry in container["env"]}[name])

    async def report(self, body: Json) -> Json:
        """Send one report; return the answer, empty where nobody took it."""
        trust = ssl.create_default_context(cadata=self.pod["metadata"]["annotations"][CA])
        headers = {"Authorization": f"Bearer {await self._own_token()}"}
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
                session.post(
                    self.variable("LONGTASK_REPORT_URL"), data=json.dumps(body), headers=headers, ssl=trust
                ) as answer,
            ):
                found: Json = await answer.json()
                return found if answer.status == 200 else {}
        return {}

    async def _own_token(self) -> str:
        """Return a token as the kubelet gets it for the pod."""
        if not self._token:
            meta = self.pod["metadata"]
            account = self.pod["spec"].get("serviceAccountName", "default")
            bound = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
            spec = {"audiences": ["longtask"], "expirationSeconds": 3600, "boundObjectRef": bound}
            body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
            path = f"/api/v1/namespaces/{meta['namespace']}/serviceaccounts/{account}/token"
            self._token = (await self.api.request("POST", path, body))["status"]["token"]
        return self._token
