"""A storage in memory, for tests that cut: every request can be made to fail before or after it did its work."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator

from longtask_worker.errors import AlreadyExistsError, ChangedError, NotFoundError
from longtask_worker.storage import Stat


class MemoryStorage:
    """Keeps objects in `objects`; `watch(when, verb, uri)` is called `before` and `after` each change and may raise."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.watch: Callable[[str, str, str], None] = lambda _when, _verb, _uri: None
        self.reads: list[str] = []

    def create(self, uri: str, data: bytes) -> None:
        self.watch("before", "create", uri)
        if uri in self.objects:
            raise AlreadyExistsError(uri)
        self.objects[uri] = bytes(data)
        self.watch("after", "create", uri)

    def stat(self, uri: str) -> Stat:
        data = self._find(uri)
        return Stat(size=len(data), version=str(hash(data)))

    def read(self, uri: str, limit: int) -> bytes:
        self.reads.append(uri)
        return self._find(uri)[:limit]

    def open(self, uri: str, *, version: str | None = None) -> io.RawIOBase:
        data = self._find(uri)
        if version not in (None, str(hash(data))):
            raise ChangedError(uri)
        return io.BytesIO(data)  # type: ignore[return-value]

    def list_below(self, prefix: str) -> Iterator[str]:
        yield from sorted(uri for uri in self.objects if uri.startswith(prefix))

    def delete(self, uris: Iterable[str]) -> None:
        for uri in uris:
            self.watch("before", "delete", uri)
            self.objects.pop(uri, None)
            self.watch("after", "delete", uri)

    def _find(self, uri: str) -> bytes:
        if uri not in self.objects:
            raise NotFoundError(uri)
        return self.objects[uri]
