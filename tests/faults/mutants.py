"""Planted bugs, by name: each breaks one promise, and a sweep that does not find it proves nothing.

They live in the memory of a forked operator only; no code of the operator knows of them.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from longtask_operator.adapters.kube import Kube
from longtask_operator.api.reasons import Cause
from longtask_operator.api.status import LongTaskStatus, Progress, Result
from longtask_operator.core import liveness, reconcile, steer, waits
from longtask_operator.core.causes import AttemptEnd
from longtask_operator.core.decision import DeleteTask
from longtask_operator.core.jobs import build_job
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.ledger_layout import Content, format_ledger
from longtask_operator.core.observe import PodView
from longtask_operator.core.queueing import Candidate
from longtask_operator.core.room import Room
from longtask_operator.core.stop_waits import told_to_end
from longtask_operator.engines import apply, live_pods
from longtask_operator.engines.admission_loop import AdmissionLoop
from longtask_operator.engines.apply import Applier
from longtask_operator.engines.claims import Claims
from longtask_operator.engines.editions import Editions
from longtask_operator.engines.evictions import Evictions
from longtask_operator.engines.ledgers import Ledgers
from longtask_operator.engines.persons import Persons


def ignores_quota() -> None:
    """Admit whoever waits, whatever the quota says."""
    Room.fits = Room.could_fit = lambda self, tenant, demand: True  # type: ignore[method-assign]


def outgrows_entry() -> None:
    """Let a task have what its spec asks for by now, whatever its entry was admitted for."""
    anew = Candidate.admitted_anew
    Candidate.admitted_anew = lambda self, before: anew(self, before) or self  # type: ignore[method-assign]
    reconcile._outgrown = lambda seen, attempt, size: ""


def job_twice() -> None:
    """Make a second Job for an attempt, as a name that is not derived from the attempt would."""
    create = Applier._create_job

    async def twice(self: Applier, action: Any, seen: Any) -> None:
        await create(self, action, seen)
        meta = seen.task.metadata
        path = f"/apis/batch/v1/namespaces/{meta.namespace}/jobs"
        name = f"{meta.name}-{meta.uid[:6]}-{action.entry.attempt}"
        body = await self.context.kube.get(f"{path}/{name}")
        for key in ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"):
            body["metadata"].pop(key, None)
        body["metadata"]["name"] = f"{name}-b"
        body["spec"].pop("selector", None)
        for labels in (body["metadata"]["labels"], body["spec"]["template"]["metadata"]["labels"]):
            for key in [key for key in labels if "controller-uid" in key or "job-name" in key]:
                del labels[key]
        body.pop("status", None)
        await self.context.kube.create(path, body)

    Applier._create_job = twice  # type: ignore[method-assign]


def number_left_out() -> None:
    """Begin with attempt 2."""

    def later(**fields: Any) -> LedgerEntry:
        return LedgerEntry(**{**fields, "attempt": max(2, fields["attempt"])})

    vars(waits)["LedgerEntry"] = later


def two_pods_per_job() -> None:
    """Make Jobs that run two pods."""

    def doubled(*args: Any, **more: Any) -> Any:
        body = build_job(*args, **more)
        body["spec"] |= {"parallelism": 2, "completions": 2}
        return body

    vars(apply)["build_job"] = doubled


def deleted_is_over() -> None:
    """Take a pod for over as soon as it is told to end, though its container still runs."""
    is_terminal = PodView.is_terminal.fget  # type: ignore[attr-defined]
    PodView.is_terminal = property(lambda self: is_terminal(self) or self.deleted_at is not None)  # type: ignore[method-assign,assignment]


def early_release() -> None:
    """Give the place in the ledger back a second after the Job was made."""
    create = Applier._create_job

    async def released(self: Applier, action: Any, seen: Any) -> None:
        await create(self, action, seen)
        entry = action.entry
        asyncio.get_running_loop().call_later(1.0, self.admission.release, action.tenant, entry.uid, entry.attempt)

    Applier._create_job = released  # type: ignore[method-assign]
    AdmissionLoop.keep = lambda self, tenant, entry, key: None  # type: ignore[method-assign]


def never_released() -> None:
    """Never give a place in the ledger back."""
    AdmissionLoop.release = lambda self, tenant, uid, attempt: None  # type: ignore[method-assign]


def no_reservation() -> None:
    """Change entries in memory only: a Job is made before its entry stands."""
    write_it = Ledgers.write

    async def write(self: Any, name: str, tenants: Any) -> bool:
        ledger = self.ledger(name)
        if tenants == ledger.tenants:  # what quotas the ledger goes by is no entry
            return await write_it(self, name, tenants)
        urgent = {rider.key: rider.text(name, ledger.tenants, tenants) for rider in self.riders if rider.urgent}
        content = Content(tenants=tenants, further={**ledger.content.further, **urgent})
        self._set(ledger, ledger.version, content, format_ledger(name, content))
        return True

    Ledgers.write = write  # type: ignore[method-assign]


def forgotten_finalizer() -> None:
    """Never let go of a pod."""

    async def nothing(self: Applier, pod: Any) -> None:
        return

    Applier._release_pod = nothing  # type: ignore[method-assign]


def blind_ledger_write() -> None:
    """Write the ledger without its version: of two operators the later one wins."""
    replace_it = Kube.replace

    async def blindly(self: Kube, path: str, body: Any) -> Any:
        if "/configmaps/" in path:
            body = {**body, "metadata": {k: v for k, v in body["metadata"].items() if k != "resourceVersion"}}
        return await replace_it(self, path, body)

    Kube.replace = blindly  # type: ignore[method-assign]


def editions_unasked() -> None:
    """Take the quotas that are known here for what the API server says, whatever edition a ledger goes by."""

    async def nothing(self: Editions, tenants: Any) -> None:
        return

    Editions._ask = nothing  # type: ignore[method-assign]


def limits_unchecked() -> None:
    """Admit by the limits that are known here, and leave the editions in the ledgers as they are."""

    async def admits(self: Editions, name: str) -> bool:
        return True

    Editions.admits = admits  # type: ignore[method-assign]


def persons_unwritten() -> None:
    """Leave to the tasks whom their attempts count for."""
    Persons.text = lambda self, name, before, after: ""  # type: ignore[method-assign]


def resize_unreserved() -> None:
    """Let a pod ask for more without raising the ledger before."""

    async def granted(self: AdmissionLoop, uid: str, entry: Any) -> str:
        return ""

    AdmissionLoop.raise_entry = granted  # type: ignore[method-assign]


def claims_unwritten() -> None:
    """Let others give way to a task without a word in the ledger, and without asking for one."""

    def plan(self: Claims, name: str, claims: Any) -> None:
        self._standing[name] = claims
        self._spare(name, claims)

    Claims.plan = plan  # type: ignore[method-assign]
    Claims.text = lambda self, name, before, after: ""  # type: ignore[method-assign]
    Claims.take_in = lambda self, name, text: None  # type: ignore[method-assign]

    async def confirm(self: Evictions, uid: str, attempt: int, tenant: str) -> None:
        return

    Evictions.confirm = confirm  # type: ignore[method-assign]


def tells_too_soon() -> None:
    """Tell a worker of a cancel before the stop stands in the status."""
    vars(live_pods)["told_to_end"] = lambda *args: bool(args[2].cancel) or told_to_end(*args)


def never_tells() -> None:
    """Never tell a worker of a cancel."""
    vars(live_pods)["told_to_end"] = lambda *args: False


def stop_forgotten() -> None:
    """Take the exit of a worker that was told to end for its own."""
    vars(steer)["stop_of"] = lambda attempt: None


def warning_ends() -> None:
    """End an attempt for what is only to be warned of."""
    vars(liveness)["_still_limit"] = lambda spec, watched: timedelta(seconds=1)


def silent_is_dead() -> None:
    """Take an attempt for over as soon as its silence was judged, though its container still runs."""
    vars(steer)["_end_of"] = partial(_dead_if_silent, steer._end_of)


def _dead_if_silent(end_of: Any, attempt: Any) -> Any:
    dead = AttemptEnd(cause=Cause.HEARTBEAT_LOST, message="silent")
    return end_of(attempt) or (dead if attempt.stop is Cause.HEARTBEAT_LOST else None)


def deletes_finished() -> None:
    """Delete a task that nobody wanted deleted, as soon as it is finished."""
    settled = reconcile._settled

    def deleted(seen: Any, status: Any, leftovers: Any) -> Any:
        decision = settled(seen, status, leftovers)
        return decision if leftovers else replace(decision, then=(*decision.then, DeleteTask()))

    reconcile._settled = deleted


def _writing(lie: Callable[[LongTaskStatus], LongTaskStatus | None]) -> Callable[[], None]:
    """Return the plant that writes what *lie* makes of each status; None: write nothing."""

    def planted() -> None:
        write = Applier.write_status

        async def lying(self: Applier, record: Any, status: LongTaskStatus) -> Any:
            said = lie(status)
            return None if said is None else await write(self, record, said)

        Applier.write_status = lying  # type: ignore[method-assign]

    planted.__doc__ = lie.__doc__
    return planted


def _with_ends(status: LongTaskStatus, **changes: Any) -> LongTaskStatus:
    """Return *status* with *changes* made to the record of every attempt that has ended."""
    attempts = [one.model_copy(update=changes if one.completion_time else {}) for one in status.attempts or ()]
    return status.model_copy(update={"attempts": attempts or None})


@_writing
def finish_moves(status: LongTaskStatus) -> LongTaskStatus:
    """Write another end of the run each time."""
    return status.model_copy(update={"completion_time": _another_time()}) if status.completion_time else status


@_writing
def number_falls(status: LongTaskStatus) -> LongTaskStatus:
    """Say in the end that no attempt was made; that there was one has been said before, when it failed."""
    return status.model_copy(update={"attempt": 0}) if status.completion_time else status


@_writing
def number_ahead(status: LongTaskStatus) -> LongTaskStatus:
    """Say the number of an attempt that is still to come."""
    return status.model_copy(update={"attempt": 9}) if status.completion_time else status


@_writing
def progress_falls(status: LongTaskStatus) -> LongTaskStatus:
    """Say in the end that less was done than before."""
    return status.model_copy(update={"progress": Progress(done=1 if status.completion_time else 99)})


@_writing
def end_rewritten(status: LongTaskStatus) -> LongTaskStatus:
    """Write another end of each attempt each time."""
    return _with_ends(status, completion_time=_another_time())


@_writing
def wrong_exit_code(status: LongTaskStatus) -> LongTaskStatus:
    """Say another exit code than the container did."""
    return _with_ends(status, exit_code=77)


@_writing
def outcome_lost(status: LongTaskStatus) -> LongTaskStatus:
    """Say of every attempt that its end is not known."""
    return _with_ends(status, cause="Lost")


@_writing
def never_finishes(status: LongTaskStatus) -> LongTaskStatus | None:
    """Keep the end of a run for itself."""
    return None if status.completion_time else status


@_writing
def history_forgotten(status: LongTaskStatus) -> LongTaskStatus:
    """Keep no record of attempts in the end."""
    return status.model_copy(update={"attempts": None}) if status.completion_time else status


@_writing
def counted_twice(status: LongTaskStatus) -> LongTaskStatus:
    """Count more attempts than there were."""
    return status.model_copy(update={"attempt_totals": {"completed": 2}}) if status.completion_time else status


@_writing
def result_made_up(status: LongTaskStatus) -> LongTaskStatus:
    """Say another result than the worker did."""
    return status.model_copy(update={"result": Result(value={"rows": 8})}) if status.result else status


_seconds = itertools.cycle(range(60))


def _another_time() -> str:
    return f"2026-01-01T00:00:{next(_seconds):02d}Z"


MUTANTS: dict[str, Callable[[], None]] = {
    found.__name__.replace("_", "-"): found
    for found in (
        ignores_quota,
        outgrows_entry,
        job_twice,
        number_left_out,
        two_pods_per_job,
        deleted_is_over,
        early_release,
        never_released,
        no_reservation,
        forgotten_finalizer,
        blind_ledger_write,
        editions_unasked,
        limits_unchecked,
        persons_unwritten,
        resize_unreserved,
        claims_unwritten,
        tells_too_soon,
        never_tells,
        stop_forgotten,
        warning_ends,
        silent_is_dead,
        deletes_finished,
    )
} | {
    "finish-moves": finish_moves,
    "number-falls": number_falls,
    "number-ahead": number_ahead,
    "progress-falls": progress_falls,
    "end-rewritten": end_rewritten,
    "wrong-exit-code": wrong_exit_code,
    "outcome-lost": outcome_lost,
    "never-finishes": never_finishes,
    "history-forgotten": history_forgotten,
    "counted-twice": counted_twice,
    "result-made-up": result_made_up,
}


def plant(name: str) -> None:
    """Plant the bug called *name* into this process; none for an empty name. Raises KeyError for an unknown one."""
    if name:
        MUTANTS[name]()
