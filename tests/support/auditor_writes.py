"""What a user did, from the API server's audit log: which verbs on which resources, and how many writes for a task."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One answered request. *resource* is `jobs`, or `longtasks/status` for a subresource."""

    user: str
    verb: str
    group: str
    resource: str
    namespace: str
    name: str
    code: int


def requests(log: Path, user: str) -> Iterator[Request]:
    """Yield the requests of *user* that the API server answered, oldest first; a last half line is left out."""
    with log.open("rb") as lines:
        for line in lines:
            if user.encode() not in line or not line.endswith(b"\n"):
                continue
            event = json.loads(line)
            if event["user"]["username"] == user and event["stage"] == "ResponseComplete" and "objectRef" in event:
                yield _request(event)


def writes_in(log: Path, user: str, namespace: str) -> list[Request]:
    """Return the successful writes of *user* in *namespace*."""
    return [
        request
        for request in requests(log, user)
        if request.namespace == namespace and request.verb in WRITES and request.code < 300
    ]


def _request(event: dict[str, object]) -> Request:
    target, status, user = event["objectRef"], event.get("responseStatus"), event["user"]
    assert isinstance(target, dict)
    assert isinstance(user, dict)
    sub = f"/{target['subresource']}" if target.get("subresource") else ""
    return Request(
        user=str(user["username"]),
        verb=str(event["verb"]),
        group=str(target.get("apiGroup", "")),
        resource=f"{target.get('resource', '')}{sub}",
        namespace=str(target.get("namespace", "")),
        name=str(target.get("name", "")),
        code=int(status.get("code", 0)) if isinstance(status, dict) else 0,
    )
