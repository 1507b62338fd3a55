"""What the operator tells an attempt: the LONGTASK_* variables, parsed once.

The payload needs no unescaping: the operator doubles every `$` in the pod and the
kubelet takes the doubling back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from longtask_worker.checkpoints.layout import Reference
from longtask_worker.checkpoints.place import Place, parse_place, parse_resume
from longtask_worker.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """Who this attempt is and what it works on. The defaults are those of a run without a cluster."""

    name: str = "local"
    namespace: str = "local"
    uid: str = "local"
    tenant: str = "local"
    run: int = 1
    attempt: int = 1
    payload: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    deadline: datetime | None = None
    traceparent: str | None = None
    #: Where checkpoints are saved; None if the task keeps none.
    checkpoint: Place | None = None
    #: Accepted checkpoints to resume from, newest first; none at a fresh start.
    resume: tuple[Reference, ...] = ()


def in_cluster(env: Mapping[str, str]) -> bool:
    """Say whether the operator started this process: it always sets LONGTASK_UID."""
    return bool(env.get("LONGTASK_UID"))


def parse_environment(env: Mapping[str, str]) -> Info:
    """Return what *env* says of this attempt; UsageError names the variable that is malformed."""
    uid, attempt = env.get("LONGTASK_UID", ""), _parse_int(env, "LONGTASK_ATTEMPT")
    return Info(
        name=env.get("LONGTASK_NAME", ""),
        namespace=env.get("LONGTASK_NAMESPACE", ""),
        uid=uid,
        tenant=env.get("LONGTASK_TENANT", ""),
        run=_parse_int(env, "LONGTASK_RUN"),
        attempt=attempt,
        payload=_parse_object(env, "LONGTASK_PAYLOAD"),
        inputs=_parse_uris(env, "LONGTASK_INPUTS"),
        outputs=_parse_uris(env, "LONGTASK_OUTPUTS"),
        deadline=_parse_deadline(env),
        traceparent=env.get("TRACEPARENT") or None,
        checkpoint=parse_place(env, uid, attempt),
        resume=parse_resume(env),
    )


def parse_time(text: str) -> datetime:
    """Return the RFC 3339 time as an aware datetime; ValueError if it is none."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))  # Python 3.10 does not know Z
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)  # noqa: UP017 - datetime.UTC is 3.11


def _parse_int(env: Mapping[str, str], key: str) -> int:
    try:
        return int(env.get(key) or 1)
    except ValueError:
        raise UsageError(f"{key} is not a number: {env[key]!r}") from None


def _parse_json(env: Mapping[str, str], key: str) -> Any:
    try:
        return json.loads(env.get(key) or "null")
    except ValueError as error:
        raise UsageError(f"{key} is not JSON: {error}") from None


def _parse_object(env: Mapping[str, str], key: str) -> dict[str, Any]:
    value = _parse_json(env, key) or {}
    if not isinstance(value, dict):
        raise UsageError(f"{key} is not a JSON object")
    return value


def _parse_uris(env: Mapping[str, str], key: str) -> dict[str, str]:
    entries = _parse_json(env, key) or []
    try:
        return {entry["name"]: entry["uri"] for entry in entries}
    except (TypeError, KeyError):
        raise UsageError(f"{key} is not a list of objects with name and uri") from None


def _parse_deadline(env: Mapping[str, str]) -> datetime | None:
    text = env.get("LONGTASK_DEADLINE")
    if not text:
        return None
    try:
        return parse_time(text)
    except ValueError:
        raise UsageError(f"LONGTASK_DEADLINE is not an RFC 3339 time: {text!r}") from None
