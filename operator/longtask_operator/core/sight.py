"""Whether we are deaf: reports stopped coming from everybody at once, so it is the channel and not the workers.

Workers that hang do so one by one. Several that fall silent within one report's time have lost us. The same
holds for a leader to which none of several known reporters ever came. Of a single reporter nobody can tell.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

#: Least silence of all that is looked into.
PATIENCE = timedelta(seconds=30)
#: How much later than its interval a report may be: jitter, a slow answer.
SLACK = timedelta(seconds=10)
_MISSED = 3


def patience(interval_seconds: float) -> timedelta:
    """Return how long nobody may be heard before it is looked into."""
    return max(PATIENCE, timedelta(seconds=_MISSED * interval_seconds))


def is_deaf(
    now: datetime, since: datetime, last_reports: Collection[datetime], unheard: int, interval_seconds: float
) -> bool:
    """Return whether the silence of all is ours.

    *since* is when this leader began to listen, *last_reports* when each running attempt was heard last, *unheard*
    how many running attempts reported to an earlier leader and never to this one.
    """
    wait = patience(interval_seconds)
    if now - since < wait:
        return False
    if not last_reports:
        return unheard > 1
    newest = max(last_reports)
    if now - newest <= wait:
        return False
    window = timedelta(seconds=interval_seconds) + SLACK
    return sum(newest - moment <= window for moment in last_reports) > 1
