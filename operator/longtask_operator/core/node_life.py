"""Whether a node lives, by the Lease that its kubelet renews every 10 s: asked before a worker's silence is its own.

The cluster calls a node lost after 40 s or more. A worker on it falls silent at once, and silence may end it sooner
than that; but then it is the node's case, not the worker's (`core/node_loss.py`). Only times of one clock are
compared: renewals by the node's, what we read by ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

#: Renewals further apart than this left a gap: the node was away.
AWAY = timedelta(seconds=15)
#: Reads further apart than this, of ours, may have missed renewals between.
_READ_IN_A_ROW = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLife:
    """What was read of a node's Lease."""

    renewed: datetime  #: as the node's clock has it
    read_at: datetime
    alive_after: datetime | None = None  #: it was renewed once more after that
    back_at: datetime | None = None  #: it was away, and this is when we saw it come back

    def after(self, renewed: datetime, now: datetime) -> NodeLife:
        """Return the same with what was read at *now*."""
        if renewed == self.renewed:
            return replace(self, read_at=now)
        was_away = renewed - self.renewed > AWAY and now - self.read_at <= _READ_IN_A_ROW
        return NodeLife(
            renewed=renewed, read_at=now, alive_after=self.read_at, back_at=now if was_away else self.back_at
        )

    def lived_through(self, moment: datetime) -> bool:
        """Return whether the node is known to live after *moment*, and was not away around it."""
        is_back = self.back_at is not None and self.back_at >= moment
        return not is_back and self.alive_after is not None and self.alive_after >= moment
