"""How often one pod may ask: a worker that ignores its interval costs the others nothing."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

BURST = 10.0
#: Who saves every second, the shortest interval, names each checkpoint at once and may report in between.
PER_SECOND = 2.0
_MAX_PODS = 20_000


class ReportRates:
    """A token bucket for each pod: ten requests at once, then two a second. *clock* is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  #: left, as of

    def allow(self, pod_uid: str) -> bool:
        """Return whether the pod may ask now, and count it if so."""
        now = self._clock()
        left, since = self._buckets.get(pod_uid, (BURST, now))
        left = min(BURST, left + (now - since) * PER_SECOND)
        allowed = left >= 1
        self._buckets[pod_uid] = (left - 1 if allowed else left, now)
        self._buckets.move_to_end(pod_uid)
        while len(self._buckets) > _MAX_PODS:
            self._buckets.popitem(last=False)
        return allowed
