"""How long the last attempts of each tenant took of its quota: from admission until their end is known.

In memory: after a restart read off the tasks that are there, which do not say more than how long they ran.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from datetime import datetime

from longtask_operator.adapters.tasks import TaskRecord
from longtask_operator.api.errors import SpecError
from longtask_operator.api.phases import TERMINAL
from longtask_operator.api.status import Attempt
from longtask_operator.api.times import parse_time
from longtask_operator.core.estimate import MOST_SAMPLES, Pace, pace_of
from longtask_operator.engines.ledgers import Ledgers

#: Finished tasks that are looked at on taking the lead, at most: some 50 us each.
_MOST_READ = 2_000


class Paces:
    """Durations by tenant."""

    def __init__(self, ledgers: Ledgers, now: Callable[[], datetime]) -> None:
        self._ledgers, self._now = ledgers, now
        self._seconds: dict[str, deque[float]] = {}

    def attempt_ended(self, tenant: str | None, attempt: Attempt, since: datetime | None = None) -> None:
        """Take note of an attempt that has just ended and held quota *since*, if that is known, or ended some day.

        One that never ran says nothing.
        """
        if not (tenant and attempt.start_time and attempt.completion_time):
            return
        began, ended = parse_time(attempt.start_time), parse_time(attempt.completion_time)
        seconds = ((self._now() - since) if since else (ended - began)).total_seconds()
        self._seconds.setdefault(tenant, deque(maxlen=MOST_SAMPLES)).append(max(0.0, seconds))

    def tenants(self) -> list[str]:
        """Return the tenants of which something is known."""
        return list(self._seconds)

    def forget(self, tenant: str) -> None:
        """Forget how long the attempts of *tenant* took."""
        self._seconds.pop(tenant, None)

    def read(self, records: Iterable[TaskRecord]) -> None:
        """Take note of the last attempts of the tasks of each tenant that have finished last."""
        for record in reversed(_newest_of_each(record for record in records if record.phase in TERMINAL)):
            try:
                attempts = record.parse().status.attempts
            except SpecError:
                continue
            if attempts:
                self.attempt_ended(record.tenant, attempts[-1])

    def of(self, tenant: str, most: int | None = None) -> Pace | None:
        """Return the pace of *tenant* now, or None while too little is known.

        *most* is how many attempts it may have at once: more may live since before that was lowered. Those that Kueue
        admitted take nobody's place.
        """
        live = self._ledgers.usage(tenant).concurrency
        return pace_of(self._seconds.get(tenant, ()), live if most is None else min(live, most))


def _newest_of_each(records: Iterable[TaskRecord]) -> list[TaskRecord]:
    """Return as many of each tenant's *records* as an estimate looks back on, those that were written last first."""
    found, count = list[TaskRecord](), Counter[str]()
    for record in sorted(records, key=lambda record: record.version, reverse=True):
        if len(found) == _MOST_READ:
            break
        if count[record.tenant] < MOST_SAMPLES:
            count[record.tenant] += 1
            found.append(record)
    return found
