"""The manifest: what a checkpoint consists of, so that whoever reads it can tell whole from torn. Pure.

A small JSON value stands in the manifest itself: then the checkpoint is one object. Everything else is one
stream of bytes, cut into parts; of a folder it is the content of its files, one after the other.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from longtask_worker.checkpoints.layout import is_part_name

KINDS = ("json", "bytes", "file", "directory")
#: Bytes of one part. Writing and reading hold one in memory.
PART_BYTES = 8 * 1024 * 1024
#: JSON up to this size stands in the manifest.
INLINE_BYTES = 64 * 1024
MAX_MANIFEST_BYTES = 32 * 1024 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")


class CorruptError(Exception):
    """The checkpoint is not whole: something is missing, cut or altered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of the data, an object of its own."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file of a saved folder, or an empty folder in it (path with a slash at its end)."""

    path: str
    size: int
    mode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One checkpoint."""

    kind: str
    size: int
    parts: tuple[Part, ...] = ()
    #: Of the kind directory.
    entries: tuple[Entry, ...] = ()
    #: Of the kind file: its name.
    name: str | None = None
    #: The value as JSON text, where it stands in the manifest.
    inline: str | None = None


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the manifest's bytes."""
    fields: dict[str, Any] = {"longtask": 1, "kind": manifest.kind, "sizeBytes": manifest.size}
    if manifest.inline is not None:
        fields["inline"] = manifest.inline
    else:
        fields["parts"] = [{"name": p.name, "sizeBytes": p.size, "sha256": p.sha256} for p in manifest.parts]
    if manifest.kind == "directory":
        fields["files"] = [{"path": e.path, "sizeBytes": e.size, "mode": e.mode} for e in manifest.entries]
    if manifest.name is not None:
        fields["name"] = manifest.name
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def decode_manifest(data: bytes) -> Manifest:
    """Return the manifest; CorruptError if it is not one, or contradicts itself."""
    try:
        manifest = _parse(json.loads(data))
        reason = _contradiction(manifest)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CorruptError(f"the manifest cannot be read: {error}") from None
    if reason:
        raise CorruptError(f"the manifest contradicts itself: {reason}")
    return manifest


def _parse(fields: dict[str, Any]) -> Manifest:
    if fields["longtask"] != 1:
        raise ValueError(f"version {fields['longtask']!r} is not known")
    parts = fields.get("parts", [])
    files = fields.get("files", [])
    return Manifest(
        kind=fields["kind"],
        size=_count(fields["sizeBytes"]),
        parts=tuple(Part(name=p["name"], size=_count(p["sizeBytes"]), sha256=p["sha256"]) for p in parts),
        entries=tuple(Entry(path=f["path"], size=_count(f["sizeBytes"]), mode=_count(f["mode"])) for f in files),
        name=fields.get("name"),
        inline=fields.get("inline"),
    )


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is not a count")
    return value


def _contradiction(manifest: Manifest) -> str | None:
    if manifest.kind not in KINDS:
        return f"kind {manifest.kind!r}"
    if manifest.inline is not None and (manifest.kind != "json" or len(manifest.inline.encode()) != manifest.size):
        return "the value is cut"
    if manifest.inline is None and sum(part.size for part in manifest.parts) != manifest.size:
        return "the sizes of the parts do not add up"
    if any(not _is_sound(part) for part in manifest.parts):
        return "a part is not named as one"
    if manifest.kind == "directory" and sum(entry.size for entry in manifest.entries) != manifest.size:
        return "the sizes of the files do not add up"
    if any(not is_inside(entry.path) for entry in manifest.entries):
        return "a file lies outside of its folder"
    return None if manifest.kind != "file" or is_file_name(manifest.name) else f"file name {manifest.name!r}"


def _is_sound(part: Part) -> bool:
    return is_part_name(part.name) and 0 < part.size <= PART_BYTES and _SHA256.fullmatch(part.sha256) is not None


def is_inside(path: str) -> bool:
    """Say whether a relative *path* stays below the folder that it is put in."""
    plain = path.removesuffix("/")
    return bool(plain) and "\0" not in path and str(PurePosixPath(plain)) == plain and _stays(PurePosixPath(plain))


def _stays(path: PurePosixPath) -> bool:
    return not path.is_absolute() and ".." not in path.parts and path.parts != ()


def is_file_name(name: object) -> bool:
    """Say whether *name* is a plain name, without folders."""
    return isinstance(name, str) and is_inside(name) and "/" not in name
