"""What the installation says about every task."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from longtask_operator.api.identity import CreatedBy
from longtask_operator.core.live_growth import LiveGrowth
from longtask_operator.core.sizing import Ladder
from longtask_operator.core.start_limits import StartLimits
from longtask_operator.core.stop_waits import StopWaits


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the installation says about every task."""

    ladder: Ladder
    start_limits: StartLimits = field(default_factory=StartLimits)
    stop_waits: StopWaits = field(default_factory=StopWaits)
    kueue: bool = False  #: whether tasks may be handed to Kueue
    created_by: CreatedBy = "Mutate"  #: how the API server keeps the names of persons true
    input_wait: timedelta = timedelta(seconds=5)  #: how long a task may wait for the sizes of its inputs
    live_growth: LiveGrowth = field(default_factory=LiveGrowth)
