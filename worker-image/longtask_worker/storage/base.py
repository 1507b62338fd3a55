"""What every storage can do. All errors are StorageError; the kinds of it tell what happened."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from longtask_worker.errors import AlreadyExistsError


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """What is known of an object without reading it."""

    size: int
    #: Differs as soon as the content does: an ETag, or time and size of a file.
    version: str


class Storage(Protocol):
    """Objects by URI. URIs of another scheme are a mistake of the caller."""

    def create(self, uri: str, data: bytes) -> None:
        """Store *data* whole and durably under a new name; AlreadyExistsError if the name is taken."""

    def stat(self, uri: str) -> Stat:
        """Return size and version; NotFoundError if there is no such object."""

    def read(self, uri: str, limit: int) -> bytes:
        """Return the object's content, at most its first *limit* bytes; NotFoundError if there is no such object."""

    def open(self, uri: str, *, version: str | None = None) -> io.RawIOBase:
        """Return a seekable reader, from the start; ChangedError if the object is not of *version* (any, if None)."""

    def list_below(self, prefix: str) -> Iterator[str]:
        """Yield the URI of every object below *prefix*, which ends with a slash."""

    def delete(self, uris: Iterable[str]) -> None:
        """Delete the objects; those that are gone already are no error."""


def create_once(storage: Storage, uri: str, data: bytes) -> None:
    """Store *data* under a new name; AlreadyExistsError only if something else stands there.

    The same content is no conflict: a request whose answer was lost has done its work.
    """
    try:
        storage.create(uri, data)
    except AlreadyExistsError:
        if storage.read(uri, len(data) + 1) != data:
            raise
