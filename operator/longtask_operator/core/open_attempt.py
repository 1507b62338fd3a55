"""What is known of an open attempt, from the status, its ledger entry, its Job and its pods."""

from __future__ import annotations

from datetime import datetime

from longtask_operator.api.quantity import format_cpu, format_memory
from longtask_operator.api.status import Attempt, LongTaskStatus
from longtask_operator.api.times import format_time, parse_time
from longtask_operator.core import record
from longtask_operator.core.attempt_size import choice_of_resize, size_of_attempt, sizing_at_start, sizing_of
from longtask_operator.core.checkpoints import resumed_by
from longtask_operator.core.current import CurrentAttempt, Observed, find_attempt
from longtask_operator.core.decision import Action, KeepEntry
from longtask_operator.core.jobs import job_name
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.observe import PodView, is_in_force
from longtask_operator.core.outcome import Outcome
from longtask_operator.core.sizing import Ladder, Size
from longtask_operator.core.usage import with_reserved


def describe(
    seen: Observed, attempt: CurrentAttempt, status: LongTaskStatus, outcome: Outcome | None = None
) -> Attempt:
    """Return what is known of *attempt*, as it stands or will stand in the status; *outcome* is its last word."""
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
    if size and grew(before, size):
        known |= {"resize_time": format_time(_resized_at(seen, pod)), "resize_refused": None}
    if pod:
        started = pod.running_since or (pod.ended.started if pod.ended else None)
        known |= {"pod_name": pod.name, "pod_uid": pod.uid, "node_name": pod.node}
        known |= {"resumed_from": _resumed_from(seen, pod, before, outcome)}
        known |= {"start_time": before.start_time or (format_time(started) if started else None)}
    return before.model_copy(update=known)


def _resumed_from(seen: Observed, pod: PodView, before: Attempt, outcome: Outcome | None) -> str | None:
    """Return what the attempt of *pod* went on from: as its worker says; until it does, what it was given.

    A word that changes what stands there waits for its turn like progress: workers may change their minds at will.
    """
    is_shown = before.pod_uid == pod.uid
    heard = seen.resumed if seen.mirror_due or pod.is_over or not is_shown else None
    last = resumed_by(pod, outcome.resumed_from) if outcome else None
    for word in (last, heard):
        if word and word.pod_uid == pod.uid:
            return word.uri
    return before.resumed_from if is_shown or not pod.resume else pod.resume[0]


def with_attempt_and_size(seen: Observed, status: LongTaskStatus, recorded: Attempt, ladder: Ladder) -> LongTaskStatus:
    """Return *status* with *recorded* put in, and the attempt's size where it is known."""
    status, size = with_resize(seen, status, recorded), size_of_attempt(recorded)
    sizing = sizing_at_start(size, seen.task, status, ladder, seen.suggestion) if size else status.sizing
    return record.with_attempt(status, recorded).model_copy(update={"sizing": sizing})


def with_resize(seen: Observed, status: LongTaskStatus, recorded: Attempt) -> LongTaskStatus:
    """Return *status*; where *recorded* was resized since, with its new size and the usage of the old one."""
    size, before = size_of_attempt(recorded), find_attempt(status, recorded.number)
    was = size_of_attempt(before)
    if not (size and before and was and grew(before, size)):
        return status
    status = with_reserved(status, before, parse_time(recorded.resize_time or format_time(seen.now)))
    choice = choice_of_resize(was, size, recorded.number)
    return status.model_copy(update={"sizing": sizing_of(choice, seen.task.spec.resources)})


def grew(recorded: Attempt, size: Size) -> bool:
    """Return whether an attempt that has *size* now was recorded as running with another: it was resized."""
    return bool(recorded.start_time) and size_of_attempt(recorded) not in (None, size)


def _resized_at(seen: Observed, pod: PodView | None) -> datetime:
    """Return when a resize counts as done: now, or when the container ended that had it."""
    ended = pod.ended.finished if pod and pod.ended else None
    return min(ended, seen.now) if ended else seen.now


def size_of(attempt: CurrentAttempt) -> Size | None:
    """Return the attempt's size: as admitted, and once it runs as the node has put in force; None: nobody knows.

    An entry that is larger than what is recorded of a running attempt is a resize that is under way.
    """
    entry, recorded = attempt.entry, size_of_attempt(attempt.recorded)
    if entry is None or recorded is None or not (attempt.recorded and attempt.recorded.start_time):
        return entry.size if entry else recorded
    return entry.size if is_in_force(entry.size, attempt.pods) else recorded


def generation_of(attempt: CurrentAttempt, default: int) -> int:
    """Return the generation of the spec that the attempt was admitted with, *default* where nothing tells."""
    if attempt.job:
        return attempt.job.generation
    return attempt.entry.generation if attempt.entry else default


def kept(seen: Observed, attempt: CurrentAttempt) -> tuple[Action, ...]:
    """Return the action that puts a living attempt back into the ledger, where it is missing or differs."""
    entry, generation = attempt.entry, generation_of(attempt, seen.task.metadata.generation)
    size = entry.size if entry else size_of(attempt)
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
