"""The status of a TenantQuota, from what its tenant uses."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from longtask_operator.api.quantity import format_cpu, format_memory
from longtask_operator.api.reasons import ConditionType
from longtask_operator.api.times import format_time
from longtask_operator.core.quota import Amounts


def quota_status(
    before: Mapping[str, Any],
    generation: int,
    usage: Amounts,
    queued: int,
    oldest: datetime | None,
    *,
    now: datetime,
) -> dict[str, Any]:
    """Return the status as plain data; equal to *before* where nothing changed."""
    status: dict[str, Any] = {
        "observedGeneration": generation,
        "admitted": usage.concurrency,
        "queued": queued,
        "usage": {
            "concurrency": usage.concurrency,
            "cpu": format_cpu(usage.cpu),
            "memory": format_memory(usage.memory),
        },
        "conditions": [_ready(before, generation, now)],
    }
    return status | ({"oldestQueuedTime": format_time(oldest)} if oldest else {})


def _ready(before: Mapping[str, Any], generation: int, now: datetime) -> dict[str, Any]:
    known: Mapping[str, Any] = next(
        (c for c in before.get("conditions") or [] if c.get("type") == ConditionType.READY), {}
    )
    stays = known.get("status") == "True"
    return {
        "type": str(ConditionType.READY),
        "status": "True",
        "reason": "Accepted",
        "message": "the quota is enforced",
        "observedGeneration": generation,
        "lastTransitionTime": known.get("lastTransitionTime") if stays else format_time(now),
    }
