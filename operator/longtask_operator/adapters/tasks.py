"""LongTasks in the cache: compact JSON, a kilobyte each, parsed when they are looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from longtask_operator.api.identity import person_of
from longtask_operator.api.longtask import LongTask, parse_longtask

_META = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "labels",
)
_NOISE = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecord:
    """One LongTask as last read."""

    namespace: str
    name: str
    uid: str
    version: int
    phase: str  #: for counting, of `status.phase`
    tenant: str
    dead_lettered: bool
    user: str  #: the person who created it, or empty
    raw: bytes

    @property
    def key(self) -> str:
        """namespace/name, the key of the work queue."""
        return f"{self.namespace}/{self.name}"

    def body(self) -> dict[str, Any]:
        """Return the object as plain data."""
        data: dict[str, Any] = orjson.loads(self.raw)
        return data

    def parse(self) -> LongTask:
        """Return the LongTask. Raises SpecError as `parse_longtask` does."""
        return parse_longtask(self.body())


def observe_task(body: Mapping[str, Any]) -> TaskRecord:
    """Return the record of an API object, without what no decision needs."""
    meta = body["metadata"]
    kept: dict[str, Any] = {key: meta[key] for key in _META if key in meta}
    kept["annotations"] = {key: value for key, value in (meta.get("annotations") or {}).items() if key != _NOISE}
    status = body.get("status") or {}
    data = {"metadata": kept, "spec": body.get("spec") or {}, "status": status}
    return TaskRecord(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        version=int(meta["resourceVersion"]),
        phase=str(status.get("phase") or "Pending"),
        tenant=str(status.get("tenant") or ""),
        dead_lettered=status.get("deadLettered") is True,
        user=person_of(kept["annotations"]),
        raw=orjson.dumps(data),
    )
