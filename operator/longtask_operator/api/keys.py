"""Idempotency keys: what a task claims by `spec.idempotencyKey`, and by what two tasks with one key are compared."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from longtask_operator.api.reasons import QueueReason

#: Fields of spec that say when and how urgently a task runs, not what runs.
NOT_COMPARED = frozenset(
    {"suspend", "cancel", "redrive", "priority", "deadlineSeconds", "ttlSecondsAfterFinished", "idempotencyKey"}
)
#: Reasons of the condition Admitted that a task keeps which ended while it waited for another.
_WAITS_FOR_ANOTHER = (QueueReason.DUPLICATE, QueueReason.KEY_CONFLICT)
_CEILINGS = frozenset({"maxCpu", "maxMemory"})


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyClaim:
    """What decides between tasks of one namespace and key. Times as on the wire, which sort as text."""

    key: str
    created: str
    fingerprint: bytes  #: equal for tasks that would run the same
    run: int
    run_start: str  #: empty before the first visit
    begun: bool  #: an attempt of this run stands in the status
    finished_at: str  #: when this run finished, or empty
    is_apart: bool  #: it ended, by its own cancel or deadline, while it waited for another: its end is nobody else's
    taken_from: str  #: uid of the task whose outcome it has taken over, or empty
    suspended: bool
    deleting: bool


def claim_of(body: Mapping[str, Any]) -> KeyClaim | None:
    """Return the claim of a LongTask as read from the API server, or None without a key."""
    meta, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    key = spec.get("idempotencyKey")
    if not key:
        return None
    run = int(status.get("run") or 1)
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    finished = conditions.get("Finished", {}).get("status") == "True"
    return KeyClaim(
        key=str(key),
        created=str(meta.get("creationTimestamp") or ""),
        fingerprint=fingerprint(spec),
        run=run,
        run_start=str(status.get("runStartTime") or ""),
        begun=any(attempt.get("run") == run for attempt in status.get("attempts") or ()),
        finished_at=str(status.get("completionTime") or meta.get("creationTimestamp") or "") if finished else "",
        is_apart=finished and conditions.get("Admitted", {}).get("reason") in _WAITS_FOR_ANOTHER,
        taken_from=str((status.get("duplicateOf") or {}).get("uid") or "") if finished else "",
        suspended=spec.get("suspend") is True,
        deleting=bool(meta.get("deletionTimestamp")),
    )


def fingerprint(spec: Mapping[str, Any]) -> bytes:
    """Return a digest of what *spec* would run."""
    return hashlib.sha256(_written(what_runs(spec))).digest()[:16]


def differences(spec: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the fields by which two specs would not run the same, sorted."""
    one, two = what_runs(spec), what_runs(other)
    return sorted(field for field in {*one, *two} if _written(one.get(field)) != _written(two.get(field)))


def what_runs(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of *spec* that says what runs."""
    kept = {field: value for field, value in spec.items() if field not in NOT_COMPARED}
    if resources := {k: v for k, v in (spec.get("resources") or {}).items() if k not in _CEILINGS}:
        return kept | {"resources": resources}
    return {field: value for field, value in kept.items() if field != "resources"}


def _written(value: Any) -> bytes:
    """Return *value* as it is compared: to Python 1 and True are equal, to who reads a payload they are not."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
