"""Kubernetes' built-in objects as etcd stores them: protobuf, read by field number.

Field numbers never change once released, so the few fields that the auditor needs are
listed here instead of taking the whole schema. The result has the shape of the JSON object.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_MAGIC = b"k8s\x00"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """A message type: field number -> (name, type, whether it repeats)."""

    fields: dict[int, tuple[str, Any, bool]]


class _Map:
    """A map from string to string."""


class _Amounts:
    """A map from string to resource.Quantity, which is stored as the string that it has in JSON."""


class _Time:
    """A metav1.Time."""


OWNER = Message(
    {1: ("kind", str, False), 3: ("name", str, False), 4: ("uid", str, False), 6: ("controller", bool, False)}
)
META = Message(
    {
        1: ("name", str, False),
        3: ("namespace", str, False),
        5: ("uid", str, False),
        8: ("creationTimestamp", _Time, False),
        9: ("deletionTimestamp", _Time, False),
        10: ("deletionGracePeriodSeconds", int, False),
        11: ("labels", _Map, True),
        12: ("annotations", _Map, True),
        13: ("ownerReferences", OWNER, True),
        14: ("finalizers", str, True),
    }
)
CONDITION = Message({1: ("type", str, False), 2: ("status", str, False)})
TERMINATED = Message({1: ("exitCode", int, False), 3: ("reason", str, False), 4: ("message", str, False)})
RUNNING = Message({1: ("startedAt", _Time, False)})
CONTAINER_STATE = Message({2: ("running", RUNNING, False), 3: ("terminated", TERMINATED, False)})
CONTAINER_STATUS = Message({1: ("name", str, False), 2: ("state", CONTAINER_STATE, False)})
POD_STATUS = Message(
    {1: ("phase", str, False), 4: ("reason", str, False), 8: ("containerStatuses", CONTAINER_STATUS, True)}
)
RESOURCES = Message({1: ("limits", _Amounts, True), 2: ("requests", _Amounts, True)})
CONTAINER = Message({1: ("name", str, False), 8: ("resources", RESOURCES, False)})
POD_SPEC = Message(
    {2: ("containers", CONTAINER, True), 10: ("nodeName", str, False), 20: ("initContainers", CONTAINER, True)}
)
POD = Message({1: ("metadata", META, False), 2: ("spec", POD_SPEC, False), 3: ("status", POD_STATUS, False)})
JOB_SPEC = Message({6: ("template", Message({2: ("spec", POD_SPEC, False)}), False)})
JOB_STATUS = Message({1: ("conditions", CONDITION, True)})
JOB = Message({1: ("metadata", META, False), 2: ("spec", JOB_SPEC, False), 3: ("status", JOB_STATUS, False)})
CONFIG_MAP = Message({1: ("metadata", META, False), 2: ("data", _Map, True)})
KINDS = {"Pod": POD, "Job": JOB, "ConfigMap": CONFIG_MAP}


def decode(value: bytes) -> Json | None:
    """Return the object stored as *value*, JSON or protobuf, or None for a kind that is not listed in KINDS.

    Raises:
        ValueError: if the bytes are neither.
    """
    if value.startswith(b"{"):
        found: Json = json.loads(value)
        return found
    if not value.startswith(_MAGIC):
        raise ValueError(f"neither JSON nor Kubernetes protobuf: {value[:16]!r}")
    kind, raw = _unknown(value[len(_MAGIC) :])
    return {"kind": kind, **_read(raw, KINDS[kind])} if kind in KINDS else None


def _unknown(data: bytes) -> tuple[str, bytes]:
    """Return kind and content of a runtime.Unknown."""
    fields = dict(_fields(data))
    kind = dict(_fields(fields.get(1, b"")))
    return kind.get(2, b"").decode(), fields.get(2, b"")


def _read(data: bytes, message: Message) -> Json:
    found: Json = {}
    for number, value in _fields(data):
        name, form, repeated = message.fields.get(number, ("", None, False))
        if form in (_Map, _Amounts):
            entry = dict(_fields(value))
            said = entry.get(2, b"") if form is _Map else dict(_fields(entry.get(2, b""))).get(1, b"")
            found.setdefault(name, {})[entry.get(1, b"").decode()] = said.decode()
        elif repeated:
            found.setdefault(name, []).append(_scalar(value, form))
        elif form is not None:
            found[name] = _scalar(value, form)
    return found


def _scalar(value: Any, form: Any) -> Any:
    if isinstance(form, Message):
        return _read(value, form)
    if form is _Time:
        seconds = dict(_fields(value)).get(1, 0)
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return value.decode(errors="replace") if form is str else form(value)


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield number and value of each field: an int for varints, bytes for everything with a length."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
        elif wire == 2:
            length, at = _varint(data, at)
            yield number, data[at : at + length]
            at += length
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} at byte {at}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7
