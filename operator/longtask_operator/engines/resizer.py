"""Resizes pods that run: the ledger first, then the pod. What the cluster or the quota said is remembered by pod.

That memory may be lost: a refusal is told to the status by the next reconcile, a lack of quota is found again.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from longtask_operator.adapters.errors import Conflict, Forbidden, Invalid, KindMissing
from longtask_operator.adapters.events import EventPoster
from longtask_operator.adapters.kube import resource_path
from longtask_operator.api.names import TASK_CONTAINER
from longtask_operator.api.quantity import format_cpu, format_memory
from longtask_operator.api.reasons import EventReason
from longtask_operator.core.decision import LowerEntry, ResizePod, UndoResize
from longtask_operator.core.live_growth import ResizeTrouble
from longtask_operator.core.observe import PodView, observe_pod
from longtask_operator.core.resizing import REFUSED
from longtask_operator.core.sizing import Size
from longtask_operator.engines.admission_loop import AdmissionLoop
from longtask_operator.engines.context import Context

log = structlog.get_logger("longtask.resize")


class Resizer:
    """Carries out resizes, and knows why the last one of a pod was in vain."""

    def __init__(self, context: Context, admission: AdmissionLoop, events: EventPoster) -> None:
        self._context, self._admission, self._events = context, admission, events
        self._troubles: dict[str, ResizeTrouble] = {}  #: by pod uid
        self.wake: Callable[[str], None] = lambda key: None  #: told the key of a task to look at again
        context.caches.pods.listeners.append(self._pod_changed)

    def trouble(self, pod_uid: str) -> ResizeTrouble | None:
        """Return why the pod was not resized when that was tried last, or None."""
        return self._troubles.get(pod_uid)

    async def act(self, action: ResizePod | UndoResize | LowerEntry, now: PodView | None) -> None:
        """Carry out *action*; *now* is the pod as the API server has it, where that was asked for. Raises ApiError."""
        if isinstance(action, ResizePod):
            await self._resize(action)
        elif isinstance(action, UndoResize):
            await self._ask(action.pod, action.size)
        elif now is None or now.sizes is None or not action.entry.size.covers(now.sizes.asked):
            raise Conflict(409, "Conflict", f"pod {action.pod.name} asks for more than was seen")
        else:
            key = f"{action.pod.namespace}/{action.pod.task_name}"
            self._admission.keep(action.tenant, action.entry, key)

    async def _resize(self, action: ResizePod) -> None:
        pod, entry = action.pod, action.entry
        if why := await self._admission.raise_entry(entry.uid, entry):
            self._held_back(pod, f"not resized to {entry.size.display}: {why}")
            return
        try:
            await self._ask(pod, entry.size)
        except (Forbidden, Invalid, KindMissing) as error:
            self._refused(pod, f"{REFUSED}: {error.message}")
        else:
            self._troubles.pop(pod.uid, None)

    async def _ask(self, pod: PodView, size: Size) -> None:
        """Let the pod's spec ask for *size*. Raises Conflict where the pod is not as it was seen, else ApiError."""
        path = resource_path("v1", "pods", pod.namespace, pod.name) + "/resize"
        amounts = {"cpu": format_cpu(size.cpu), "memory": format_memory(size.memory)}
        container = {"name": TASK_CONTAINER, "resources": {"requests": amounts, "limits": amounts}}
        answer = await self._context.kube.patch_containers(path, [container], version=pod.version)
        if view := observe_pod(answer):
            self._context.caches.pods.put(view)

    def _held_back(self, pod: PodView, message: str) -> None:
        """Remember that the quota had no room; people are told once for each pod."""
        known = self._note(pod, message, for_good=False)
        record = self._context.caches.tasks.get(pod.namespace, pod.task_name)
        if known is None and record:
            self._context.metrics.resized("Live", "HeldBack")
            self._events.post(record, EventReason.RESIZE_HELD_BACK, message, warning=True)
            log.info("a resize is held back", key=record.key, attempt=pod.attempt, why=message)

    def _refused(self, pod: PodView, message: str) -> None:
        self._note(pod, message, for_good=True)
        self.wake(f"{pod.namespace}/{pod.task_name}")

    def _note(self, pod: PodView, message: str, *, for_good: bool) -> ResizeTrouble | None:
        """Remember a trouble; return the one before."""
        before = self._troubles.get(pod.uid)
        now = self._context.clock.now()
        self._troubles[pod.uid] = ResizeTrouble(message=message[:1024], at=now, for_good=for_good)
        return before

    def _pod_changed(self, before: PodView | None, after: PodView | None) -> None:
        if before and (after is None or after.uid != before.uid):
            self._troubles.pop(before.uid, None)
