"""What was last read of each object of a kind, newest version wins.

The store repairs itself: `replace` takes a full list and removes what the list does not
hold, which no sequence of watch events can promise. Our own writes go in as well, so
that a decision never starts from a view older than what we wrote.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar


class Versioned(Protocol):
    """What a store needs of a view."""

    @property
    def namespace(self) -> str: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def uid(self) -> str: ...  # noqa: D102
    @property
    def version(self) -> int: ...  # noqa: D102


V = TypeVar("V", bound=Versioned)
#: Above every resourceVersion.
FOR_EVER = sys.maxsize
#: Called with the view before and after a change; None where there is none.
Listener = Callable[[V | None, V | None], None]


def forget_older(remembered: dict[str, Any], most: int) -> None:
    """Drop the older half of what is remembered once it is more than *most*."""
    if len(remembered) > most:
        for key in list(remembered)[: most // 2]:
            del remembered[key]


class Store(Generic[V]):
    """Views by namespace and name, and where asked for by group: a key of the caller's choice, such as the owner."""

    def __init__(self, group_of: Callable[[V], str] | None = None) -> None:
        self._views: dict[tuple[str, str], V] = {}
        self._groups: dict[str, tuple[V, ...]] = {}  #: one or two views each: a tuple is a fifth of a dict
        self._group_of = group_of
        self._removed: dict[str, int] = {}  #: uid -> version: a late event or an older list must not bring it back
        self.listeners: list[Listener[V]] = []

    def __len__(self) -> int:
        return len(self._views)

    def __iter__(self) -> Iterator[V]:
        return iter(list(self._views.values()))

    def get(self, namespace: str, name: str) -> V | None:
        """Return the view of that name, or None."""
        return self._views.get((namespace, name))

    def group(self, key: str) -> tuple[V, ...]:
        """Return the views of one group."""
        return self._groups.get(key, ())

    def groups(self) -> Iterable[str]:
        """Return the keys of all groups that hold something."""
        return list(self._groups)

    def put(self, view: V) -> bool:
        """Take *view* in unless a newer one is there; return whether it was taken."""
        key = (view.namespace, view.name)
        before = self._views.get(key)
        if before and before.version >= view.version:
            return False
        if view.version <= self._removed.get(view.uid, -1):
            return False
        self._forget_group(before)
        self._views[key] = view
        if self._group_of:
            group = self._group_of(view)
            self._groups[group] = (*self._groups.get(group, ()), view)
        self._tell(before, view)
        return True

    def holds(self, namespace: str, name: str, uid: str, version: int) -> bool:
        """Tell whether the object stands here at this version or a newer one: reading it again adds nothing."""
        view = self._views.get((namespace, name))
        return view is not None and view.uid == uid and view.version >= version

    def remove(self, namespace: str, name: str, uid: str, version: int = FOR_EVER) -> None:
        """Drop the object of that *uid*; another one of the same name stays.

        *version* is the resourceVersion of the removal. One that only left the selection of a watch may
        come back above it; without a version the object is known to be gone.
        """
        key = (namespace, name)
        before = self._views.get(key)
        self._remember_removed(uid, version)
        if before and before.uid == uid:
            del self._views[key]
            self._forget_group(before)
            self._tell(before, None)

    def replace(self, views: Iterable[V], list_version: int) -> None:
        """Take in a full list read at *list_version*; what it lacks and is not newer than the list is dropped."""
        listed = set()
        for view in views:
            listed.add((view.namespace, view.name))
            self.put(view)
        self.retain(listed, list_version)

    def retain(self, listed: Collection[tuple[str, str]], list_version: int) -> None:
        """Drop what is not among *listed*, namespaces and names of a full list, and not newer than that list."""
        gone = [view for key, view in self._views.items() if key not in listed and view.version <= list_version]
        for view in gone:
            self.remove(view.namespace, view.name, view.uid, list_version)

    def _forget_group(self, before: V | None) -> None:
        if before is None or self._group_of is None:
            return
        group = self._group_of(before)
        if left := tuple(view for view in self._groups[group] if view is not before):
            self._groups[group] = left
        else:
            del self._groups[group]

    def _remember_removed(self, uid: str, version: int) -> None:
        self._removed[uid] = version
        forget_older(self._removed, 10_000)

    def _tell(self, before: V | None, after: V | None) -> None:
        for listener in self.listeners:
            listener(before, after)
