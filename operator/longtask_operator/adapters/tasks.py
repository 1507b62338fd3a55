"""LongTasks in the cache: packed JSON, a few hundred bytes each, parsed when they are looked at.

Parsing costs as much as deciding, and a task is looked at several times in a row while it moves: the newest
parsed ones are kept.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from longtask_operator.adapters.packing import pack, unpack
from longtask_operator.api.identity import person_of
from longtask_operator.api.keys import KeyClaim, claim_of
from longtask_operator.api.longtask import LongTask, parse_longtask
from longtask_operator.api.reasons import ConditionType

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
#: Conditions that are present only while True and end nothing.
WARNINGS = frozenset({ConditionType.STUCK, ConditionType.DEADLINE_AT_RISK})
_NO_WARNINGS: frozenset[str] = frozenset()  #: of nearly all: one for all, an empty one takes 200 bytes
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
    warnings: frozenset[str]  #: types of those true conditions that only warn
    reports: bool  #: its running attempt reported
    user: str  #: the person who created it, or empty
    claim: KeyClaim | None  #: of tasks with an idempotency key
    priority: int
    packed: bytes

    @property
    def key(self) -> str:
        """namespace/name, the key of the work queue."""
        return sys.intern(f"{self.namespace}/{self.name}")

    def body(self) -> dict[str, Any]:
        """Return the object as plain data."""
        data: dict[str, Any] = orjson.loads(unpack(self.packed))
        return data

    def parse(self) -> LongTask:
        """Return the LongTask. Raises SpecError as `parse_longtask` does."""
        body = self.body()
        body["metadata"] |= {"namespace": self.namespace, "name": self.name, "uid": self.uid}  # the interned strings
        return parse_longtask(body)


def observe_task(body: Mapping[str, Any]) -> TaskRecord:
    """Return the record of an API object, without what no decision needs.

    Names and uids are interned: a dozen tables know a task by them, and each version of it would bring new ones.
    """
    meta = body["metadata"]
    kept: dict[str, Any] = {key: meta[key] for key in _META if key in meta}
    kept["annotations"] = {key: value for key, value in (meta.get("annotations") or {}).items() if key != _NOISE}
    status = body.get("status") or {}
    data = {"metadata": kept, "spec": body.get("spec") or {}, "status": status}
    return TaskRecord(
        namespace=sys.intern(meta["namespace"]),
        name=sys.intern(meta["name"]),
        uid=sys.intern(meta["uid"]),
        version=int(meta["resourceVersion"]),
        phase=sys.intern(str(status.get("phase") or "Pending")),
        tenant=sys.intern(str(status.get("tenant") or "")),
        dead_lettered=status.get("deadLettered") is True,
        user=sys.intern(person_of(kept["annotations"])),
        claim=claim_of(data),
        priority=_whole(data["spec"].get("priority")),
        packed=pack(orjson.dumps(data)),
        warnings=frozenset(c["type"] for c in status.get("conditions") or () if c["type"] in WARNINGS) or _NO_WARNINGS,
        reports=status.get("phase") == "Running" and "lastReportTime" in (status.get("progress") or {}),
    )


def _whole(number: Any) -> int:
    """Return *number*, and 0 where it is none: whoever parses the task says so."""
    return number if isinstance(number, int) else 0


class ParsedTasks:
    """The tasks that were parsed last, so that one looked at again unchanged is not parsed again."""

    def __init__(self, limit: int = 100) -> None:
        self._limit = limit
        self._parsed: dict[str, tuple[int, LongTask]] = {}  #: uid -> version and task, the one used last at the end

    def parse(self, record: TaskRecord) -> LongTask:
        """Return the LongTask of *record*. Raises SpecError as `parse_longtask` does."""
        known = self._parsed.pop(record.uid, None)
        if known is None or known[0] != record.version:
            known = (record.version, record.parse())
        self._parsed[record.uid] = known
        if len(self._parsed) > self._limit:
            del self._parsed[next(iter(self._parsed))]
        return known[1]

    def forget(self, uid: str) -> None:
        """Drop a task that is gone or settled."""
        self._parsed.pop(uid, None)
