"""Who shares an idempotency key: an index of the tasks that have one, and of what such tasks left behind.

A task that is gone stays in the index while a ledger entry, a Job or a pod of it is known. Rivals
are woken when another one comes first, or the first one changed; never for a mere report of progress,
nor for one more of them that has taken over what all of them may.

Another operator may have admitted a task that has not been heard of here. While a ledger has a line of such a stranger,
nobody with a key is admitted before the API server has said who else has that key: what it says is newer than the line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from longtask_operator.adapters.kube import resource_path
from longtask_operator.adapters.tasks import TaskRecord, observe_task
from longtask_operator.api.errors import SpecError
from longtask_operator.api.keys import KeyClaim, differences
from longtask_operator.api.names import API_VERSION, LONGTASK_PLURAL
from longtask_operator.api.status import LongTaskStatus
from longtask_operator.core.duplicates import Claimant, Rivals, awaits, contest, counting_for, yields_to
from longtask_operator.core.observe import JobView, PodView, judged_at
from longtask_operator.engines.context import Context
from longtask_operator.engines.key_groups import KeyGroup
from longtask_operator.engines.ledgers import Ledgers

Group = tuple[str, str]  #: namespace and key
#: Uid, claim, and whether an attempt of it is known.
_Named = tuple[str, KeyClaim | None, bool]
_NOBODY: _Named = ("", None, False)
#: Who runs or may run next, and who has an outcome.
_Said = tuple[_Named, list[_Named]]


class Keys:
    """The index; fed by the caches. *wake* takes the key of a task for the work queue."""

    def __init__(self, context: Context, ledgers: Ledgers, wake: Callable[[str], None]) -> None:
        self._context, self._ledgers, self._wake = context, ledgers, wake
        self._groups: dict[Group, KeyGroup] = {}
        self._group_of: dict[str, Group] = {}
        self._said: dict[Group, _Said] = {}
        self._strangers: set[str] = set()  #: uids of lines that came while their tasks were not known here
        #: Told a uid; returns namespace/name of the task where it is known here and has not finished.
        self.known: Callable[[str], str] = lambda uid: uid
        caches = context.caches
        caches.tasks.listeners.append(self._task_changed)
        caches.jobs.listeners.append(self._child_changed)
        caches.pods.listeners.append(self._child_changed)
        ledgers.appeared += [self._came, self._reconsider, self._met]
        ledgers.vanished += [self._reconsider, self._strangers.discard]

    def __len__(self) -> int:
        """Return how many tasks the index knows."""
        return len(self._group_of)

    def rivals(self, uid: str) -> Iterator[str]:
        """Yield the uids of the other tasks with the key of *uid*."""
        group = self._group_of.get(uid)
        yield from (other for other in self._groups[group].names if other != uid) if group else ()

    def rivals_of(self, record: TaskRecord) -> Rivals | None:
        """Return what *record* has to know of those that share its key; None without others."""
        group = self._group_of.get(record.uid)
        if group is None or len(self._groups[group].names) == 1:
            return None
        me = self._claimant(group, record.uid)
        holder, done = contest(self._claimants(group))
        finished = counting_for(me, done)
        other = yields_to(me, holder, finished)
        differing = self._differing(record, other) if other and _differs(me, other) else []
        outcome = self._record(group[0], finished) if finished and other is finished and not differing else None
        return Rivals(
            me=me,
            holder=holder,
            finished=finished,
            outcome=_status(outcome) if outcome else None,
            differing=differing,
            is_awaited=me.is_finished and self._is_awaited(group, me),
        )

    async def learn(self, uids: Iterable[str]) -> None:
        """Ask who else has the keys of *uids*, where a ledger has lines of strangers. Raises ApiError."""
        groups = dict.fromkeys(group for uid in uids if (group := self._group_of.get(uid))) if self._strangers else ()
        for namespace, key in groups:
            wanted = {"fieldSelector": f"spec.idempotencyKey={_escaped(key)}"}
            path = resource_path(API_VERSION, LONGTASK_PLURAL, namespace)
            async for page in self._context.kube.list_pages(path, wanted):
                for body in page["items"]:
                    self._context.caches.tasks.put(observe_task(body))

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

    def _met(self, uid: str) -> None:
        if not self.known(uid):
            self._strangers.add(uid)

    def _task_changed(self, before: TaskRecord | None, after: TaskRecord | None) -> None:
        if after:
            self._strangers.discard(after.uid)
        for record in (before, after):
            if record and record.claim:
                self._enrol((record.namespace, record.claim.key), record.uid, record.name)
        if before and (after is None or after.uid != before.uid):
            self._put(before.uid, None)
        if after:
            self._put(after.uid, after.claim)
        concerned = [self._group_of.get(record.uid) for record in (before, after) if record]
        for group in dict.fromkeys(group for group in concerned if group):
            self._look_at(group)

    def _put(self, uid: str, claim: KeyClaim | None) -> None:
        if group := self._group_of.get(uid):
            self._groups[group].put(uid, claim)
            if claim is None:
                self._groups[group].doubtful.add(uid)

    def _child_changed(self, before: JobView | PodView | None, after: JobView | PodView | None) -> None:
        for child in (before, after):
            if child and child.key:
                self._enrol((child.namespace, child.key), child.task_uid, child.task_name)
            if child:
                self._came(child.task_uid)
        if before and (after is None or after.uid != before.uid):
            self._reconsider(before.task_uid)

    def _came(self, uid: str) -> None:
        """Take note that an entry, a Job or a pod of a task may be there."""
        if group := self._group_of.get(uid):
            self._groups[group].doubtful.add(uid)

    def _reconsider(self, uid: str) -> None:
        """Look at those with the key of a task that has an entry now, or of which the last thing may have gone."""
        if group := self._group_of.get(uid):
            self._look_at(group)

    def _enrol(self, group: Group, uid: str, name: str) -> None:
        if uid not in self._group_of:
            self._group_of[uid] = group
            members = self._groups.setdefault(group, KeyGroup())
            members.names[uid] = name
            members.doubtful.add(uid)

    def _look_at(self, group: Group) -> None:
        """Wake those with the key whom it concerns that another one comes first now, or the first one changed."""
        claimants = self._claimants(group)
        members = self._groups[group]
        if not members.names:
            del self._groups[group]
            self._said.pop(group, None)
            return
        holder, done = contest(claimants)
        said = (_named(holder), [_named(one) for one in done])
        before = self._said.get(group, (_NOBODY, []))
        if said == before:
            return
        self._said[group] = said
        for uid in list(_concerned(members, before, said)):
            self._wake(f"{group[0]}/{members.names[uid]}")

    def _claimants(self, group: Group) -> list[Claimant]:
        """Return those who may decide who gets the key of *group*; those of whom nothing is left are forgotten."""
        members, found = self._groups[group], []
        for uid in members.notable():
            claimant = self._claimant(group, uid)
            if claimant.claim or claimant.holds or claimant.lives:
                found.append(claimant)
                if not (claimant.holds or claimant.lives):
                    members.doubtful.discard(uid)
            else:
                members.forget(uid)
                del self._group_of[uid]
        return found

    def _claimant(self, group: Group, uid: str) -> Claimant:
        members = self._groups[group]
        claimant = members.bare(uid)
        if uid not in members.doubtful:
            return claimant
        holds, lives = self._ledgers.entry(uid) is not None, self._lives(f"{group[0]}/{claimant.name}", uid)
        return replace(claimant, holds=holds, lives=lives)

    def _is_awaited(self, group: Group, me: Claimant) -> bool:
        members = self._groups[group]
        return any(awaits(members.bare(uid), me) for uid in members.waiting)

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


def _escaped(value: str) -> str:
    """Return *value* for a field selector."""
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")


def _named(claimant: Claimant | None) -> _Named:
    return (claimant.uid, claimant.claim, claimant.has_begun) if claimant else _NOBODY


def _concerned(members: KeyGroup, before: _Said, now: _Said) -> set[str]:
    """Return the uids of those whom it concerns that not *before* is so, but *now*.

    Where there is an outcome, whose turn it would be without it concerns nobody but who asks for a new one.
    """
    (holder, done), (known, ends) = now, before
    only_turns = bool(done) and done == ends and not (holder[2] or known[2])
    return members.redriven if only_turns else members.waiting


def _differs(me: Claimant, other: Claimant) -> bool:
    return me.claim is not None and other.claim is not None and me.claim.fingerprint != other.claim.fingerprint


def _status(record: TaskRecord) -> LongTaskStatus | None:
    """Return the status of *record*, or None where an older schema left one that cannot be read."""
    try:
        return record.parse().status
    except SpecError:
        return None
