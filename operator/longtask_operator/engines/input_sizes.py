"""Knows how large the inputs of tasks are: what the spec says, or the object store when it may be asked.

The store is asked in the background and each object once for all tasks. An answer counts for a minute and is
then renewed when it is needed, the old one standing until the new one is there. A store that cannot be asked at
all is left alone for a while. Nothing of this ever fails a task; what is not known is said.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import structlog

from longtask_operator.adapters.object_sizes import SizeUnknown
from longtask_operator.api.data import Input
from longtask_operator.api.longtask import LongTask
from longtask_operator.core.input_hint import InputSize, why_not_asked

#: How long an answer counts without being renewed, and how long where it cannot be renewed.
FRESH, USABLE = timedelta(seconds=60), timedelta(hours=1)
#: How long a store is left alone that could not be asked.
PAUSE = timedelta(seconds=30)
#: Objects and tasks that are remembered, and objects that are being asked for: some MB in all.
MAX_KNOWN, MAX_ASKED = 10_000, 1_000
_OWED = "the store has not answered yet"
log = structlog.get_logger("longtask.sizes")


class Store(Protocol):
    """What can be asked."""

    async def size_of(self, uri: str) -> int:
        """Return the size of an object in bytes. Raises SizeUnknown."""


@dataclass(frozen=True, slots=True)
class _Known:
    size: int | None
    why: str
    since: datetime


class InputSizes:
    """The sizes of inputs in *places*; *wake* is told the keys of tasks whose inputs are known better now."""

    def __init__(
        self, store: Store, places: Sequence[str], now: Callable[[], datetime], wake: Callable[[str], None]
    ) -> None:
        self._store, self._places, self._now, self._wake = store, places, now, wake
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._asking: dict[str, set[str]] = {}  #: by URI: the keys of tasks that want to know
        self._asked: OrderedDict[str, datetime] = OrderedDict()  #: by uid and run: since when one wants to know
        self._running: set[asyncio.Task[None]] = set()
        self._paused: _Known | None = None

    def of(self, task: LongTask, tenant: str) -> tuple[list[InputSize], datetime | None]:
        """Return the sizes of the task's inputs, and since when the store owes an answer, or None."""
        key = f"{task.metadata.namespace}/{task.metadata.name}"
        sizes = [self._size(one, key, tenant) for one in task.spec.inputs or ()]
        unknown, wish = {one.why for one in sizes if one.size is None}, f"{task.metadata.uid} {task.status.run or 1}"
        if not unknown:
            self._asked.pop(wish, None)  # an answer that was forgotten is awaited anew
        if unknown != {_OWED}:
            return sizes, None  # all are known, or one never will be
        asked = self._asked.setdefault(wish, self._now())
        _bound(self._asked)
        return sizes, asked

    def _size(self, one: Input, key: str, tenant: str) -> InputSize:
        if one.size_bytes is not None:
            return InputSize(name=one.name, size=one.size_bytes)
        if why := why_not_asked(one.uri, tenant, self._places):
            return InputSize(name=one.name, size=None, why=why)
        known = self._usable(one.uri)
        if known is None or self._now() >= known.since + FRESH:
            known = self._ask(one.uri, key) or known
        if known is None:
            return InputSize(name=one.name, size=None, why=_OWED)
        return InputSize(name=one.name, size=known.size, why=known.why)

    def _ask(self, uri: str, key: str) -> _Known | None:
        """Have the store asked; return what is to be said instead where it is not, unless something older is known."""
        if uri in self._asking:
            self._asking[uri].add(key)
            return None
        if self._paused and self._now() < self._paused.since + PAUSE:
            return self._usable(uri) or self._paused
        if len(self._asking) >= MAX_ASKED:
            return self._usable(uri) or _Known(None, "too many sizes are being asked for", self._now())
        self._asking[uri] = {key}
        running = asyncio.get_running_loop().create_task(self._answer(uri), name="input size")
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        return None

    async def _answer(self, uri: str) -> None:
        """Ask, and keep the answer."""
        before = self._usable(uri)
        try:
            answer = _Known(await self._store.size_of(uri), "", self._now())
        except SizeUnknown as error:
            answer = _Known(None, str(error), self._now())
            if error.of_store:
                self._pause(answer)
                answer = before or answer
        except Exception:
            log.exception("asking for the size of an input failed unexpectedly")
            answer = before or _Known(None, "the operator failed to ask", self._now())
        self._known[uri] = answer
        self._known.move_to_end(uri)
        _bound(self._known)
        for key in self._asking.pop(uri):
            if before is None or (before.size, before.why) != (answer.size, answer.why):
                self._wake(key)

    def _usable(self, uri: str) -> _Known | None:
        known = self._known.get(uri)
        return known if known and self._now() < known.since + USABLE else None

    def _pause(self, why: _Known) -> None:
        if self._paused is None or why.since >= self._paused.since + PAUSE:
            log.warning("sizes of inputs cannot be asked for; tasks start without them", error=why.why)
        self._paused = why


def _bound(remembered: OrderedDict[str, Any]) -> None:
    while len(remembered) > MAX_KNOWN:
        remembered.popitem(last=False)
