"""Who shares an idempotency key: an index of the tasks that have one, and of what such tasks left behind.

A task that is gone stays in the index while a ledger entry, a Job or a pod of it is known. Rivals
are woken when another one comes first, or the first one changed; never for a mere report of progress.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from longtask_operator.adapters.tasks import TaskRecord
from longtask_operator.api.errors import SpecError
from longtask_operator.api.keys import KeyClaim, differences
from longtask_operator.api.status import LongTaskStatus
from longtask_operator.core.duplicates import Claimant, Rivals, contest, counting_for, yields_to
from longtask_operator.core.observe import JobView, PodView, judged_at
from longtask_operator.engines.context import Context
from longtask_operator.engines.ledgers import Ledgers

Group = tuple[str, str]  #: namespace and key
_Said = tuple[tuple[str, KeyClaim | None], ...]


class Keys:
    """The index; fed by the caches. *wake* takes the key of a task for the work queue."""

    def __init__(self, context: Context, ledgers: Ledgers, wake: Callable[[str], None]) -> None:
        self._context, self._ledgers, self._wake = context, ledgers, wake
        self._members: dict[Group, dict[str, str]] = {}  #: names by uid
        self._group_of: dict[str, Group] = {}
        self._said: dict[Group, _Said] = {}
        caches = context.caches
        caches.tasks.listeners.append(self._task_changed)
        caches.jobs.listeners.append(self._child_changed)
        caches.pods.listeners.append(self._child_changed)

    def rivals(self, uid: str) -> Iterator[str]:
        """Yield the uids of the other tasks with the key of *uid*."""
        group = self._group_of.get(uid)
        yield from (other for other in self._members.get(group, ()) if other != uid) if group else ()

    def rivals_of(self, record: TaskRecord) -> Rivals | None:
        """Return what *record* has to know of those that share its key; None without others."""
        group = self._group_of.get(record.uid)
        if group is None or len(self._members[group]) == 1:
            return None
        claimants = self._claimants(group)
        me = next((one for one in claimants if one.uid == record.uid), None)
        if me is None:
            return None
        holder, done = contest(claimants)
        finished = counting_for(me, done)
        other = yields_to(me, holder, finished)
        differing = self._differing(record, other) if other and _differs(me, other) else []
        outcome = self._record(group[0], finished) if finished and other is finished and not differing else None
        return Rivals(
            me=me, holder=holder, finished=finished, outcome=_status(outcome) if outcome else None, differing=differing
        )

    def waking(self, wake: Callable[[str], None]) -> Callable[[str], None]:
        """Return *wake* for the admission loop: what it says of a task may concern those with the same key."""

        def wake_all(key: str) -> None:
            wake(key)
            self._told(key)

        return wake_all

    def _told(self, key: str) -> None:
        namespace, _, name = key.partition("/")
        record = self._context.caches.tasks.get(namespace, name)
        if record and (group := self._group_of.get(record.uid)):
            self._look_at(group)

    def _task_changed(self, before: TaskRecord | None, after: TaskRecord | None) -> None:
        for record in (before, after):
            if record and record.claim:
                self._enrol((record.namespace, record.claim.key), record.uid, record.name)
        for uid in {record.uid for record in (before, after) if record and record.claim}:
            self._look_at(self._group_of[uid])

    def _child_changed(self, before: JobView | PodView | None, after: JobView | PodView | None) -> None:
        if after and after.key:
            self._enrol((after.namespace, after.key), after.task_uid, after.task_name)

    def _enrol(self, group: Group, uid: str, name: str) -> None:
        if uid not in self._group_of:
            self._group_of[uid] = group
            self._members.setdefault(group, {})[uid] = name

    def _look_at(self, group: Group) -> None:
        """Wake everybody with the key if another one comes first now, or the first one changed."""
        claimants = self._claimants(group)
        if not claimants:
            self._members.pop(group, None)
            self._said.pop(group, None)
            return
        holder, done = contest(claimants)
        said = tuple(_said(one) for one in (holder, *done))
        if said == self._said.get(group):
            return
        self._said[group] = said
        for claimant in claimants:
            if claimant.claim:
                self._wake(f"{group[0]}/{claimant.name}")

    def _claimants(self, group: Group) -> list[Claimant]:
        """Return all who claim the key of *group*; those of whom nothing is left are forgotten."""
        found = []
        for uid, name in list(self._members.get(group, {}).items()):
            record = self._context.caches.tasks.get(group[0], name)
            claim = record.claim if record and record.uid == uid else None
            holds, lives = self._ledgers.entry(uid) is not None, self._lives(f"{group[0]}/{name}", uid)
            if claim or holds or lives:
                found.append(Claimant(name=name, uid=uid, claim=claim, holds=holds, lives=lives))
            else:
                del self._members[group][uid], self._group_of[uid]
        return found

    def _lives(self, key: str, uid: str) -> bool:
        """Whether a Job of the task may start a pod, or a pod of it may run."""
        caches, now = self._context.caches, self._context.clock.now()
        pods = [judged_at(pod, now) for pod in caches.pods.group(key) if pod.task_uid == uid]
        if any(not pod.is_terminal for pod in pods):
            return True
        over = {pod.attempt for pod in pods}
        jobs = [job for job in caches.jobs.group(key) if job.task_uid == uid]
        return any(not job.finished and job.attempt not in over for job in jobs)

    def _record(self, namespace: str, claimant: Claimant) -> TaskRecord | None:
        record = self._context.caches.tasks.get(namespace, claimant.name)
        return record if record and record.uid == claimant.uid else None

    def _differing(self, record: TaskRecord, other: Claimant) -> list[str]:
        rival = self._record(record.namespace, other)
        return differences(record.body()["spec"], rival.body()["spec"]) if rival else []


def _said(claimant: Claimant | None) -> tuple[str, KeyClaim | None]:
    return (claimant.uid, claimant.claim) if claimant else ("", None)


def _differs(me: Claimant, other: Claimant) -> bool:
    return me.claim is not None and other.claim is not None and me.claim.fingerprint != other.claim.fingerprint


def _status(record: TaskRecord) -> LongTaskStatus | None:
    """Return the status of *record*, or None where an older schema left one that cannot be read."""
    try:
        return record.parse().status
    except SpecError:
        return None
