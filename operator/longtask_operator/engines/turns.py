"""Keys in the order in which they came within a namespace, and namespaces in turn.

Ten thousand keys of one tenant delay a key of another by one key, not by ten thousand.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator


class Turns:
    """Keys `namespace/name`; the same key may be put in once more after it was taken."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[str]] = {}
        self._order: deque[str] = deque()  #: namespaces that have a line
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        """Yield all keys, by namespace."""
        for namespace in self._order:
            yield from self._lines[namespace]

    def put(self, key: str) -> None:
        """Put *key* at the end of its namespace's line."""
        namespace = key.partition("/")[0]
        line = self._lines.get(namespace)
        if line is None:
            line = self._lines[namespace] = deque()
            self._order.append(namespace)
        line.append(key)
        self._count += 1

    def take(self) -> str:
        """Return the next key. Raises IndexError if there is none."""
        namespace = self._order.popleft()
        line = self._lines[namespace]
        key = line.popleft()
        self._count -= 1
        if line:
            self._order.append(namespace)
        else:
            del self._lines[namespace]
        return key
