"""Which checkpoint of a task counts: the one that stands in `status.checkpoint`.

A worker offers what it saved; the operator accepts it only from the current attempt's own pod, below
that attempt's own prefix, and only when it is newer than what stands there. What was accepted is what
the next attempt gets. A worker is told of a checkpoint only once it stands in the status, so nothing
that it was told is ever lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from longtask_operator.api.data import CheckpointSpec
from longtask_operator.api.longtask import LongTask
from longtask_operator.api.report import SavedCheckpoint
from longtask_operator.api.status import Attempt, Checkpoint, LongTaskStatus, OlderCheckpoint
from longtask_operator.api.times import format_time, parse_optional_time
from longtask_operator.core.observe import PodView
from longtask_operator.core.outcome import Outcome

CLAIM_DIR = "/var/run/longtask-checkpoint"
DEFAULT_INTERVAL_SECONDS = 60
DEFAULT_KEEP = 2
MAX_OLDER = 9
#: A new checkpoint is worth a write of its own this many seconds after the one before.
WRITE_SECONDS = 3
#: What may follow the prefix: plain path segments, for whatever stands there is given to the next attempt.
_BELOW = re.compile(r"[A-Za-z0-9_~!$&'()*+,;=:@.-]+(/[A-Za-z0-9_~!$&'()*+,;=:@.-]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a worker says it has saved."""

    saved: SavedCheckpoint
    attempt: int
    pod_uid: str
    sequence: int | None  #: of the report that said so; None: its termination message, which is its last word


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """What the work of an attempt went on from, as its worker says."""

    uri: str | None  #: of a manifest; None: it began from nothing
    attempt: int
    pod_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """What an attempt starts from: manifests and their SHA-256, newest first."""

    newest: OlderCheckpoint
    older: tuple[OlderCheckpoint, ...] = ()


def prefix_of(spec: CheckpointSpec, uid: str, attempt: int) -> str:
    """Return the URI below which *attempt* alone saves its checkpoints; it ends with a slash."""
    base = spec.uri or f"file://{CLAIM_DIR}"
    return f"{base.rstrip('/')}/{uid}/{attempt}/"


def keep_of(spec: CheckpointSpec) -> int:
    """Return how many accepted checkpoints are kept."""
    return spec.keep or DEFAULT_KEEP


def is_acceptable(task: LongTask, offer: Offer, standing: Checkpoint | None) -> bool:
    """Return whether *offer* may follow *standing*, what the status says now: it has its place and is newer."""
    spec = task.spec.checkpoint
    if spec is None or not _is_below(prefix_of(spec, task.metadata.uid, offer.attempt), offer.saved.uri):
        return False
    if standing is None or standing.attempt < offer.attempt:
        return True
    known = {standing.uri, *(one.uri for one in standing.older or ())}
    if standing.attempt > offer.attempt or offer.saved.uri in known:
        return False
    # A report that was long under way says less than one that counted already.
    return offer.sequence is None or (standing.sequence is not None and offer.sequence > standing.sequence)


def accept(
    status: LongTaskStatus, task: LongTask, attempt: Attempt, offers: Sequence[Offer | None], now: datetime
) -> LongTaskStatus:
    """Return *status* with the last acceptable one of *offers*, oldest first, as its checkpoint.

    *attempt* is the current one; only what its own pod offers counts.
    """
    for offer in offers:
        if offer is None or (offer.attempt, offer.pod_uid) != (attempt.number, attempt.pod_uid):
            continue
        if is_acceptable(task, offer, status.checkpoint):
            status = status.model_copy(update={"checkpoint": _following(status, task, offer, now)})
    return status


def last_word(outcome: Outcome | None, attempt: Attempt) -> Offer | None:
    """Return what the termination message of *attempt* offers."""
    if outcome is None or outcome.checkpoint is None:
        return None
    return Offer(saved=outcome.checkpoint, attempt=attempt.number, pod_uid=attempt.pod_uid or "", sequence=None)


def told_to(attempt: int, standing: Checkpoint | None) -> str | None:
    """Return the manifest that the worker of *attempt* may rely on: it stands in the status. None if there is none."""
    return standing.uri if standing and standing.attempt == attempt else None


def resume_of(task: LongTask) -> Resume | None:
    """Return what the next attempt starts from, None for a fresh start.

    A claim's files cannot be reached without a claim, so what was saved in the other kind of place is passed over.
    """
    spec, standing = task.spec.checkpoint, task.status.checkpoint
    if spec is None or standing is None:
        return None
    newest = OlderCheckpoint(uri=standing.uri, sha256=standing.sha256)
    known = [one for one in (newest, *(standing.older or ())) if one.uri.startswith("file:") == (spec.uri is None)]
    return Resume(newest=known[0], older=tuple(known[1:])) if known else None


def manifests_of(resume: Resume) -> tuple[str, ...]:
    """Return the manifests that an attempt is given, newest first."""
    return resume.newest.uri, *(one.uri for one in resume.older)


def resumed_by(pod: PodView, said: str | None) -> Resumed | None:
    """Return what *pod* went on from, where its worker *said* so: something that it was given, or empty for nothing."""
    if said is None or (said and said not in pod.resume):
        return None
    return Resumed(uri=said or None, attempt=pod.attempt, pod_uid=pod.uid)


def is_news(resumed: Resumed, attempts: Iterable[Attempt]) -> bool:
    """Return whether one of *attempts*, as it stands in the status, is shown to have gone on from something else."""
    own = (one for one in attempts if (one.number, one.pod_uid) == (resumed.attempt, resumed.pod_uid))
    return any(one.resumed_from != resumed.uri for one in own)


def after_redrive(task: LongTask) -> Checkpoint | None:
    """Return the checkpoint that a new run begins with."""
    spec = task.spec.checkpoint
    return None if spec and spec.on_redrive == "Discard" else task.status.checkpoint


def _following(status: LongTaskStatus, task: LongTask, offer: Offer, now: datetime) -> Checkpoint:
    before, spec = status.checkpoint, task.spec.checkpoint or CheckpointSpec()
    older = [OlderCheckpoint(uri=before.uri, sha256=before.sha256), *(before.older or ())] if before else []
    return Checkpoint(
        uri=offer.saved.uri,
        sha256=offer.saved.sha256,
        size_bytes=offer.saved.size_bytes,
        attempt=offer.attempt,
        time=format_time(_accepted_at(task, offer, now)),
        percent=status.progress.percent if status.progress else None,
        sequence=offer.sequence,
        older=older[: keep_of(spec) - 1] or None,
    )


def _accepted_at(task: LongTask, offer: Offer, now: datetime) -> datetime:
    """Return *now*, but in any case a second after the recorded stop of the attempt: times have whole seconds.

    So the next leader, too, sees that the worker has answered the stop, and does not wait for another one.
    """
    own = next((one for one in task.status.attempts or () if one.number == offer.attempt), None)
    stopped = parse_optional_time(own.stop_time) if own else None
    return max(now, stopped + timedelta(seconds=1)) if stopped else now


def _is_below(prefix: str, uri: str) -> bool:
    rest = uri.removeprefix(prefix)
    if rest == uri or not _BELOW.fullmatch(rest):
        return False
    return not {".", ".."} & set(rest.split("/"))
