"""How far the work is: the latest word wins, and whoever wants to know samples it.

The work only stores; the reporter and the terminal read at their own pace. So an
item costs the work one attribute, and no clock is read per item.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass, replace
from typing import TypeVar

T = TypeVar("T")

MAX_COUNT = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Progress at one instant. `done` None: nothing was said yet."""

    done: int | None = None
    total: int | None = None
    unit: str | None = None
    stage: str | None = None
    message: str | None = None


class Progress:
    """The progress of one task, written by the work and sampled by others."""

    def __init__(self) -> None:
        # One attribute, so that whoever samples sees words and counter of the same moment.
        self._now: tuple[Snapshot, _Counter | None] = (Snapshot(), None)

    def snapshot(self) -> Snapshot:
        """Return the progress as of now."""
        said, counter = self._now
        return said if counter is None else replace(said, done=counter.done)

    def say(
        self, done: object, total: object = None, *, unit: str | None, stage: str | None, message: str | None
    ) -> None:
        """Replace the progress; an absent total, unit or stage keeps what was said before, a message does not."""
        before = self._now[0]
        said = Snapshot(
            done=as_count(done),
            total=before.total if total is None else as_count(total),
            unit=unit or before.unit,
            stage=stage or before.stage,
            message=message,
        )
        self._now = (said, None)

    def track(
        self,
        items: Iterable[T],
        *,
        total: int | None = None,
        unit: str | None = None,
        stage: str | None = None,
        start: int = 0,
    ) -> Iterator[T]:
        """Yield *items*, counting each as done when the next one is asked for; *start* were done before."""
        if total is None and isinstance(items, Sized):
            total = start + len(items)
        counter = _Counter(start)
        before = self._now[0]
        self._now = (Snapshot(total=as_count(total), unit=unit or before.unit, stage=stage or before.stage), counter)
        # The loop's target is the counter itself: cheaper than a statement of its own.
        for counter.begun, item in enumerate(items, start + 1):
            yield item
        counter.open = 0


class _Counter:
    """Items of one `track` loop; the last one begun is not done while the loop is open."""

    __slots__ = ("begun", "open", "start")

    def __init__(self, start: int) -> None:
        self.begun = start
        self.start = start
        self.open = 1

    @property
    def done(self) -> int:
        return max(self.begun - self.open, self.start)


def as_count(value: object) -> int | None:
    """Return *value* as a count, or None when it is none: a report must never fail the work."""
    try:
        count: int = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(count, 0), MAX_COUNT)
