"""Reading of the audit log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.auditor_writes import requests, writes_in

OPERATOR = "system:serviceaccount:longtask-system:longtask-operator"


def event(verb: str, resource: str, *, code: int = 200, user: str = OPERATOR, **target: Any) -> str:
    reference = {"resource": resource, "namespace": "a", "name": "x", **target}
    return json.dumps(
        {
            "stage": "ResponseComplete",
            "verb": verb,
            "user": {"username": user},
            "objectRef": reference,
            "responseStatus": {"code": code},
        }
    )


def test_only_answered_requests_of_the_user_count(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    started = json.dumps({**json.loads(event("get", "jobs")), "stage": "RequestReceived"})
    raw = json.dumps({**json.loads(event("get", "jobs")), "objectRef": None}).replace(', "objectRef": null', "")
    lines = [event("get", "jobs"), event("get", "jobs", user="alice"), started, raw]
    log.write_text("\n".join(lines) + "\n" + event("list", "pods"))
    assert [(found.verb, found.resource) for found in requests(log, OPERATOR)] == [("get", "jobs")]


def test_writes_of_a_namespace(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    lines = [
        event("create", "jobs", code=201, apiGroup="batch"),
        event("create", "jobs", code=409, apiGroup="batch"),
        event("get", "jobs"),
        event("patch", "longtasks", subresource="status", apiGroup="longtask.dev"),
        event("patch", "longtasks", subresource="status", namespace="b"),
    ]
    log.write_text("".join(f"{line}\n" for line in lines))
    found = writes_in(log, OPERATOR, "a")
    assert [(write.verb, write.group, write.resource) for write in found] == [
        ("create", "batch", "jobs"),
        ("patch", "longtask.dev", "longtasks/status"),
    ]
