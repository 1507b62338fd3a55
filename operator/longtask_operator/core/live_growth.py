"""When a running attempt is near its memory, and what is remembered of an attempt to resize its pod."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from longtask_operator.api.longtask import Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveGrowth:
    """How running attempts grow in place (ADR 24)."""

    threshold_percent: int = 80  #: of its memory in use; 0: running attempts do not grow
    defer_limit: timedelta = timedelta(seconds=60)  #: how long a node may leave a resize undone
    try_again: timedelta = timedelta(seconds=10)  #: after one for which the quota had no room

    def alarm(self, memory: int) -> int | None:
        """Return the bytes in use from which an attempt with so much *memory* is near its end, None if never."""
        return memory * self.threshold_percent // 100 if self.threshold_percent else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeTrouble:
    """Why a pod was not resized when that was tried last."""

    message: str  #: a sentence that begins with the outcome in a word
    at: datetime
    for_good: bool  #: the cluster refused it; asking again would bring the same answer


def grows_live(resources: Resources | None) -> bool:
    """Return whether a task wants its running attempts to grow."""
    return resources is None or resources.growth in (None, "Live")
