"""Lines of tasks that nobody here knows: released once the API server has neither the task nor a pod of it.

Whoever led before may have sent its last write of a ledger long ago: it arrives after this process has read the
ledgers, and after its task has gone. A line names no namespace, so all tasks are listed for it. That is rare: another
operator's line is of a task that is heard of soon.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from longtask_operator.adapters.errors import ApiError
from longtask_operator.adapters.kube import resource_path
from longtask_operator.adapters.tasks import observe_task
from longtask_operator.api.names import API_VERSION, LONGTASK_PLURAL
from longtask_operator.engines.admission_loop import AdmissionLoop
from longtask_operator.engines.apply import Applier
from longtask_operator.engines.context import Context
from longtask_operator.engines.ledgers import Ledgers

#: Time in which a task is to be heard of whose line was read.
_PATIENCE_SECONDS = 60.0
log = structlog.get_logger("longtask.ledger")


class LateLines:
    """Told of each line; *known* returns namespace/name of a task that is here and has not finished."""

    def __init__(
        self,
        context: Context,
        ledgers: Ledgers,
        applier: Applier,
        admission: AdmissionLoop,
        known: Callable[[str], str],
    ) -> None:
        self._context, self._ledgers, self._applier, self._admission = context, ledgers, applier, admission
        self._known = known
        self._waiting: set[str] = set()  #: uids that are looked at in a while
        self._timer: asyncio.TimerHandle | None = None
        self._looks: set[asyncio.Task[None]] = set()

    def came(self, uid: str) -> None:
        """Look in a while whether the task of a line is there, if it is not known here yet."""
        if not self._known(uid):
            self._look_later({uid})

    def _look_later(self, uids: set[str]) -> None:
        self._waiting |= uids
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_PATIENCE_SECONDS, self._begin)

    def _begin(self) -> None:
        """Look at all that wait, once for all of them; those that come meanwhile are for the next look."""
        uids, self._waiting, self._timer = self._strangers(), set(), None
        if uids:
            look = asyncio.get_running_loop().create_task(self._look(uids), name="late lines")
            self._looks.add(look)
            look.add_done_callback(self._looks.discard)

    async def _look(self, uids: set[str]) -> None:
        try:
            await self._release(uids - await self._there())
        except ApiError as error:
            log.warning("tasks of ledger lines could not be looked for; trying again", error=str(error))
            self._look_later(uids)

    def _strangers(self) -> set[str]:
        """Return those of which a line is there still, and neither task nor Job: that is let go of by its own name."""
        with_job = {job.task_uid for job in self._context.caches.jobs} if self._waiting else set[str]()
        left = self._waiting - with_job
        return {uid for uid in left if self._ledgers.entry(uid) and not self._known(uid)}

    async def _there(self) -> set[str]:
        """Return the uids of all tasks that there are. Raises ApiError."""
        found: set[str] = set()
        async for page in self._context.kube.list_pages(resource_path(API_VERSION, LONGTASK_PLURAL)):
            for body in page["items"]:
                found.add(body["metadata"]["uid"])
                self._context.caches.tasks.put(observe_task(body))
        return found

    async def _release(self, uids: set[str]) -> None:
        """Release the lines of tasks that are gone and have no pod. Raises ApiError."""
        for uid in sorted(uids):
            entry, tenant = self._ledgers.entry(uid), self._ledgers.tenant_of(uid)
            if entry and tenant and not await self._applier.pods_now("", uid):
                log.info("a line of a task that is gone came late and is released", uid=uid, tenant=tenant)
                self._admission.release(tenant, uid, entry.attempt)
