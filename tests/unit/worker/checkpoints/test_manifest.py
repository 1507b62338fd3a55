"""A manifest comes back as it was, and anything else is noticed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from longtask_worker.checkpoints.manifest import (
    CorruptError,
    Entry,
    Manifest,
    Part,
    decode_manifest,
    encode_manifest,
    is_file_name,
    is_inside,
)

PART = Part(name="part-00000", size=5, sha256="a" * 64)
FOLDER = Manifest(kind="directory", size=5, parts=(PART,), entries=(Entry(path="a/b", size=5, mode=0o644),))


@pytest.mark.parametrize(
    "manifest",
    [
        Manifest(kind="json", size=9, inline='{"é":"ü"}'.replace("ü", "")),
        Manifest(kind="json", size=5, parts=(PART,)),
        Manifest(kind="bytes", size=0),
        Manifest(kind="file", size=5, parts=(PART,), name="model.bin"),
        FOLDER,
    ],
)
def test_it_comes_back_as_it_was(manifest: Manifest) -> None:
    if manifest.inline is not None:
        manifest = Manifest(kind="json", size=len(manifest.inline.encode()), inline=manifest.inline)
    assert decode_manifest(encode_manifest(manifest)) == manifest


def altered(**fields: Any) -> bytes:
    return json.dumps({**json.loads(encode_manifest(FOLDER)), **fields}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        altered(longtask=2),
        altered(kind="pickle"),
        altered(sizeBytes=6),
        altered(sizeBytes=-5),
        altered(sizeBytes=True),
        altered(sizeBytes=5.0),
        altered(parts=[]),
        altered(parts=5),
        altered(parts=[{"name": "../x", "sizeBytes": 5, "sha256": "a" * 64}]),
        altered(parts=[{"name": "part-00000", "sizeBytes": 5, "sha256": "A" * 64}]),
        altered(parts=[{"name": "part-00000", "sizeBytes": 5}]),
        altered(files=[]),
        altered(files=[{"path": "../x", "sizeBytes": 5, "mode": 420}]),
        altered(files=[{"path": "/x", "sizeBytes": 5, "mode": 420}]),
        altered(files=[{"path": 7, "sizeBytes": 5, "mode": 420}]),
        altered(kind="json", inline="123"),
        altered(kind="json", inline=12345),
        altered(kind="bytes", inline="12345"),
        altered(kind="file", name="a/b"),
        altered(kind="file", name=None),
        altered(kind="file"),
    ],
)
def test_what_contradicts_itself_is_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptError):
        decode_manifest(data)


def test_a_cut_manifest_is_never_one() -> None:
    whole = encode_manifest(FOLDER)
    for cut in range(len(whole)):
        with pytest.raises(CorruptError):
            decode_manifest(whole[:cut])


@pytest.mark.parametrize("path", ["a", "a/b", "a/b/", "ü", ".hidden", "...", "a b"])
def test_paths_that_stay_inside(path: str) -> None:
    assert is_inside(path)


@pytest.mark.parametrize("path", ["", "/", "..", "../a", "a/../b", "a/..", "/a", ".", "./a", "a//b", "a\0b", "a/./b"])
def test_paths_that_do_not(path: str) -> None:
    assert not is_inside(path)


def test_file_names() -> None:
    assert is_file_name("model.bin")
    assert not any(is_file_name(name) for name in ("a/b", "a/", "", "..", None, 5))
