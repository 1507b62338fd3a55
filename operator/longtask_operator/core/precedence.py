"""Of several reasons to wait the one that is shown: the first in the closed list, `QueueReason`, which is in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from longtask_operator.api.reasons import QueueReason

_Rule = TypeVar("_Rule")
_RANKS = {reason: rank for rank, reason in enumerate(QueueReason)}
#: No waiting ends these while things are as they are.
INADMISSIBLE = frozenset(
    {QueueReason.INVALID, QueueReason.KEY_CONFLICT, QueueReason.EXCEEDS_MAX_SIZE, QueueReason.NEVER_FITS}
)
#: In the end of a sentence: others give way to the task, or have done so. That begins and ends while all else stays.
MAKING_ROOM = "way to this one and it starts when the room is free"
ROOM_IS_KEPT = "what becomes free is kept for this one"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBack:
    """Why an attempt cannot start now, in a word and in a sentence."""

    reason: QueueReason
    message: str
    position: int | None = None  #: in the tenant's queue, from 1
    #: The parts of the sentence that do not change with what others use; None: all of it.
    lasting: tuple[str, ...] | None = None

    @property
    def inadmissible(self) -> bool:
        """Whether no waiting helps while things are as they are."""
        return self.reason in INADMISSIBLE

    def was_said(self, reason: str, message: str) -> bool:
        """Whether *message*, said for *reason* before, differs at most in numbers that change with what others use."""
        if reason != self.reason or self.lasting is None:
            return (reason, message) == (self.reason, self.message)
        parts_hold = all(part in message for part in self.lasting)
        return parts_hold and all((end in message) == (end in self.message) for end in (MAKING_ROOM, ROOM_IS_KEPT))


def first_of(first: HeldBack, *others: HeldBack | None) -> HeldBack:
    """Return the one that is shown of several that apply; None stands for one that does not."""
    return min((first, *(other for other in others if other)), key=lambda one: _RANKS[one.reason])


def precedes(one: QueueReason, other: QueueReason) -> bool:
    """Whether *one* is shown where both apply."""
    return _RANKS[one] < _RANKS[other]


def in_order(rules: Mapping[QueueReason, _Rule]) -> tuple[tuple[QueueReason, _Rule], ...]:
    """Return *rules* in the order in which they are asked."""
    return tuple(sorted(rules.items(), key=lambda pair: _RANKS[pair[0]]))
