"""What may be saved, as a stream of pieces: JSON, bytes, a file, a folder. A stream can be read more than once."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from longtask_worker.checkpoints.manifest import INLINE_BYTES, PART_BYTES, Entry, Manifest, Part, is_inside
from longtask_worker.errors import CheckpointError


class Content(Protocol):
    """A value on its way into a checkpoint."""

    def pieces(self) -> Iterator[bytes]:
        """Yield the data in pieces of PART_BYTES, the last one shorter; none is empty."""

    def describe(self, parts: tuple[Part, ...]) -> Manifest:
        """Return the manifest of what `pieces` yielded last, stored as *parts*."""


def content_of(value: object) -> Content:
    """Return *value* as it will be saved; CheckpointError if it cannot be.

    Bytes are bytes, a path object is the file or folder at that path, everything else is JSON.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return _Bytes("bytes", bytes(value))
    if isinstance(value, os.PathLike):
        return _content_at(Path(value))
    text = encode_json(value)
    return _Inline(text) if len(text) <= INLINE_BYTES else _Bytes("json", text)


def encode_json(value: object) -> bytes:
    """Return *value* as compact JSON; CheckpointError if it would not come back as it went."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        _check_keys(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"the checkpoint is not JSON, bytes or a path: {error}") from None
    return text


def _check_keys(value: object) -> None:
    """JSON would turn other keys into strings, and the next attempt would not find them."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} is not a string")
            _check_keys(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_keys(item)


def _content_at(path: Path) -> Content:
    if path.is_dir():
        return _Folder(path)
    if path.is_file():
        return _File(path)
    raise CheckpointError(f"{path} cannot be saved: there is no such file or folder")


class _Inline:
    def __init__(self, text: bytes) -> None:
        self._text = text

    def pieces(self) -> Iterator[bytes]:
        return iter(())

    def describe(self, parts: tuple[Part, ...]) -> Manifest:
        return Manifest(kind="json", size=len(self._text), parts=parts, inline=self._text.decode())


class _Bytes:
    def __init__(self, kind: str, data: bytes) -> None:
        self._kind = kind
        self._data = data

    def pieces(self) -> Iterator[bytes]:
        for start in range(0, len(self._data), PART_BYTES):
            yield self._data[start : start + PART_BYTES]

    def describe(self, parts: tuple[Part, ...]) -> Manifest:
        return Manifest(kind=self._kind, size=len(self._data), parts=parts)


class _File:
    def __init__(self, path: Path) -> None:
        self._path = path

    def pieces(self) -> Iterator[bytes]:
        return regroup(_read(self._path))

    def describe(self, parts: tuple[Part, ...]) -> Manifest:
        return Manifest(kind="file", size=sum(part.size for part in parts), parts=parts, name=self._path.name)


class _Folder:
    """All files below a folder. Their sizes are those that were read: a file may grow meanwhile."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: list[Entry] = []

    def pieces(self) -> Iterator[bytes]:
        self._entries = []
        return regroup(self._all_files())

    def describe(self, parts: tuple[Part, ...]) -> Manifest:
        size = sum(part.size for part in parts)
        return Manifest(kind="directory", size=size, parts=parts, entries=tuple(self._entries))

    def _all_files(self) -> Iterator[bytes]:
        for path in _walk(self._path):
            name = path.relative_to(self._path).as_posix()
            mode = path.lstat().st_mode
            _check_kind(path, name, mode)
            size = 0
            if stat.S_ISREG(mode):
                for piece in _read(path):
                    size += len(piece)
                    yield piece
            slash = "/" if stat.S_ISDIR(mode) else ""
            self._entries.append(Entry(path=name + slash, size=size, mode=stat.S_IMODE(mode)))


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files below *folder* and the folders in it that are empty, in the order of their names."""
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink() and any(entry.iterdir()):
            yield from _walk(entry)
        else:
            yield entry


def _check_kind(path: Path, name: str, mode: int) -> None:
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise CheckpointError(f"{path} cannot be saved: only files and folders can, no links, pipes or devices")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise CheckpointError(f"{path!r} cannot be saved: its name is not UTF-8") from None
    if not is_inside(name):
        raise CheckpointError(f"{path!r} cannot be saved: its name cannot be kept")


def _read(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb", buffering=0) as file:
            while piece := file.read(PART_BYTES):
                yield piece
    except FileNotFoundError:
        raise CheckpointError(f"{path} vanished while it was saved") from None


def regroup(pieces: Iterable[bytes], size: int = PART_BYTES) -> Iterator[bytes]:
    """Yield the same bytes in pieces of *size*, the last one shorter; holds about one piece."""
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)
