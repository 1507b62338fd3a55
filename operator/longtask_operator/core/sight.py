"""Whether we are deaf: no report can come through, so the silence of workers says nothing of them.

We know it from probes of the channel, sent the way a worker's reports go. One that fails means that we are deaf,
until one comes through again. Reports that keep coming between failed probes say that the trouble is the probe's
own: it is not believed then, until it comes through once.

A probe does not see every way from a node to us. So there is a guess besides: workers that hang do so one by one,
and several that fell silent within one report's time have lost us; so has a leader to which none of several known
reporters ever came. A guess withholds judgement for a while only.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

#: Least silence of all that is looked into.
PATIENCE = timedelta(seconds=30)
#: How much later than its interval a report may be: jitter, a slow answer.
SLACK = timedelta(seconds=10)
#: So long at most the guess keeps everybody from being judged while probes come through.
WITHHELD = timedelta(minutes=10)
_MISSED = 3
#: So often reports must have come between two failed probes until these are not believed.
_CONTRADICTIONS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """What the probes of the report channel found so far; nothing before the first."""

    failed_at: datetime | None = None  #: when the last one began, if it did not come through
    error: str = ""  #: why it did not
    contradictions: int = 0  #: how often, of failed ones in a row, a report came between two

    @property
    def say_deaf(self) -> bool:
        """Whether no report can come through, as far as probes can tell."""
        return self.failed_at is not None and self.contradictions < _CONTRADICTIONS

    def after(self, begun: datetime, error: str, heard: datetime | None) -> Probes:
        """Return the same with one more that began at *begun*; *heard* is when any report came last."""
        if not error:
            return Probes()
        between = self.failed_at is not None and heard is not None and heard > self.failed_at
        return replace(self, failed_at=begun, error=error, contradictions=self.contradictions + between)


def patience(interval_seconds: float) -> timedelta:
    """Return how long nobody may be heard before it is looked into."""
    return max(PATIENCE, timedelta(seconds=_MISSED * interval_seconds))


def is_silence_ours(
    now: datetime,
    since: datetime,
    last_reports: Collection[datetime],
    unheard: int,
    interval_seconds: float,
    *,
    probes: Probes,
) -> bool:
    """Return whether the silence of all is guessed to be ours.

    *since* is when this leader began to listen, *last_reports* when each running attempt was heard last, *unheard*
    how many running attempts reported to an earlier leader and never to this one.
    """
    wait = patience(interval_seconds)
    newest = max(last_reports, default=None)
    quiet = now - max(since, newest or since)
    if quiet <= wait or (probes.failed_at is None and quiet > wait + WITHHELD):
        return False
    if newest is None:
        return unheard > 1
    window = timedelta(seconds=interval_seconds) + SLACK
    return sum(newest - moment <= window for moment in last_reports) > 1
