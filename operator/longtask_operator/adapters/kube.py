"""The only module that talks HTTP to the API server: plain dicts in and out, typed errors.

Why not a generated client: it costs two to eight times the CPU per object, and we
need preconditions, time-outs and bounded pools exactly as said here. Credentials
are read as every client reads them: in-cluster files, else a kubeconfig.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import tempfile
import time
from asyncio import sslproto
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import yaml

from longtask_operator.adapters.errors import ApiError, Unavailable, error_of
from longtask_operator.api.names import FIELD_MANAGER

Json = dict[str, Any]
#: Called after each request with verb, resource, HTTP code (0: no answer) and seconds.
Observer = Callable[[str, str, int, float], None]

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_MERGE_PATCH = "application/merge-patch+json"
_STRATEGIC_PATCH = "application/strategic-merge-patch+json"
_JSON_PATCH = "application/json-patch+json"
_TOKEN_REREAD_SECONDS = 30.0
#: For one read and for each connection asyncio takes 256 KiB, which malloc has from the kernel and returns every time;
#: a read brings one TLS record at most, and those are of 16 KiB (RFC 8446, section 5.1).
sslproto.SSLProtocol.max_size = 32 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Where the API server is and how to prove who we are."""

    server: str
    ssl_context: ssl.SSLContext | None
    token: str | None = None
    token_file: Path | None = None  #: read again every 30 s: projected tokens rotate


def load_credentials(environ: Mapping[str, str] = os.environ) -> Credentials:
    """Return credentials from the pod's ServiceAccount, else from KUBECONFIG or ~/.kube/config.

    Raises:
        ValueError: if neither is there or the kubeconfig names something we do not support.
    """
    host = environ.get("KUBERNETES_SERVICE_HOST")
    if host and (_SERVICE_ACCOUNT / "token").exists():
        port = environ.get("KUBERNETES_SERVICE_PORT", "443")
        context = ssl.create_default_context(cafile=str(_SERVICE_ACCOUNT / "ca.crt"))
        host = f"[{host}]" if ":" in host else host
        return Credentials(server=f"https://{host}:{port}", ssl_context=context, token_file=_SERVICE_ACCOUNT / "token")
    path = Path(environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    if not path.exists():
        raise ValueError(f"not in a pod and no kubeconfig at {path}; set KUBECONFIG")
    return _from_kubeconfig(yaml.safe_load(path.read_text()), path.parent)


def _from_kubeconfig(config: Json, base: Path) -> Credentials:
    def named(section: str, name: str) -> Json:
        found: list[Json] = [item for item in config.get(section) or [] if item["name"] == name]
        if not found:
            raise ValueError(f"kubeconfig has no {section[:-1]} named {name!r}")
        return found[0]

    context = named("contexts", config.get("current-context") or "")["context"]
    cluster, user = named("clusters", context["cluster"])["cluster"], named("users", context["user"]).get("user") or {}
    if "exec" in user or "auth-provider" in user:
        raise ValueError("kubeconfig users with exec plugins are not supported; use a token or a client certificate")
    token_file = base / user["tokenFile"] if user.get("tokenFile") else None
    return Credentials(
        server=cluster["server"].rstrip("/"),
        ssl_context=_ssl_context(cluster, user, base),
        token=user.get("token"),
        token_file=token_file,
    )


def _ssl_context(cluster: Json, user: Json, base: Path) -> ssl.SSLContext | None:
    if not cluster["server"].startswith("https"):
        return None
    authority = _inline(cluster, "certificate-authority", base)
    context = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    certificate, key = _inline(user, "client-certificate", base), _inline(user, "client-key", base)
    if certificate and key:
        with tempfile.NamedTemporaryFile(suffix=".pem") as pair:
            pair.write(certificate + b"\n" + key)
            pair.flush()
            context.load_cert_chain(pair.name)
    return context


def _inline(section: Json, name: str, base: Path) -> bytes | None:
    if section.get(f"{name}-data"):
        return base64.b64decode(section[f"{name}-data"])
    return (base / section[name]).read_bytes() if section.get(name) else None


def resource_path(
    group_version: str, plural: str, namespace: str | None = None, name: str | None = None, sub: str | None = None
) -> str:
    """Return the URL path of a resource; *group_version* is `v1` or `group/version`."""
    root = f"/api/{group_version}" if "/" not in group_version else f"/apis/{group_version}"
    middle = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{middle}/{plural}" + (f"/{name}" if name else "") + (f"/{sub}" if sub else "")


class Kube:
    """A small asynchronous client. Use as a context manager; share one per purpose, since pools are bounded."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        connections: int = 32,
        timeout: float = 20.0,
        user_agent: str = "longtask-operator",
        observe: Observer | None = None,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        self._credentials = credentials
        self._timeout = timeout
        self._observe = observe or (lambda verb, resource, code, seconds: None)
        self._token, self._token_read = credentials.token, float("-inf")
        self._connections, self._user_agent = connections, user_agent
        self.may_write = may_write  #: asked before each write; a replica that lost the lead must not send any
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Kube:
        connector = aiohttp.TCPConnector(limit=self._connections, ssl=self._credentials.ssl_context or False)
        self._session = aiohttp.ClientSession(
            connector=connector, headers={"User-Agent": self._user_agent}, auto_decompress=True
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._session:
            await self._session.close()

    @property
    def server(self) -> str:
        """URL of the API server, without a trailing slash."""
        return self._credentials.server

    def bearer_token(self) -> str | None:
        """Return the current token; a token file is read again every 30 s."""
        file = self._credentials.token_file
        if file and time.monotonic() - self._token_read > _TOKEN_REREAD_SECONDS:
            self._token, self._token_read = file.read_text().strip(), time.monotonic()
        return self._token

    async def get(self, path: str, **params: str) -> Json:
        """Return one object, or one page of a list. Raises ApiError."""
        return await self._request("GET", path, params=params)

    async def list_pages(
        self, path: str, params: Mapping[str, str] | None = None, *, limit: int = 500
    ) -> AsyncIterator[Json]:
        """Yield the pages of a consistent list, each with `items` and `metadata.resourceVersion`. Raises ApiError.

        The next page is asked for while the caller works on one, if that lets others run meanwhile.
        """
        query = {**(params or {}), "limit": str(limit)}
        coming = asyncio.create_task(self._request("GET", path, params=query))
        try:
            while True:
                page = await coming
                token = page.get("metadata", {}).get("continue") or ""
                if token:
                    coming = asyncio.create_task(self._request("GET", path, params={**query, "continue": token}))
                yield page
                if not token:
                    return
        finally:
            coming.cancel()

    async def create(self, path: str, body: Json) -> Json:
        """Return the created object. Raises AlreadyExists, Forbidden, Invalid, Unavailable."""
        return await self._request("POST", path, body=body, params={"fieldManager": FIELD_MANAGER})

    async def replace(self, path: str, body: Json) -> Json:
        """Return the replaced object; *body* carries the resourceVersion that was read. Raises Conflict."""
        return await self._request("PUT", path, body=body, params={"fieldManager": FIELD_MANAGER})

    async def merge_patch(self, path: str, body: Json) -> Json:
        """Return the patched object; with metadata.resourceVersion in *body* a stale read is a Conflict."""
        return await self._request(
            "PATCH", path, body=body, content_type=_MERGE_PATCH, params={"fieldManager": FIELD_MANAGER}
        )

    async def drop_finalizer(self, path: str, finalizer: str, *, uid: str) -> Json:
        """Return the object of a built-in kind without *finalizer*, all others left on it; one request, no read.

        Raises:
            Conflict: if another object has the name now. NotFound: if none has.
        """
        body: Json = {"metadata": {"uid": uid, "$deleteFromPrimitiveList/finalizers": [finalizer]}}
        return await self._request(
            "PATCH", path, body=body, content_type=_STRATEGIC_PATCH, params={"fieldManager": FIELD_MANAGER}
        )

    async def patch_containers(self, path: str, containers: list[Json], *, version: int) -> Json:
        """Return the pod with *containers* merged into its own, by name; what they leave out stays as it is.

        Raises:
            Conflict: if its resourceVersion is not *version*. Forbidden and Invalid as `create` does.
        """
        body: Json = {"metadata": {"resourceVersion": str(version)}, "spec": {"containers": containers}}
        return await self._request(
            "PATCH", path, body=body, content_type=_STRATEGIC_PATCH, params={"fieldManager": FIELD_MANAGER}
        )

    async def json_patch(self, path: str, operations: list[Json]) -> Json:
        """Return the patched object; a failed `test` operation raises Invalid."""
        return await self._request(
            "PATCH", path, body=operations, content_type=_JSON_PATCH, params={"fieldManager": FIELD_MANAGER}
        )

    async def delete(
        self, path: str, *, uid: str, version: str = "", propagation: str = "Background", grace: int | None = None
    ) -> None:
        """Delete the object of that *uid*, with *grace* seconds if given; an object already gone is success.

        Raises:
            Conflict: if another object has the name now, or it is not at *version*, where that is given.
        """
        options: Json = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
            "preconditions": {"uid": uid, **({"resourceVersion": version} if version else {})},
        }
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        try:
            await self._request("DELETE", path, body=options)
        except ApiError as error:
            if error.status != 404:
                raise

    async def watch(
        self, path: str, params: Mapping[str, str] | None = None, *, resource_version: str, timeout: float = 300.0
    ) -> AsyncIterator[Json]:
        """Yield watch events until the server ends the stream.

        A stream that is silent for 130 s may be dead, since bookmarks come about once a minute; it ends too.

        Raises:
            Gone: if *resource_version* is too old. Unavailable: on any other fault.
        """
        query = {
            **(params or {}),
            "watch": "1",
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(int(timeout)),
        }
        limits = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=130)
        try:
            async with self._http.get(
                self.server + path, params=query, headers=self._headers(), timeout=limits
            ) as response:
                if response.status != 200:
                    raise error_of(response.status, await _json_or_empty(response), response.headers.get("Retry-After"))
                async for line in _lines(response.content):
                    event: Json = orjson.loads(line)
                    if event["type"] == "ERROR":
                        raise error_of(int(event["object"].get("code") or 500), event["object"])
                    yield event
        except aiohttp.SocketTimeoutError:
            return
        except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError, OSError) as error:
            raise Unavailable(0, "ConnectionLost", f"watch of {path}: {error or type(error).__name__}") from error

    @property
    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("use Kube as an async context manager")
        return self._session

    def _headers(self, content_type: str | None = None) -> dict[str, str]:
        headers = {"Accept": "application/json, */*;q=0.5"}  # the keys of /openid are of another type
        if token := self.bearer_token():
            headers["Authorization"] = f"Bearer {token}"
        if content_type:
            headers["Content-Type"] = content_type
        return headers

    async def _request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Json:
        if method != "GET" and not self.may_write():
            raise Unavailable(0, "NotLeading", f"{method} {path} not sent: this replica does not lead")
        data = orjson.dumps(body) if body is not None else None
        started, code = time.monotonic(), 0
        try:
            async with asyncio.timeout(self._timeout):
                async with self._http.request(
                    method,
                    self.server + path,
                    data=data,
                    params=params,
                    headers=self._headers(content_type if data else None),
                ) as response:
                    code, answer = response.status, await _json_or_empty(response)
            if code >= 300:
                raise error_of(code, answer, response.headers.get("Retry-After"))
            return answer
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(0, "ConnectionLost", f"{method} {path}: {error or type(error).__name__}") from error
        finally:
            self._observe(method, path, code, time.monotonic() - started)


async def _json_or_empty(response: aiohttp.ClientResponse) -> Json:
    raw = await response.read()
    try:
        answer = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return {"message": raw[:500].decode(errors="replace")}
    return answer if isinstance(answer, dict) else {}


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield the lines of *stream*; a line may be longer than aiohttp's own limit."""
    pending = bytearray()
    async for chunk in stream.iter_any():
        pending += chunk
        if b"\n" in chunk:
            *whole, rest = bytes(pending).split(b"\n")
            pending = bytearray(rest)
            for line in whole:
                if line:
                    yield line
