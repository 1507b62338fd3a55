"""Who waits for something besides its turn: what the quota says may come first when that changes, so look again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from longtask_operator.adapters.tasks import TaskRecord
from longtask_operator.api.phases import Phase
from longtask_operator.engines.admission_loop import AdmissionLoop
from longtask_operator.engines.quotas import Quotas

#: Changes that come so close together are one: a list brings all quotas at once, and each look passes over all tasks.
_TOGETHER_SECONDS = 0.1
_WAITING = frozenset({Phase.PENDING, Phase.QUEUED, Phase.BACKOFF})


class Bystanders:
    """Wakes tasks that wait and do not stand in a queue; nothing is remembered of them."""

    def __init__(
        self, tasks: Iterable[TaskRecord], admission: AdmissionLoop, quotas: Quotas, wake: Callable[[str], None]
    ) -> None:
        self._tasks, self._admission, self._quotas, self._wake = tasks, admission, quotas, wake
        self._changed: set[str] = set()

    def limits_changed(self, tenant: str) -> None:
        """Look again, in a moment, at those whom the limits of *tenant* concern: all with a cohort, if it has one."""
        if not self._changed:
            asyncio.get_running_loop().call_later(_TOGETHER_SECONDS, self._look)
        self._changed.add(tenant)

    def _look(self) -> None:
        changed, self._changed = self._changed, set()
        for record in self._tasks:
            if record.phase not in _WAITING or self._admission.stands_in_queue(record.uid):
                continue
            # Of whatever cohort: it may have been the one that a tenant has left.
            if record.tenant in changed or self._quotas.has_cohort(record.tenant):
                self._wake(record.key)
