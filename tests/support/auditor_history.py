"""Every version of every object of interest, in etcd's own order: what really happened, whoever says otherwise.

Read through etcd's JSON gateway, so that no watch cache and no client of the operator stands between.
"""

from __future__ import annotations

import base64
import http.client
import json
import urllib.parse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.support.auditor_protobuf import Json, decode

_ALL = base64.b64encode(b"\0").decode()
#: Key prefix in etcd -> kind.
KINDS = {
    "/registry/longtask.dev/longtasks/": "LongTask",
    "/registry/jobs/": "Job",
    "/registry/pods/": "Pod",
    "/registry/configmaps/": "ConfigMap",
    "/registry/longtask.dev/tenantquotas/": "TenantQuota",
}


class HistoryError(Exception):
    """The history cannot be read, or not from the revision asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One object at one revision. *body* is None where it went."""

    revision: int
    kind: str
    namespace: str
    name: str
    body: Json | None = field(repr=False)


def current_revision(endpoint: str) -> int:
    """Return etcd's revision now."""
    connection = _connect(endpoint)
    try:
        body = json.dumps({"key": _ALL, "count_only": True})
        connection.request("POST", "/v3/kv/range", body)
        return int(json.loads(connection.getresponse().read())["header"]["revision"])
    finally:
        connection.close()


def forget_key(endpoint: str, key: str) -> None:
    """Delete one key from etcd behind the API server's back, as a restore from an older backup may do."""
    connection = _connect(endpoint)
    try:
        connection.request("POST", "/v3/kv/deleterange", json.dumps({"key": base64.b64encode(key.encode()).decode()}))
        deleted = json.loads(connection.getresponse().read()).get("deleted")
    finally:
        connection.close()
    if deleted != "1":
        raise HistoryError(f"etcd has no key {key}")


def read_history(endpoint: str, *, since: int = 1, namespaces: Iterable[str] | None = None) -> list[Change]:
    """Return all changes of LongTasks, Jobs, Pods, ConfigMaps and TenantQuotas from revision *since* to now.

    Raises:
        HistoryError: if etcd has compacted *since* away.
    """
    wanted = set(namespaces) if namespaces is not None else None
    found = []
    for event in _events(endpoint, since, current_revision(endpoint)):
        change = parse_event(event, wanted)
        if change is not None:
            found.append(change)
    return found


def parse_event(event: Json, namespaces: set[str] | None = None) -> Change | None:
    """Return an event of the gateway as a Change, or None where it is of no interest."""
    pair = event["kv"]
    key = base64.b64decode(pair["key"]).decode(errors="replace")
    prefix = next((prefix for prefix in KINDS if key.startswith(prefix)), None)
    if prefix is None:
        return None
    namespace, slash, name = key.removeprefix(prefix).partition("/")
    if not slash:  # of the whole cluster
        namespace, name = "", namespace
    if namespaces is not None and namespace and namespace not in namespaces:
        return None
    body = None if event.get("type") == "DELETE" else decode(base64.b64decode(pair["value"]))
    revision = int(pair["mod_revision"])
    return Change(revision=revision, kind=KINDS[prefix], namespace=namespace, name=name, body=body)


def versions(history: Iterable[Change], kind: str, namespace: str, name: str) -> list[Json]:
    """Return every stored version of one object, oldest first."""
    return [
        change.body
        for change in history
        if (change.kind, change.namespace, change.name) == (kind, namespace, name) and change.body is not None
    ]


def _events(endpoint: str, since: int, until: int) -> Iterator[Json]:
    """Yield events from *since* on until the one of revision *until* has come."""
    if since > until:
        return
    # All keys are watched: only then does an event of the last revision surely come and tell that this is all.
    request = {"create_request": {"key": _ALL, "range_end": _ALL, "start_revision": since}}
    connection = _connect(endpoint)
    try:
        connection.request("POST", "/v3/watch", json.dumps(request))
        yield from _until(connection.getresponse(), since, until)
    finally:
        connection.close()


def _until(response: http.client.HTTPResponse, since: int, until: int) -> Iterator[Json]:
    while line := response.readline():
        answer: dict[str, Any] = json.loads(line)
        result = answer.get("result")
        if result is None or result.get("canceled"):
            raise HistoryError(f"etcd does not tell what happened since revision {since}: {answer}")
        events = result.get("events") or []
        yield from events
        if events and int(events[-1]["kv"]["mod_revision"]) >= until:
            return
    raise HistoryError(f"etcd ended the watch before revision {until}")


def _connect(endpoint: str) -> http.client.HTTPConnection:
    url = urllib.parse.urlparse(endpoint)
    return http.client.HTTPConnection(url.hostname or "127.0.0.1", url.port, timeout=60)
