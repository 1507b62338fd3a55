"""Every word that users can search for: condition types, reasons, causes, Event reasons.

The lists are closed for us and open for clients: a client accepts words it does not know.
"""

from __future__ import annotations

from enum import StrEnum


class ConditionType(StrEnum):
    """Types of `status.conditions`. The last block is present only while True, the others from the first visit."""

    ADMITTED = "Admitted"
    SUCCEEDED = "Succeeded"
    FINISHED = "Finished"
    READY = "Ready"

    STALLED = "Stalled"
    DEAD_LETTERED = "DeadLettered"
    DEADLINE_AT_RISK = "DeadlineAtRisk"
    STUCK = "Stuck"


class QuotaConditionType(StrEnum):
    """Types of `status.conditions` of a TenantQuota. The last is present only while True."""

    READY = "Ready"
    PER_USER_NOT_ENFORCED = "PerUserNotEnforced"


class QueueReason(StrEnum):
    """Why a task is not admitted, in order of precedence."""

    SUSPENDED = "Suspended"
    INVALID = "Invalid"
    KEY_CONFLICT = "KeyConflict"
    EXCEEDS_MAX_SIZE = "ExceedsMaxSize"
    NEVER_FITS = "NeverFits"
    TENANT_STOPPED = "TenantStopped"
    QUEUE_FULL = "QueueFull"
    BUDGET_EXHAUSTED = "BudgetExhausted"
    DUPLICATE = "Duplicate"
    BACKOFF = "Backoff"
    USER_LIMIT = "UserLimit"
    QUOTA_EXHAUSTED = "QuotaExhausted"
    COHORT_EXHAUSTED = "CohortExhausted"
    RESERVED = "Reserved"
    BEHIND_OTHERS = "BehindOthers"
    REFUSED_BY_CLUSTER = "RefusedByCluster"
    RELEASING_PREVIOUS = "ReleasingPrevious"
    NODE_UNREACHABLE = "NodeUnreachable"


class Reason(StrEnum):
    """Reasons of conditions that are neither a queue reason nor a cause."""

    QUEUED = "Queued"
    ADMITTED = "Admitted"
    RUNNING = "Running"
    STARTING = "Starting"
    CANCELLING = "Cancelling"
    FINISHED = "Finished"
    ACCEPTED = "Accepted"
    UNFINISHED = "Unfinished"
    INADMISSIBLE = "Inadmissible"
    SILENT = "Silent"
    NO_PROGRESS = "NoProgress"
    TOO_SLOW = "TooSlow"
    TOO_LATE = "TooLate"
    LEDGER_UNREADABLE = "LedgerUnreadable"


class Cause(StrEnum):
    """Why an attempt ended. Each has its own budget (`core/retry.py`); the last block is never retried."""

    COMPLETED = "Completed"
    APPLICATION = "Application"
    ATTEMPT_TIMEOUT = "AttemptTimeout"
    OUT_OF_MEMORY = "OutOfMemory"
    HEARTBEAT_LOST = "HeartbeatLost"
    NO_PROGRESS = "NoProgress"
    NEVER_STARTED = "NeverStarted"
    LOST = "Lost"
    DISRUPTION = "Disruption"
    PREEMPTED = "Preempted"

    DEADLINE = "Deadline"
    CANCELLED = "Cancelled"
    SUSPENDED = "Suspended"
    REJECTED = "Rejected"
    PERMANENT = "Permanent"


class EventReason(StrEnum):
    """Reasons of the Events that `kubectl describe lt` shows."""

    COMPLETED = "Completed"
    ATTEMPT_FAILED = "AttemptFailed"
    PREEMPTED = "Preempted"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    SUSPENDED = "Suspended"
    RESUMED = "Resumed"
    REDRIVEN = "Redriven"
    REDRIVE_IGNORED = "RedriveIgnored"
    INVALID = "Invalid"
    REFUSED_BY_CLUSTER = "RefusedByCluster"
    TTL_IGNORED = "TTLIgnored"
    STUCK = "Stuck"
    DEADLINE_AT_RISK = "DeadlineAtRisk"
    NODE_UNREACHABLE = "NodeUnreachable"
    RESIZED = "Resized"
    RESIZE_HELD_BACK = "ResizeHeldBack"
    RESIZE_REFUSED = "ResizeRefused"


class SizeSource(StrEnum):
    """Where the size of the current attempt comes from."""

    REQUESTED = "Requested"
    SMALLEST = "Smallest"
    INPUT_HINT = "InputHint"
    HISTORY = "History"
    OUT_OF_MEMORY = "OutOfMemory"
    LIVE = "Live"
