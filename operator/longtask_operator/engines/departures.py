"""What is left of LongTasks that are gone: Jobs, pods and ledger entries without an owner.

A cache may be behind, so a task is taken for gone only when a watch or a list showed it go, or the
API server says so now.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable

from longtask_operator.adapters.errors import KindMissing, NotFound
from longtask_operator.adapters.kube import resource_path
from longtask_operator.adapters.store import forget_older
from longtask_operator.adapters.tasks import TaskRecord, observe_task
from longtask_operator.api.names import API_VERSION, LONGTASK_PLURAL
from longtask_operator.core.decision import ConfirmUnbegun, ReleaseEntry
from longtask_operator.core.observe import JobView, PodView
from longtask_operator.core.release import release_children
from longtask_operator.engines.admission_loop import AdmissionLoop
from longtask_operator.engines.apply import Applier
from longtask_operator.engines.context import Context
from longtask_operator.engines.ledgers import Ledgers

_SETTLE_SECONDS = 2.0
#: So many that went are remembered at most, and the newer half at least.
_REMEMBERED = 2_000


class Departures:
    """Lets go of what tasks that are gone have left behind."""

    def __init__(self, context: Context, ledgers: Ledgers, applier: Applier, admission: AdmissionLoop) -> None:
        self._context, self._ledgers, self._applier, self._admission = context, ledgers, applier, admission
        self._departed: dict[str, dict[str, str]] = defaultdict(dict)  #: key -> uids seen to go, with their tenants
        self._went: dict[str, str] = {}  #: uid -> key of those seen to go lately
        self._confirmed: set[str] = set()
        self._childless: dict[str, float] = {}  #: uid -> since when no Job and no pod of it is known, in loop time

    def noticed(self, record: TaskRecord, tenant: str) -> None:
        """Remember that *record* of *tenant* went from the cache."""
        self._departed[record.key][record.uid] = tenant
        self._went[record.uid] = record.key
        forget_older(self._went, _REMEMBERED)

    def tell_if_departed(self, tell: Callable[[str], None], uid: str) -> None:
        """Tell namespace/name of a task that is gone and whose entry came back to a ledger; `let_go` will release it.

        An operator that leads as well may take it over from a ledger that a tenant has left, and hear of the end late.
        """
        if key := self._went.get(uid):
            self._departed[key].setdefault(uid, "")
            tell(key)

    async def let_go(self, key: str, record: TaskRecord | None) -> float | None:
        """Let go of what tasks of this name other than *record* left behind; return when to come back, in seconds.

        Raises:
            ApiError: if the API server does not answer; call again.
        """
        jobs, pods = self._context.caches.jobs.group(key), self._context.caches.pods.group(key)
        present = {job.task_uid for job in jobs} | {pod.task_uid for pod in pods} | set(self._departed.get(key, ()))
        waits = []
        for uid in present - ({record.uid} if record else set()):
            if await self._is_gone(key, uid):
                waits.append(await self._release(key, uid, jobs, pods))
        return min((wait for wait in waits if wait is not None), default=None)

    async def give_back(self, record: TaskRecord) -> None:
        """Release the entry of a task that cannot be read, if nothing of its attempt has begun.

        Raises:
            Conflict: if a Job or a pod of it is there after all. ApiError otherwise.
        """
        caches, uid, entry = self._context.caches, record.uid, self._ledgers.entry(record.uid)
        children: list[JobView | PodView] = [*caches.jobs.group(record.key), *caches.pods.group(record.key)]
        if entry and all(child.task_uid != uid for child in children):
            where = {"namespace": record.namespace, "task_name": record.name}
            confirm = ConfirmUnbegun(**where, task_uid=uid, attempt=entry.attempt)
            release = ReleaseEntry(uid=uid, attempt=entry.attempt, tenant=record.tenant)
            await self._applier.act((confirm, release), None)

    def sweep(self) -> None:
        """Release ledger entries of tasks that no cache knows; call only with caches just listed."""
        caches = self._context.caches
        known = {view.uid for view in caches.tasks}
        known |= {child.task_uid for child in caches.jobs} | {child.task_uid for child in caches.pods}
        for uid in self._ledgers.uids():
            entry, tenant = self._ledgers.entry(uid), self._ledgers.tenant_of(uid)
            if uid not in known and entry and tenant:
                self._admission.release(tenant, uid, entry.attempt)

    async def _is_gone(self, key: str, uid: str) -> bool:
        if uid in self._confirmed or uid in self._departed.get(key, ()):
            return True
        namespace, _, name = key.partition("/")
        try:
            live = await self._context.kube.get(resource_path(API_VERSION, LONGTASK_PLURAL, namespace, name))
        except KindMissing:
            raise  # no kind is no answer: an API server that starts serves kinds one by one
        except NotFound:
            live = None
        if live and live["metadata"]["uid"] == uid:
            self._context.caches.tasks.put(observe_task(live))
            return False
        self._confirmed.add(uid)
        self._departed[key].setdefault(uid, "")  # its ledger entry is released last, when no child tells of it any more
        return True

    async def _release(self, key: str, uid: str, jobs: tuple[JobView, ...], pods: tuple[PodView, ...]) -> float | None:
        """Let go of one task; it is remembered until nothing of it can come any more, a late admission included."""
        tenant = self._ledgers.tenant_of(uid) or self._departed[key].get(uid, "")
        self._admission.withdraw(uid, tenant)
        its_jobs = [job for job in jobs if job.task_uid == uid]
        its_pods = [pod for pod in pods if pod.task_uid == uid]
        entry = self._ledgers.entry(uid)
        if not its_jobs and not its_pods and entry and (wait := await self._pods_may_come(key, uid)) is not None:
            return wait
        await self._applier.act(release_children(its_jobs, its_pods, entry, tenant), None)
        if not its_jobs and not its_pods and not self._admission.concerns(uid, tenant):
            self._departed[key].pop(uid, None)
            self._confirmed.discard(uid)
            self._childless.pop(uid, None)
        if not self._departed[key]:
            del self._departed[key]
        return None

    async def _pods_may_come(self, key: str, uid: str) -> float | None:
        """Return in how many seconds to look again for pods of a Job that is gone, or None if there are none.

        The Job controller may have a pod under way when its Job goes, and our cache may not have it yet.
        """
        now = asyncio.get_running_loop().time()
        settled = self._childless.setdefault(uid, now) + _SETTLE_SECONDS
        if now < settled:
            return settled - now
        found = await self._applier.pods_now(key.partition("/")[0], uid)
        return _SETTLE_SECONDS if found else None
