"""Carries out a Decision: first actions, one status write, then the rest. Any of it may be repeated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

import structlog

from longtask_operator.adapters.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    Invalid,
    KindMissing,
    NoPermission,
    NotFound,
    WebhookFailed,
)
from longtask_operator.adapters.kube import Json, resource_path
from longtask_operator.adapters.tasks import TaskRecord, observe_task
from longtask_operator.api.errors import SpecError
from longtask_operator.api.longtask import LongTask
from longtask_operator.api.names import API_VERSION, FINALIZER, LABEL_ATTEMPT, LABEL_TASK_UID, LONGTASK_PLURAL
from longtask_operator.api.status import LongTaskStatus
from longtask_operator.core.checkpoints import resume_of
from longtask_operator.core.current import Observed
from longtask_operator.core.decision import (
    Action,
    AskWhyNoPod,
    Confirmation,
    ConfirmEvicted,
    ConfirmGone,
    ConfirmHearing,
    ConfirmNode,
    ConfirmPod,
    ConfirmSuspended,
    ConfirmUnbegun,
    CreateJob,
    DeleteTask,
    ForceDeletePod,
    KeepEntry,
    LowerEntry,
    ReleaseEntry,
    ReleasePod,
    ResizePod,
    StopJob,
    StopPod,
    UndoResize,
)
from longtask_operator.core.environment import AttemptFacts
from longtask_operator.core.jobs import build_job, job_name
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.observe import JobView, PodView, is_unchanged, observe_job, observe_pod
from longtask_operator.core.patching import contains_null, merge_diff
from longtask_operator.core.refusal import Refused, is_answer
from longtask_operator.engines.admission_loop import AdmissionLoop
from longtask_operator.engines.context import Context
from longtask_operator.engines.node_leases import NodeLeases
from longtask_operator.engines.refused_pods import RefusedPods
from longtask_operator.engines.resizer import Resizer

_STATUS_KEYS = frozenset(field.alias or name for name, field in LongTaskStatus.model_fields.items())
log = structlog.get_logger("longtask.apply")


class RefusedError(Exception):
    """The cluster does not take the attempt's Job, or its pod; an answer, not a fault."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.message)
        self.refused = refused


class NotYetError(Exception):
    """What is to be confirmed may be so in a while, of *seconds*; nothing else may be done before."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"not yet; look again in {seconds} s")
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Applier:
    """Writes to the API server what the core decided."""

    context: Context
    admission: AdmissionLoop
    ca_bundle: Callable[[], str]  #: CA of the report server, PEM, as new pods get it
    heard: Callable[[str], datetime | None]  #: when the pod of that uid reported last to this leader
    resizer: Resizer
    refused: RefusedPods
    #: Told a task, an attempt and the tenant; raises Conflict if the attempt need not give way any more.
    confirm_evicted: Callable[[str, int, str], Awaitable[None]]
    still_hears: Callable[[], Awaitable[bool]]  #: whether reports could come all the time until now
    nodes: NodeLeases

    async def act(self, actions: tuple[Action, ...], seen: Observed | None) -> None:
        """Carry out *actions* in order.

        Raises ApiError, RefusedError where the cluster takes no Job, or no pod, and NotYetError.
        """
        for action in actions:
            await self._act(action, seen)

    async def write_status(self, record: TaskRecord, status: LongTaskStatus) -> TaskRecord | None:
        """Write *status* if it differs from what was read; return the record written, or None if there was nothing to.

        Raises:
            Conflict: if the object changed since it was read. ApiError otherwise.
        """
        before: Json = record.body()["status"]
        after = status.model_dump(by_alias=True, exclude_none=True, mode="json")
        patch = merge_diff(before, after, _STATUS_KEYS)
        if not patch:
            return None
        path = self._task_path(record) + "/status"
        if contains_null(after):
            answer = await self._replace_status(path, record, before, after)
        else:
            answer = await self.context.kube.merge_patch(
                path, {"metadata": {"resourceVersion": str(record.version)}, "status": patch}
            )
        written = observe_task(answer)
        self.context.caches.tasks.put(written)
        return written

    async def _replace_status(self, path: str, record: TaskRecord, before: Json, after: Json) -> Json:
        """Write a status that holds nulls of the user's: a merge patch would drop them."""
        foreign = {key: value for key, value in before.items() if key not in _STATUS_KEYS}
        operations: list[Json] = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": str(record.version)},
            {"op": "add", "path": "/status", "value": foreign | after},
        ]
        try:
            return await self.context.kube.json_patch(path, operations)
        except Invalid as error:
            current = await self.context.kube.get(self._task_path(record))
            if current["metadata"]["resourceVersion"] != str(record.version):
                raise Conflict(409, "Conflict", error.message) from error
            raise

    async def refresh(self, record: TaskRecord) -> None:
        """Read the task again into the cache; one that is gone is dropped. Raises ApiError."""
        try:
            self.context.caches.tasks.put(observe_task(await self.context.kube.get(self._task_path(record))))
        except KindMissing:
            raise
        except NotFound:
            self.context.caches.tasks.remove(record.namespace, record.name, record.uid)

    async def _act(self, action: Action, seen: Observed | None) -> None:
        if isinstance(action, Confirmation):
            await self._confirm(action)
            return
        match action:
            case AskWhyNoPod():
                await self._ask_why_no_pod(action)
            case CreateJob() if seen:
                await self._create_job(action, seen)
            case KeepEntry() if seen:
                meta = seen.task.metadata
                self.admission.keep(action.tenant, action.entry, f"{meta.namespace}/{meta.name}")
            case ReleaseEntry():
                self.admission.release(action.tenant, action.uid, action.attempt)
            case ResizePod() | UndoResize() | LowerEntry():
                await self._resize(action)
            case StopJob() | StopPod() | ForceDeletePod():
                await self._stop(action)
            case ReleasePod():
                await self._release_pod(action.pod)
            case DeleteTask() if seen:
                meta = seen.task.metadata
                path = resource_path(API_VERSION, LONGTASK_PLURAL, meta.namespace, meta.name)
                await self.context.kube.delete(path, uid=meta.uid)

    async def pods_now(self, namespace: str, task_uid: str, attempt: int | None = None) -> list[PodView]:
        """Return the pods of a task, or of one attempt, that the API server has; the cache has them then."""
        selector = f"{LABEL_TASK_UID}={task_uid}" + (f",{LABEL_ATTEMPT}={attempt}" if attempt is not None else "")
        found: list[PodView] = []
        async for page in self.context.kube.list_pages(
            resource_path("v1", "pods", namespace), {"labelSelector": selector}
        ):
            found += [view for body in page["items"] if (view := observe_pod(body))]
        for view in found:
            self.context.caches.pods.put(view)
        return found

    async def _resize(self, action: ResizePod | UndoResize | LowerEntry) -> None:
        """Carry out a step of a resize; a pod that is not as it was seen is read again first. Raises Conflict."""
        try:
            await self.resizer.act(action, await self._read(action.pod) if isinstance(action, LowerEntry) else None)
        except Conflict:
            await self._read(action.pod)
            raise

    async def _read(self, seen: PodView) -> PodView | None:
        """Return the pod as the API server has it, None if it is gone; the cache knows it then."""
        found = {pod.uid: pod for pod in await self.pods_now(seen.namespace, seen.task_uid, seen.attempt)}
        if seen.uid not in found:
            self.context.caches.pods.remove(seen.namespace, seen.name, seen.uid)
        return found.get(seen.uid)

    async def _stop(self, action: StopJob | StopPod | ForceDeletePod) -> None:
        if isinstance(action, StopJob):
            await self._delete("batch/v1", "jobs", action.job)
            return
        force = isinstance(action, ForceDeletePod)
        if force:
            await self._confirm_pod(ConfirmPod(pod=action.pod))
        await self._delete("v1", "pods", action.pod, grace=0 if force else None)

    async def _confirm(self, action: Confirmation) -> None:
        """Raise Conflict if what is to be confirmed is not so."""
        match action:
            case ConfirmGone():
                await self._confirm_gone(action)
            case ConfirmUnbegun():
                await self._confirm_unbegun(action)
            case ConfirmPod():
                await self._confirm_pod(action)
            case ConfirmHearing():
                if not await self.still_hears():
                    raise Conflict(409, "Conflict", "for a while no report could come through")
            case ConfirmNode():
                if not await self.nodes.lived_through(action.node, action.moment):
                    raise NotYetError(self.nodes.rest_seconds)
            case ConfirmSuspended():
                await self._confirm_suspended(action.job)
            case ConfirmEvicted():
                await self.confirm_evicted(action.task_uid, action.attempt, action.tenant)

    async def _confirm_suspended(self, job: JobView) -> None:
        """Raise Conflict if the Job is not suspended, or gone; the cache knows it then."""
        try:
            self._take_in_job(await self.context.kube.get(resource_path("batch/v1", "jobs", job.namespace, job.name)))
        except NotFound:
            self.context.caches.jobs.remove(job.namespace, job.name, job.uid)
        known = self.context.caches.jobs.get(job.namespace, job.name)
        if known is None or known.uid != job.uid or not known.suspended:
            raise Conflict(409, "Conflict", f"Job {job.name} is not suspended any more")

    async def _confirm_gone(self, action: ConfirmGone) -> None:
        """Raise Conflict if a pod of the attempt is there after all."""
        found = await self.pods_now(action.namespace, action.task_uid, action.attempt)
        if found:
            raise Conflict(409, "Conflict", f"pod {found[0].name} of the attempt is there after all")

    async def _confirm_unbegun(self, action: ConfirmUnbegun) -> None:
        """Raise Conflict if the attempt's own Job, or a pod of it, is there after all; the cache knows it then."""
        name = job_name(action.task_name, action.task_uid, action.attempt)
        try:
            found = await self.context.kube.get(resource_path("batch/v1", "jobs", action.namespace, name))
        except NotFound:
            found = None
        view = observe_job(found) if found else None
        if view and view.owner_uid == view.task_uid == action.task_uid:
            self.context.caches.jobs.put(view)
            raise Conflict(409, "Conflict", f"Job {name} is there after all")
        gone = ConfirmGone(namespace=action.namespace, task_uid=action.task_uid, attempt=action.attempt)
        await self._confirm_gone(gone)

    async def _ask_why_no_pod(self, action: AskWhyNoPod) -> None:
        """Raise RefusedError with the API server's own sentence, if the Job's controller was refused a pod."""
        job = action.job
        message = await self.refused.why(job)
        if message and (action.faults_too or is_answer(message)):
            raise RefusedError(Refused(attempt=job.attempt, generation=job.generation, of_pod=True, message=message))

    async def _confirm_current(self, task: LongTask) -> None:
        """Raise Conflict if *task* changed since it was read: another operator may have accepted a newer checkpoint."""
        meta = task.metadata
        live = await self.context.kube.get(resource_path(API_VERSION, LONGTASK_PLURAL, meta.namespace, meta.name))
        if live["metadata"]["resourceVersion"] != meta.resource_version:
            raise Conflict(409, "Conflict", f"{meta.name} changed since it was read")

    async def _confirm_pod(self, action: ConfirmPod) -> None:
        """Raise Conflict if the pod is not as it was seen, or was heard from since; the cache knows it then."""
        seen = action.pod
        found = {pod.uid: pod for pod in await self.pods_now(seen.namespace, seen.task_uid, seen.attempt)}
        now = found.get(seen.uid)
        if now is None:
            self.context.caches.pods.remove(seen.namespace, seen.name, seen.uid)
        if now is None or not is_unchanged(seen, now):
            raise Conflict(409, "Conflict", f"pod {seen.name} is not as it was seen")
        if action.gone in found:
            raise Conflict(409, "Conflict", f"pod {seen.name} is not the attempt's only one")
        if action.silent and self.heard(seen.uid) != action.heard:
            raise Conflict(409, "Conflict", f"pod {seen.name} reported meanwhile")

    async def _create_job(self, action: CreateJob, seen: Observed) -> None:
        """Create the Job of an attempt; one that is there already is adopted if it is truly ours.

        Where the Job may have been created before and is gone, its pod may live on, unseen by the cache.
        """
        uid, attempt = action.entry.uid, action.entry.attempt
        if not self.admission.attempts.take_fresh(uid, attempt):
            await self._confirm_gone(ConfirmGone.of(seen.task, attempt))
            if seen.task.spec.checkpoint:
                await self._confirm_current(seen.task)
        facts = AttemptFacts(
            tenant=action.tenant,
            run=action.run,
            number=action.entry.attempt,
            size=action.entry.size,
            deadline=action.deadline,
            report_base=self.context.job_policy.report_base,
            resume=resume_of(seen.task),
            queue=seen.task.spec.queue_name if action.entry.handed_over else None,
        )
        try:
            body = build_job(seen.task, facts, self.context.job_policy, ca_bundle=self.ca_bundle())
            created = await self.context.kube.create(
                resource_path("batch/v1", "jobs", seen.task.metadata.namespace), body
            )
        except AlreadyExists:
            created = await self._adopt(seen.task, action.entry)
        except NoPermission:
            raise
        except SpecError as error:
            raise _refused(action.entry, error.message) from error
        except (Forbidden, Invalid, WebhookFailed) as error:
            created = await self._adopt_despite(seen.task, action.entry, error)
        self._take_in_job(created)

    async def _adopt_despite(self, task: LongTask, entry: LedgerEntry, error: ApiError) -> Json:
        """Return the Job if it is there all the same: quotas and policies refuse before a name is found taken."""
        try:
            return await self._adopt(task, entry)
        except NotFound:
            raise _refused(entry, error.message) from error

    async def _adopt(self, task: LongTask, entry: LedgerEntry) -> Json:
        """Return the attempt's Job if this LongTask controls it: a name alone proves nothing. Raises RefusedError."""
        name = job_name(task.metadata.name, task.metadata.uid, entry.attempt)
        found = await self.context.kube.get(resource_path("batch/v1", "jobs", task.metadata.namespace, name))
        view = observe_job(found)
        if view is None or not view.owner_uid == view.task_uid == task.metadata.uid:
            raise _refused(entry, f"Job {name} exists and belongs to somebody else; delete it or rename the task")
        log.info("job adopted", namespace=task.metadata.namespace, name=task.metadata.name, attempt=view.attempt)
        return found

    def _take_in_job(self, body: Json) -> None:
        view = observe_job(body)
        if view:
            self.context.caches.jobs.put(view)

    async def _delete(
        self, group_version: str, plural: str, child: JobView | PodView, *, grace: int | None = None
    ) -> None:
        path = resource_path(group_version, plural, child.namespace, child.name)
        try:
            await self.context.kube.delete(path, uid=child.uid, grace=grace)
        except Conflict:
            log.info("not deleted: another object has the name now", namespace=child.namespace, child=child.name)

    async def _release_pod(self, pod: PodView) -> None:
        """Take our finalizer off *pod*, and no other. Raises Conflict if another pod has the name now."""
        path = resource_path("v1", "pods", pod.namespace, pod.name)
        try:
            answer = await self.context.kube.drop_finalizer(path, FINALIZER, uid=pod.uid)
        except NotFound:
            self.context.caches.pods.remove(pod.namespace, pod.name, pod.uid)
            return
        view = observe_pod(answer)
        if view:
            self.context.caches.pods.put(view)

    @staticmethod
    def _task_path(record: TaskRecord) -> str:
        return resource_path(API_VERSION, LONGTASK_PLURAL, record.namespace, record.name)


def _refused(entry: LedgerEntry, message: str) -> RefusedError:
    return RefusedError(Refused(attempt=entry.attempt, generation=entry.generation, of_pod=False, message=message))
