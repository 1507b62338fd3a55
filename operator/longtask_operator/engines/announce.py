"""Tells people what changed: one log line, one Event and one count per transition that landed.

A task that simply succeeds gets no Event: its status says all, and Events are writes too.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import structlog

from longtask_operator.adapters.events import EventPoster
from longtask_operator.adapters.metrics import Metrics
from longtask_operator.adapters.tasks import TaskRecord
from longtask_operator.api.phases import Phase
from longtask_operator.api.reasons import Cause, EventReason
from longtask_operator.api.status import Attempt, LongTaskStatus
from longtask_operator.api.times import parse_optional_time
from longtask_operator.core.observe import JobView
from longtask_operator.core.record import describe_end
from longtask_operator.core.transitions import (
    AttemptEnded,
    AttemptResized,
    AttemptStarted,
    FirstSeen,
    PhaseChanged,
    ResizeRefused,
    RunFinished,
    WarningBegan,
    transitions,
)

log = structlog.get_logger("longtask.task")


class Announcer:
    """Turns transitions into logs, Events and metrics."""

    def __init__(self, metrics: Metrics, events: EventPoster) -> None:
        self._metrics, self._events = metrics, events
        #: Told the tenant and each attempt that ended, and since when that held quota, where this process knows it.
        self.on_attempt_end: Callable[[str | None, Attempt, datetime | None], None] = lambda *ended: None

    def changed(
        self,
        task: TaskRecord,
        before: LongTaskStatus,
        after: LongTaskStatus,
        *,
        job: JobView | None,
        peak_memory: int | None,
        admitted: Callable[[int], datetime | None] = lambda attempt: None,
    ) -> None:
        """Announce what a status write that landed has changed.

        *admitted* tells when an attempt was admitted, where this process did that.
        """
        for step in transitions(before, after):
            if isinstance(step, FirstSeen):
                self._metrics.submitted(after.tenant)
            elif isinstance(step, AttemptStarted):
                self._started(task, step.attempt, job, admitted(step.attempt.number))
            elif isinstance(step, AttemptResized | ResizeRefused):
                self._resized(task, step)
            elif isinstance(step, AttemptEnded):
                since = None if job and job.queue else admitted(step.attempt.number)  # Kueue's queue is not ours
                self.on_attempt_end(after.tenant, step.attempt, since)
                self._attempt_ended(task, after, step, peak_memory)
            elif isinstance(step, RunFinished):
                self._finished(task, after, step.phase)
            elif isinstance(step, WarningBegan):
                log.warning("warning began", **_ids(task), reason=str(step.reason), message=step.message)
                self._events.post(task, step.reason, step.message, warning=True)
            else:
                self._phase_changed(task, step)

    def _started(self, task: TaskRecord, attempt: Attempt, job: JobView | None, admitted: datetime | None) -> None:
        started = parse_optional_time(attempt.start_time)
        if job and started and job.attempt == attempt.number:
            # Kubelets tell whole seconds: of the other moment no more is counted either, or half a second were lost.
            begun = admitted.replace(microsecond=0) if admitted else job.created
            begun = (job.started or job.created) if job.queue else begun  # Kueue's queue is not ours
            self._metrics.started((started - begun).total_seconds())
        log.info("attempt runs", **_ids(task), attempt=attempt.number, node=attempt.node_name)

    def _resized(self, task: TaskRecord, step: AttemptResized | ResizeRefused) -> None:
        number = step.attempt.number
        if isinstance(step, ResizeRefused):
            self._metrics.resized("Live", step.message.partition(":")[0])
            self._events.post(task, EventReason.RESIZE_REFUSED, f"attempt {number}: {step.message}", warning=True)
            log.warning("attempt not resized", **_ids(task), attempt=number, message=step.message)
            return
        before, after = (f"{attempt.cpu}/{attempt.memory}" for attempt in (step.before, step.attempt))
        self._metrics.resized("Live", "Resized")
        self._events.post(task, EventReason.RESIZED, f"attempt {number} was resized from {before} to {after}")
        log.info("attempt resized", **_ids(task), attempt=number, before=before, after=after)

    def _attempt_ended(
        self, task: TaskRecord, status: LongTaskStatus, step: AttemptEnded, peak_memory: int | None
    ) -> None:
        attempt, cause = step.attempt, step.attempt.cause or ""
        self._metrics.attempt_ended(status.tenant, cause, retried=step.retried)
        if cause == Cause.OUT_OF_MEMORY and step.retried:
            self._metrics.resized("NextAttempt", "Resized")
        log.info(
            "attempt ended",
            **_ids(task),
            attempt=attempt.number,
            cause=cause,
            exit_code=attempt.exit_code,
            duration_seconds=_seconds(
                parse_optional_time(attempt.start_time), parse_optional_time(attempt.completion_time)
            ),
            peak_memory_bytes=peak_memory,
            message=attempt.message,
        )
        if cause == Cause.PREEMPTED:
            self._events.post(task, EventReason.PREEMPTED, describe_end(attempt))
        elif cause not in (Cause.COMPLETED, Cause.CANCELLED, Cause.SUSPENDED):
            self._events.post(task, EventReason.ATTEMPT_FAILED, describe_end(attempt), warning=True)

    def _finished(self, task: TaskRecord, status: LongTaskStatus, phase: Phase) -> None:
        started, ended = parse_optional_time(status.start_time), parse_optional_time(status.completion_time)
        self._metrics.finished(status.tenant, phase, _seconds(started, ended))
        log.info("run finished", **_ids(task), run=status.run, outcome=str(phase), attempts=status.attempt)
        message = next((c.message for c in status.conditions or () if c.type == "Succeeded"), "")
        if phase is Phase.FAILED:
            self._events.post(task, EventReason.FAILED, message, warning=True)
        elif phase is Phase.CANCELLED:
            self._events.post(task, EventReason.CANCELLED, message)
        elif (status.attempt or 0) > 1:
            self._events.post(task, EventReason.COMPLETED, message)

    def _phase_changed(self, task: TaskRecord, step: PhaseChanged) -> None:
        log.debug("phase changed", **_ids(task), phase=str(step.phase), before=step.before)
        if step.phase is Phase.SUSPENDED:
            self._events.post(task, EventReason.SUSPENDED, "spec.suspend is true; the task holds no quota")
        elif step.before == Phase.SUSPENDED:
            self._events.post(task, EventReason.RESUMED, "spec.suspend is no longer true")


def _ids(task: TaskRecord) -> dict[str, str]:
    return {"namespace": task.namespace, "name": task.name, "uid": task.uid}


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return (end - start).total_seconds() if start and end else None
