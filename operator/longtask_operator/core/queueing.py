"""The queue of one tenant: who waits, in which order, and who is the first that fits.

Order is by priority, then by the age of the run; waiting ages: each AGING_SECONDS of it count like
one step of priority, so that nothing waits for ever behind newcomers. Those who ask for the same stand in
one line, and there are few different sizes; so finding the first that fits costs O(sizes + log n), however
many wait (Kueue's BestEffortFIFO with its heads found by size). Only where each person has a limit does everyone
stand in lines of their own.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple, Protocol

from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.sizing import Size

#: Waiting so long counts like one step of priority.
AGING_SECONDS = 3600

Place = tuple[float, str]


class Line(NamedTuple):
    """What the members of a line have in common."""

    size: Size  #: of the task container
    held: Size  #: what one of them will hold of the quota
    user: str  #: empty where nobody asks for whom they count
    handed_over: bool = False  #: whether Kueue admits them

    @classmethod
    def of(cls, candidate: Candidate) -> Line:
        """Return the line that *candidate* stands in."""
        entry = candidate.entry
        return cls(entry.size, entry.held, candidate.user, entry.handed_over)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An attempt that waits for admission, reduced to what the decision needs."""

    key: str  #: namespace/name
    tenant: str
    priority: int
    queued_at: datetime  #: start of the run: waits and backoffs keep their place
    entry: LedgerEntry  #: what the ledger will hold for it
    user: str = ""  #: who created the task, if a person did

    def admitted_anew(self, before: LedgerEntry) -> Candidate | None:
        """Return the candidate as it is admitted where the ledger has *before* of it; None if it waits for its turn.

        That stands where it is of the same attempt and spec: its Job may be under way, and only what is suggested
        for the task has changed while the ledger was written. Who wants more than it holds waits like anybody. So does
        who wants another attempt: what stands may have been put back by an operator that had not heard of its end.
        """
        if self.entry.attempt != before.attempt:
            return None
        if (self.entry.generation, self.entry.handed_over) == (before.generation, before.handed_over):
            return replace(self, entry=before)
        return None if self.entry.outgrows(before) else self


_Entry = tuple[Place, int, Candidate]
#: Entries of a line that may be out of date before it is cleared out.
_SPARE = 64


class Ranked(Protocol):
    """What has a place in a queue, or had one."""

    @property
    def key(self) -> str: ...  # noqa: D102
    @property
    def priority(self) -> int: ...  # noqa: D102
    @property
    def queued_at(self) -> datetime: ...  # noqa: D102


def place_of(candidate: Ranked, max_priority: int | None = None) -> Place:
    """Return the place of *candidate* in its tenant's queue."""
    priority = candidate.priority if max_priority is None else min(candidate.priority, max_priority)
    return place(candidate.queued_at, priority, candidate.key)


def place(queued_at: datetime, priority: int, key: str) -> Place:
    """Return a place in the queue, lower first: priority and age in one number, then the name.

    The difference of two such numbers does not change with time, so a queue stays sorted as it ages.
    """
    return (queued_at.timestamp() - priority * AGING_SECONDS, key)


def moved_noticeably(before: int | None, now: int) -> bool:
    """Whether a place in the queue has changed so much that people should see it: by a fifth, or to the very front."""
    if before is None or before == now:
        return before != now
    return abs(now - before) * 5 >= before


class TenantQueue:
    """The candidates of one tenant. Changes cost O(log n)."""

    def __init__(self, max_priority: int | None = None) -> None:
        self._max_priority, self._by_person = max_priority, True
        self._waiting: dict[str, Candidate] = {}
        self._lines: dict[Line, list[_Entry]] = {}
        self._count = 0  #: of all puts: entries of a heap are never equal
        self._last: Place | None = None  #: of all that were put in since the queue was empty

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Candidate]:
        return iter(list(self._waiting.values()))

    def __contains__(self, uid: str) -> bool:
        return uid in self._waiting

    def uids(self) -> list[str]:
        """Return the tasks that wait."""
        return list(self._waiting)

    def get(self, uid: str) -> Candidate | None:
        """Return the candidate of a task, or None."""
        return self._waiting.get(uid)

    def put(self, candidate: Candidate) -> bool:
        """Let *candidate* wait; it replaces another of the same task. Return whether it surely is the last."""
        uid, its = candidate.entry.uid, place_of(candidate, self._max_priority)
        self._last = max(self._last, its) if self._last and self._waiting else its
        self._waiting[uid] = candidate
        line = self._lines.setdefault(self._line_of(candidate), [])
        self._count += 1
        heapq.heappush(line, (its, self._count, candidate))
        if len(line) > 2 * len(self._waiting) + _SPARE:
            self._clear_out(line)
        return its == self._last

    def remove(self, uid: str) -> None:
        """Forget the candidate of a task."""
        self._waiting.pop(uid, None)

    def set_max_priority(self, max_priority: int | None) -> None:
        """Order anew if the cap on priorities changed."""
        if max_priority != self._max_priority:
            self._max_priority = max_priority
            self._order_anew()

    def tell_persons_apart(self, wanted: bool) -> None:
        """Let each person have lines of its own, or none: a thousand persons are a thousand heads to look at."""
        if wanted != self._by_person:
            self._by_person = wanted
            self._order_anew()

    def first(self, fits: Callable[[Line], bool] = lambda line: True) -> Candidate | None:
        """Return the first in order of the lines that *fits* accepts, or None; it is asked of no more than it takes."""
        heads = self._heads()
        heapq.heapify(heads)
        while heads:
            head, line = heapq.heappop(heads)
            if fits(line):
                return head[2]
        return None

    def first_few(self, number: int, fits: Callable[[Line], bool] = lambda line: True) -> list[Candidate]:
        """Return the first in order of the lines that *fits* accepts, *number* at most; O(lines + number)."""
        coming = [(head, self._lines[line], 0) for head, line in self._heads() if fits(line)]
        heapq.heapify(coming)
        found: dict[str, Candidate] = {}  # whoever was taken out and put back may stand in its line twice
        while coming and len(found) < number:
            (_, _, candidate), entries, index = heapq.heappop(coming)
            for below in range(2 * index + 1, min(2 * index + 3, len(entries))):  # a line is a heap
                heapq.heappush(coming, (entries[below], entries, below))
            if self._waiting.get(candidate.entry.uid) is candidate:
                found[candidate.entry.uid] = candidate
        return list(found.values())

    def oldest(self) -> datetime | None:
        """Return when the oldest run of those began that wait; O(n)."""
        return min((candidate.queued_at for candidate in self._waiting.values()), default=None)

    def positions(self) -> dict[str, int]:
        """Return each task's place in the queue, from 1; O(n log n)."""
        ordered = sorted(self._waiting.values(), key=lambda candidate: place_of(candidate, self._max_priority))
        return {candidate.entry.uid: number for number, candidate in enumerate(ordered, start=1)}

    def _line_of(self, candidate: Candidate) -> Line:
        line = Line.of(candidate)
        return line if self._by_person or not line.user else line._replace(user="")

    def _order_anew(self) -> None:
        self._lines.clear()
        self._last = None
        for candidate in list(self._waiting.values()):
            self.put(candidate)

    def _clear_out(self, line: list[_Entry]) -> None:
        """Drop those that left or changed: behind a head that waits long nobody else does."""
        line[:] = [entry for entry in line if self._waiting.get(entry[2].entry.uid) is entry[2]]
        heapq.heapify(line)

    def _heads(self) -> list[tuple[_Entry, Line]]:
        return [(head, line) for line in list(self._lines) if (head := self._head(line))]

    def _head(self, line: Line) -> _Entry | None:
        """Return the head of *line*, dropping those that left the queue or changed."""
        heap = self._lines[line]
        while heap and self._waiting.get(heap[0][2].entry.uid) is not heap[0][2]:
            heapq.heappop(heap)
        if not heap:
            del self._lines[line]
            return None
        return heap[0]
