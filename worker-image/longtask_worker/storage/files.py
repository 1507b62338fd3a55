"""Files as objects: whole and on disk before their name appears, which is never taken twice.

A file is written beside its place, synced, and linked to its name. A temporary file that a
killed process leaves behind begins with a dot and is listed like any other.
"""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from longtask_worker.errors import AlreadyExistsError, ChangedError, NotFoundError, StorageError
from longtask_worker.storage.base import Stat


def path_of(uri: str) -> Path:
    """Return the path that a file:// URI names; StorageError for a URI of another host."""
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not parts.path:
        raise StorageError(f"not a file:// URI of this machine: {uri!r}")
    return Path(unquote(parts.path))


class FileStorage:
    """Objects in folders of a file system: a mounted claim, or this machine."""

    def create(self, uri: str, data: bytes) -> None:
        """Store *data* durably under a new name; AlreadyExistsError if the name is taken."""
        path = path_of(uri)
        with _as_storage_errors(uri):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
            try:
                _write_durably(temporary, data)
                _publish(temporary, path)
            finally:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)
            _sync_folder(path.parent)

    def stat(self, uri: str) -> Stat:
        """Return size and version; NotFoundError if there is no such file."""
        with _as_storage_errors(uri):
            return _stat_of(path_of(uri).stat())

    def read(self, uri: str, limit: int) -> bytes:
        """Return the file's content, at most its first *limit* bytes; NotFoundError if there is no such file."""
        with _as_storage_errors(uri), path_of(uri).open("rb") as file:
            return file.read(limit)

    def open(self, uri: str, *, version: str | None = None) -> io.RawIOBase:
        """Return a seekable reader of the file; ChangedError if it is not of *version*."""
        with _as_storage_errors(uri):
            reader = path_of(uri).open("rb", buffering=0)
        if version is not None and _stat_of(os.fstat(reader.fileno())).version != version:
            reader.close()
            raise ChangedError(f"{uri} has changed")
        return reader

    def list_below(self, prefix: str) -> Iterator[str]:
        """Yield the URI of every file below the folder *prefix*."""
        for folder, _, names in os.walk(path_of(prefix)):
            for name in names:
                yield Path(folder, name).as_uri()

    def delete(self, uris: Iterable[str]) -> None:
        """Delete the files, and the two folders above each that this leaves empty."""
        folders: dict[Path, None] = {}
        for uri in uris:
            path = path_of(uri)
            with _as_storage_errors(uri):
                path.unlink(missing_ok=True)
            folders[path.parent] = None
        for folder in [*folders, *dict.fromkeys(folder.parent for folder in folders)]:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def _as_storage_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"there is no {uri}") from None
    except FileExistsError:
        raise AlreadyExistsError(f"{uri} exists already") from None
    except OSError as error:
        raise StorageError(f"{uri}: {error}") from error


def _stat_of(stat: os.stat_result) -> Stat:
    return Stat(size=stat.st_size, version=f"{stat.st_mtime_ns:x}-{stat.st_size:x}")


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _publish(temporary: Path, path: Path) -> None:
    """Give the finished file its name; FileExistsError if that is taken."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: not atomic against a second writer, which numbers rule out
        if path.exists():
            raise FileExistsError(path) from None
        temporary.rename(path)


def _sync_folder(folder: Path) -> None:
    """Make a new name survive a crash of the machine, where the file system lets us."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
