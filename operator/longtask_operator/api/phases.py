"""Phases of a LongTask, as shown in `status.phase`.

A phase is a summary for people and `kubectl get`. It is computed from conditions
on every reconcile and is never read back to decide anything.
"""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """One word for what a LongTask is doing now."""

    PENDING = "Pending"  #: seen, nothing decided yet
    QUEUED = "Queued"  #: waits for admission
    STARTING = "Starting"  #: admitted, its pod does not run yet
    RUNNING = "Running"  #: the task container of the current attempt runs
    BACKOFF = "Backoff"  #: the last attempt failed, the next one has a time
    SUSPENDED = "Suspended"  #: spec.suspend is true
    CANCELLING = "Cancelling"  #: cancel was seen, the attempt is being stopped
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


TERMINAL = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED})
