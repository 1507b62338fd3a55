"""What the installation says about every task."""

from __future__ import annotations

from dataclasses import dataclass, field

from longtask_operator.core.sizing import Ladder
from longtask_operator.core.start_limits import StartLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the installation says about every task."""

    ladder: Ladder
    start_limits: StartLimits = field(default_factory=StartLimits)
