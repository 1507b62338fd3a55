"""Reads a checkpoint back and believes nothing: manifest and parts are checked before a value is handed out."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from longtask_worker.checkpoints.layout import Reference, folder_of
from longtask_worker.checkpoints.manifest import (
    MAX_MANIFEST_BYTES,
    PART_BYTES,
    CorruptError,
    Entry,
    Manifest,
    Part,
    decode_manifest,
)
from longtask_worker.errors import CheckpointError, NotFoundError
from longtask_worker.storage import Storage


def read_checkpoint(storage: Storage, reference: Reference, to: Path | None) -> Any:
    """Return what was saved: the value, the bytes, or the path where file or folder now are.

    *to* is where a file or folder goes, a temporary folder if None. CorruptError if anything is missing or
    altered, then nothing is left behind; StorageError if the storage could not be asked.
    """
    manifest = read_manifest(storage, reference)
    parts = _read_parts(storage, folder_of(reference.uri), manifest.parts)
    if manifest.inline is not None:
        return _decode_json(manifest.inline)
    if manifest.kind in ("json", "bytes"):
        data = b"".join(parts)
        return data if manifest.kind == "bytes" else _decode_json(data)
    return _restore(manifest, parts, to)


def read_manifest(storage: Storage, reference: Reference) -> Manifest:
    """Return the manifest that *reference* means; CorruptError if that is not there."""
    data = _read_object(storage, reference.uri, MAX_MANIFEST_BYTES)
    if hashlib.sha256(data).hexdigest() != reference.sha256:
        raise CorruptError(f"{reference.uri} is not the manifest that was accepted")
    return decode_manifest(data)


def _read_parts(storage: Storage, folder: str, parts: tuple[Part, ...]) -> Iterator[bytes]:
    for part in parts:
        data = _read_object(storage, folder + part.name, PART_BYTES)
        if len(data) != part.size or hashlib.sha256(data).hexdigest() != part.sha256:
            raise CorruptError(f"{folder}{part.name} is not what was saved")
        yield data


def _read_object(storage: Storage, uri: str, limit: int) -> bytes:
    try:
        data = storage.read(uri, limit + 1)
    except NotFoundError as error:
        raise CorruptError(str(error)) from None
    if len(data) > limit:
        raise CorruptError(f"{uri} is longer than anything that was saved")
    return data


def _decode_json(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise CorruptError(f"the saved value is not JSON: {error}") from None


def _restore(manifest: Manifest, parts: Iterator[bytes], to: Path | None) -> Path:
    """Put file or folder at its place once all of it is there and checked."""
    name = manifest.name or "checkpoint"
    target = to or Path(tempfile.mkdtemp(prefix="longtask-")) / name
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    try:
        if manifest.kind == "file":
            _write_file(staging, parts)
        else:
            _write_folder(staging, manifest.entries, parts)
        _move(staging, target)
    finally:
        _remove(staging)
    return target


def _write_file(path: Path, pieces: Iterator[bytes]) -> None:
    with path.open("xb") as file:
        for piece in pieces:
            file.write(piece)


def _write_folder(folder: Path, entries: tuple[Entry, ...], parts: Iterator[bytes]) -> None:
    stream = _Stream(parts)
    folder.mkdir()
    for entry in entries:
        path = folder / entry.path
        if entry.path.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_file(path, stream.take(entry.size))
        path.chmod(entry.mode | 0o600)
    stream.drain()


def _move(staging: Path, target: Path) -> None:
    try:
        os.replace(staging, target)
    except OSError as error:
        raise CheckpointError(f"the checkpoint cannot be put at {target}: {error.strerror}") from None


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


class _Stream:
    """The parts as one stream, taken in pieces of other sizes."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._held = b""

    def take(self, size: int) -> Iterator[bytes]:
        while size > 0:
            if not self._held:
                self._held = next(self._parts)  # the manifest's sizes add up
            piece, self._held = self._held[:size], self._held[size:]
            size -= len(piece)
            yield piece

    def drain(self) -> None:
        """Check what no file takes: nothing, as the sizes add up; and an empty folder's parts."""
        for _ in self._parts:
            pass
