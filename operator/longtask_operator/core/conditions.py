"""Conditions as in the Kubernetes API conventions: `lastTransitionTime` moves only when the status flips."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from longtask_operator.api.reasons import ConditionType
from longtask_operator.api.status import Condition, LongTaskStatus
from longtask_operator.api.times import format_time

TRUE: Literal["True"] = "True"
FALSE: Literal["False"] = "False"
UNKNOWN: Literal["Unknown"] = "Unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A condition as it should stand."""

    type: ConditionType
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""


def with_conditions(
    before: Sequence[Condition], wanted: Iterable[Wanted], *, generation: int, now: datetime
) -> list[Condition]:
    """Return *wanted* and nothing else as conditions; a status that stays keeps its transition time."""
    previous = {condition.type: condition for condition in before}
    return [_next(previous.get(want.type), want, generation, now) for want in wanted]


def find_condition(status: LongTaskStatus, kind: ConditionType) -> Condition | None:
    """Return the condition of *kind*, or None."""
    return next((condition for condition in status.conditions or () if condition.type == kind), None)


def is_true(status: LongTaskStatus, kind: ConditionType) -> bool:
    """Return whether the condition of *kind* is there and True."""
    condition = find_condition(status, kind)
    return condition is not None and condition.status == TRUE


def _next(before: Condition | None, want: Wanted, generation: int, now: datetime) -> Condition:
    message, flipped = want.message[:1024], before is None or before.status != want.status
    said = (before.status, before.reason, before.message, before.observed_generation) if before else ()
    if before and said == (want.status, want.reason, message, generation):
        return before  # most looks at a task change none, and making a model costs more than the comparison
    return Condition.model_construct(
        type=str(want.type),
        status=want.status,
        reason=str(want.reason),
        message=message,
        observed_generation=generation,
        last_transition_time=format_time(now) if before is None or flipped else before.last_transition_time,
    )
