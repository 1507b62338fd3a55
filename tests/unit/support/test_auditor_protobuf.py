"""Decoding of stored objects; against real ones it is held by tests/e2e/test_auditor.py."""

from __future__ import annotations

import json

import pytest

from tests.support.auditor_protobuf import decode


def field(number: int, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def stored(kind: str, raw: bytes) -> bytes:
    return b"k8s\x00" + field(1, field(1, "v1") + field(2, kind)) + field(2, raw)


def test_json_is_taken_as_it_is() -> None:
    assert decode(json.dumps({"kind": "LongTask", "x": "é"}).encode()) == {"kind": "LongTask", "x": "é"}


def test_a_pod_has_the_shape_of_its_json() -> None:
    labels = field(11, field(1, "a") + field(2, "b")) + field(11, field(1, "c") + field(2, "😀"))
    meta = (
        field(1, "p") + field(3, "ns") + field(8, field(1, 1_700_000_000)) + field(10, 0) + labels + field(14, "f/one")
    )
    terminated = field(1, 300) + field(3, "Error") + field(5, field(1, 1))
    status = field(1, "Failed") + field(8, field(1, "task") + field(2, field(3, terminated)))
    ignored = varint(99 << 3 | 1) + bytes(8) + varint(98 << 3 | 5) + bytes(4)
    limits = field(1, field(1, "cpu") + field(2, field(1, "250m"))) + field(2, field(1, "cpu") + field(2, b""))
    spec = field(2, field(1, "task") + field(8, limits)) + field(10, "node-1")
    pod = decode(stored("Pod", field(1, meta) + field(2, spec) + ignored + field(3, status)))
    assert pod == {
        "kind": "Pod",
        "metadata": {
            "name": "p",
            "namespace": "ns",
            "creationTimestamp": "2023-11-14T22:13:20Z",
            "deletionGracePeriodSeconds": 0,
            "labels": {"a": "b", "c": "😀"},
            "finalizers": ["f/one"],
        },
        "spec": {
            "containers": [{"name": "task", "resources": {"limits": {"cpu": "250m"}, "requests": {"cpu": ""}}}],
            "nodeName": "node-1",
        },
        "status": {
            "phase": "Failed",
            "containerStatuses": [{"name": "task", "state": {"terminated": {"exitCode": 300, "reason": "Error"}}}],
        },
    }


def test_other_kinds_are_left_out() -> None:
    assert decode(stored("Secret", field(1, b""))) is None


@pytest.mark.parametrize("value", [b"", b"\x00\x01", b"kas\x00"])
def test_other_bytes_are_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match="neither"):
        decode(value)
