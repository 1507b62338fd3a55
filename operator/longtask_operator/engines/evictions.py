"""Which live attempts have to give way, asked anew whenever a task is looked at."""

from __future__ import annotations

from collections.abc import Callable

from longtask_operator.core.quota import Limits
from longtask_operator.engines.context import Context
from longtask_operator.engines.ledgers import Ledgers


class Evictions:
    """Answers from the quotas as they stand now; *wake* takes the key of a task for the work queue."""

    def __init__(
        self, context: Context, ledgers: Ledgers, limits: Callable[[str], Limits], wake: Callable[[str], None]
    ) -> None:
        self._context, self._ledgers, self._limits, self._wake = context, ledgers, limits, wake

    def why(self, uid: str, tenant: str) -> str:
        """Return in a sentence why the attempt of a task has to give way; an empty string if it may go on."""
        limits = self._limits(self._ledgers.tenant_of(uid) or tenant)
        return f"{limits.origin} says stopPolicy HoldAndDrain" if limits.draining else ""

    def limits_changed(self, tenant: str) -> None:
        """Look at everything of *tenant* that lives, if it is drained now."""
        if self._limits(tenant).draining:
            for record in self._context.caches.tasks:
                if record.tenant == tenant or self._ledgers.tenant_of(record.uid) == tenant:
                    self._wake(record.key)
