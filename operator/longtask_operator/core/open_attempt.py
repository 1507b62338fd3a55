"""What is known of an open attempt, from the status, its ledger entry, its Job and its pods."""

from __future__ import annotations

from longtask_operator.api.quantity import format_cpu, format_memory
from longtask_operator.api.status import Attempt, LongTaskStatus
from longtask_operator.api.times import format_time
from longtask_operator.core import record
from longtask_operator.core.attempt_size import size_of_attempt, sizing_at_start
from longtask_operator.core.current import CurrentAttempt, Observed
from longtask_operator.core.decision import Action, KeepEntry
from longtask_operator.core.jobs import job_name
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.sizing import Ladder, Size


def describe(seen: Observed, attempt: CurrentAttempt, status: LongTaskStatus) -> Attempt:
    """Return what is known of *attempt*, as it stands or will stand in the status."""
    meta, pod, size = seen.task.metadata, attempt.pods[0] if attempt.pods else None, size_of(attempt)
    before = attempt.recorded or Attempt(
        number=attempt.number,
        run=attempt.job.run if attempt.job else status.run or 1,
        generation=generation_of(attempt, meta.generation),
        job_name=job_name(meta.name, meta.uid, attempt.number),
    )
    known: dict[str, str | None] = {}
    if size:
        known |= {"cpu": format_cpu(size.cpu), "memory": format_memory(size.memory)}
    if attempt.job and attempt.job.resumed_from:
        known |= {"resumed_from": attempt.job.resumed_from}
    if pod:
        started = pod.running_since or (pod.ended.started if pod.ended else None)
        known |= {"pod_name": pod.name, "pod_uid": pod.uid, "node_name": pod.node}
        known |= {"start_time": before.start_time or (format_time(started) if started else None)}
    return before.model_copy(update=known)


def with_attempt_and_size(seen: Observed, status: LongTaskStatus, recorded: Attempt, ladder: Ladder) -> LongTaskStatus:
    """Return *status* with *recorded* put in, and the attempt's size where it is known."""
    size = size_of_attempt(recorded)
    sizing = sizing_at_start(size, seen.task, status, ladder, seen.suggestion) if size else status.sizing
    return record.with_attempt(status, recorded).model_copy(update={"sizing": sizing})


def size_of(attempt: CurrentAttempt) -> Size | None:
    """Return the attempt's size: as admitted, else as recorded, else None."""
    return attempt.entry.size if attempt.entry else size_of_attempt(attempt.recorded)


def generation_of(attempt: CurrentAttempt, default: int) -> int:
    """Return the generation of the spec that the attempt was admitted with, *default* where nothing tells."""
    if attempt.job:
        return attempt.job.generation
    return attempt.entry.generation if attempt.entry else default


def kept(seen: Observed, attempt: CurrentAttempt) -> tuple[Action, ...]:
    """Return the action that puts a living attempt back into the ledger, where it is missing or differs."""
    entry, generation = attempt.entry, generation_of(attempt, seen.task.metadata.generation)
    size = size_of(attempt)
    if size is None or (entry and entry.generation == generation):
        return ()
    kept = LedgerEntry(
        uid=seen.task.metadata.uid,
        attempt=attempt.number,
        generation=generation,
        size=size,
        sidecar=bool(seen.task.spec.progress_file),
        handed_over=entry.handed_over if entry else bool(attempt.job and attempt.job.queue),
    )
    return (KeepEntry(entry=kept, tenant=seen.task.status.tenant or seen.tenant or ""),)


def has_started(attempt: CurrentAttempt) -> bool:
    """Return whether the task container runs, or ran."""
    return any(pod.running_since or pod.ended for pod in attempt.pods) or bool(
        attempt.recorded and attempt.recorded.start_time
    )
