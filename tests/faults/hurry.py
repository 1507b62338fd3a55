"""Waits of a minute, shortened in the operators of the sweep: thousands of trials cannot wait for each.

Only how long something is waited for is changed, never whether. Settings are set through the environment instead.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from longtask_operator import app
from longtask_operator.adapters.object_sizes import S3Sizes
from longtask_operator.core import liveness, node_loss, observe, start_limits, warnings
from longtask_operator.core.live_growth import LiveGrowth
from longtask_operator.engines import leader, node_leases, quota_status, wiring

#: Longer than anything that the control plane of a busy machine needs.
SHORT = timedelta(seconds=2)


def hurry() -> None:
    """Shorten the waits of this process."""
    start_limits.SETTLING = SHORT
    observe._ABANDON_AFTER = SHORT
    node_loss.OVERDUE = SHORT * 5
    liveness.MISSING_REPORTS, liveness.COMES_BACK = 0, SHORT
    # Not for silence: workers of other stories say nothing for longer than that, or not, as it comes.
    warnings.STILL_AT_LEAST = warnings.FIRST_STEP = SHORT
    node_leases.REST_SECONDS = 0.2  # the node of the sweep renews its Lease every second
    app.LiveGrowth = partial(LiveGrowth, defer_limit=SHORT)  # type: ignore[assignment,attr-defined]
    quota_status.INTERVAL_SECONDS = 0.3
    wiring.TOGETHER_SECONDS = 0.02  # containers of the sweep end 0.05 s after their start, and both are to be shown
    # A store of the sweep is silent for as long as its scenario says, which no clock knows.
    leader.S3Sizes = partial(S3Sizes, seconds=60)  # type: ignore[assignment,attr-defined]
