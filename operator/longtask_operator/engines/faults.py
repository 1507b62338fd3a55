"""Says what is wrong once, however many tasks it holds up: a line per kind of fault, with a count, never a flood."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from longtask_operator.adapters.errors import ApiError, NoPermission, Unavailable

_QUIET_SECONDS = 10.0
log = structlog.get_logger("longtask.faults")


@dataclass(slots=True)
class _Said:
    at: float
    since_then: int = 0


class FaultLog:
    """Logs faults of the API server by kind."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: dict[str, _Said] = {}

    def report(self, key: str, error: ApiError, retry_in: float) -> None:
        """Log that the task *key* failed by *error*, unless the same was said within 10 s."""
        sentence, now = advice_for_write(error), self._clock()
        said = self._said.get(sentence)
        if said and now - said.at < _QUIET_SECONDS:
            said.since_then += 1
            return
        more = said.since_then if said else 0
        self._said[sentence] = _Said(at=now)
        log.warning(sentence, key=key, error=str(error), retry_in_seconds=round(retry_in, 2), more_since_last=more)


def advice_for_write(error: ApiError) -> str:
    """Return in a sentence what is wrong and what to do about it."""
    if isinstance(error, NoPermission):
        return "no permission to write; restore the operator's ClusterRole and Role and their bindings"
    if isinstance(error, Unavailable):
        return "the API server does not take our writes; waiting for it"
    return "the API server refused a write; trying again"
