"""Writes a checkpoint: its parts first, then the manifest that makes it one. Who dies before has left none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from longtask_worker.checkpoints.contents import Content
from longtask_worker.checkpoints.layout import MANIFEST, Prefix, Reference, part_name
from longtask_worker.checkpoints.manifest import MAX_MANIFEST_BYTES, Part, encode_manifest
from longtask_worker.errors import AlreadyExistsError, CheckpointError
from longtask_worker.storage import Storage, create_once

#: Numbers found taken in a row, after which saving gives up: another process of this attempt is writing.
MAX_TRIES = 5


class Writer:
    """Writes an attempt's checkpoints, each under a number of its own."""

    def __init__(self, storage: Storage, prefix: Prefix, check: Callable[[], None]) -> None:
        """*check* is called before each object and raises if nothing may be published any more."""
        self._storage = storage
        self._prefix = prefix
        self._check = check
        self._number: int | None = None

    def write(self, content: Content) -> Reference:
        """Store *content* and return its reference; StorageError if that failed."""
        for _ in range(MAX_TRIES):
            try:
                return self._write_as(self._next_number(), content)
            except AlreadyExistsError as error:
                taken = error
        raise taken

    def _next_number(self) -> int:
        """Return a number above all that an earlier process of this attempt has used, also for a torn checkpoint."""
        if self._number is None:
            slots = (self._prefix.slot_of(uri) for uri in self._storage.list_below(self._prefix.uri))
            self._number = max((slot.number for slot in slots if slot), default=0)
        self._number += 1
        return self._number

    def _write_as(self, number: int, content: Content) -> Reference:
        folder = self._prefix.folder(number)
        parts = []
        for index, data in enumerate(content.pieces()):
            part = Part(name=part_name(index), size=len(data), sha256=hashlib.sha256(data).hexdigest())
            self._create(folder + part.name, data)
            parts.append(part)
        manifest = content.describe(tuple(parts))
        data = encode_manifest(manifest)
        if len(data) > MAX_MANIFEST_BYTES:
            raise CheckpointError(f"the checkpoint has too many files ({len(manifest.entries)}): pack them into fewer")
        self._create(folder + MANIFEST, data)
        return Reference(uri=folder + MANIFEST, sha256=hashlib.sha256(data).hexdigest(), size_bytes=manifest.size)

    def _create(self, uri: str, data: bytes) -> None:
        self._check()
        create_once(self._storage, uri, data)
