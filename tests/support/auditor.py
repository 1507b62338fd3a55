"""The auditor: replays etcd's history and says where a promise of LongTask was broken.

It shares no code with the operator and believes nothing that the operator says of itself:
what a pod's container did is held against what the status tells of it, at every revision.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tests.support.auditor_history import Change
from tests.support.auditor_protobuf import Json

UID, ATTEMPT = "longtask.dev/task-uid", "longtask.dev/attempt"
FINALIZER = "longtask.dev/accounting"
LEDGER_PREFIX = "longtask-ledger-"
CLAIMS = "preemption.claims"
#: How it is said of an attempt that it is stopped for another task, and not for a drained quota or by Kueue.
GAVE_WAY = ("gives way to ", "gives back what it borrowed")
Amounts = tuple[int, int]  #: milliCPU, MiB


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A broken promise: which rule, at which revision, of which object."""

    rule: str
    revision: int
    about: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """How a task must have ended: *causes* of its attempts in order, *result* as stored in `status.result.value`."""

    phase: str
    causes: tuple[str, ...] | None = None
    result: Json | None = None


@dataclass(slots=True)
class _World:
    """The cluster at one revision, and what must be remembered of earlier ones."""

    tasks: dict[str, Json] = field(default_factory=dict)  #: by uid
    jobs: dict[tuple[str, int], Json] = field(default_factory=dict)  #: by task uid and attempt
    pods: dict[str, Json] = field(default_factory=dict)  #: by pod uid
    ledgers: dict[str, dict[str, int]] = field(default_factory=dict)  #: name -> task uid -> attempt
    held: dict[str, dict[str, Amounts]] = field(default_factory=dict)  #: name -> task uid -> what the attempt holds
    job_of: dict[str, tuple[str, int]] = field(default_factory=dict)  #: namespace/name -> key in jobs
    uid_of: dict[str, str] = field(default_factory=dict)  #: kind/namespace/name -> uid
    highest: dict[str, int] = field(default_factory=lambda: defaultdict(int))  #: numbers used up by now
    admitted: set[tuple[str, int]] = field(default_factory=set)  #: attempts that ever stood in a ledger
    given_up: set[tuple[str, int]] = field(default_factory=set)  #: of these, those that were counted before their Job
    pods_of: dict[tuple[str, int], set[str]] = field(default_factory=lambda: defaultdict(set))
    exits: dict[tuple[str, int], int] = field(default_factory=dict)  #: exit code of each attempt's container
    ended: dict[tuple[str, int], Json] = field(default_factory=dict)  #: recorded ends
    gone: set[str] = field(default_factory=set)  #: uids of tasks that were deleted
    claimed: set[tuple[str, int]] = field(default_factory=set)  #: attempts that a claim in a ledger ever named
    refused: set[tuple[str, int]] = field(default_factory=set)  #: status.attempt while RefusedByCluster was said

    def ledger_of(self, uid: str) -> int | None:
        """Return the newest attempt that stands in a ledger for this task; a ledger that was left may have an older."""
        return max((entries[uid] for entries in self.ledgers.values() if uid in entries), default=None)

    def held_by(self, uid: str) -> Amounts:
        """Return the most that a ledger holds for this task."""
        found = [entries[uid] for entries in self.held.values() if uid in entries]
        return max((cpu for cpu, _ in found), default=0), max((memory for _, memory in found), default=0)


class Auditor:
    """Feed it changes with `replay`; `violations` is what it found."""

    def __init__(self) -> None:
        self._world = _World()
        self.violations: list[Violation] = []

    def replay(self, changes: Iterable[Change]) -> Auditor:
        """Take in *changes* in their order."""
        takers = {"LongTask": self._task, "Job": self._job, "Pod": self._pod, "ConfigMap": self._ledger}
        for change in changes:
            if change.kind in takers:
                takers[change.kind](change)
        return self

    def finish(self, expected: Mapping[str, Expected] | None = None) -> list[Violation]:
        """Check what must be so at rest, *expected* by `namespace/name`, and return all violations."""
        for uid, task in self._world.tasks.items():
            self._check_rest(uid, task)
        for pod in self._world.pods.values():
            if FINALIZER in (pod["metadata"].get("finalizers") or []):
                self._found("LeftFinalizer", 0, _key(pod), "the pod still carries our finalizer")
        for name, entries in self._world.ledgers.items():
            for uid, attempt in entries.items():
                if uid in self._world.tasks or uid in self._world.gone:
                    self._found("LeftLedgerEntry", 0, name, f"attempt {attempt} of {uid} still stands in the ledger")
        for key, wanted in (expected or {}).items():
            self._check_expected(key, wanted)
        return self.violations

    # Changes of each kind.

    def _task(self, change: Change) -> None:
        world, key = self._world, f"LongTask/{change.namespace}/{change.name}"
        if change.body is None:
            uid = world.uid_of.pop(key, "")
            world.tasks.pop(uid, None)
            world.gone.add(uid)
            return
        uid = change.body["metadata"]["uid"]
        before = world.tasks.get(uid, {})
        world.uid_of[key], world.tasks[uid] = uid, change.body
        self._check_status(change, uid, before.get("status") or {}, change.body.get("status") or {})

    def _job(self, change: Change) -> None:
        world, key = self._world, f"{change.namespace}/{change.name}"
        if change.body is None:
            world.jobs.pop(world.job_of.pop(key, ("", 0)), None)
            return
        owner = _attempt_of(change.body)
        if owner is None:
            return
        if key not in world.job_of:
            self._check_new_job(change, owner)
        world.job_of[key], world.jobs[owner] = owner, change.body

    def _pod(self, change: Change) -> None:
        world, key = self._world, f"Pod/{change.namespace}/{change.name}"
        if change.body is None:
            self._pod_went(world.uid_of.pop(key, ""))
            return
        owner = _attempt_of(change.body)
        if owner is None:
            return
        uid = change.body["metadata"]["uid"]
        world.uid_of[key], world.pods[uid] = uid, change.body
        world.pods_of[owner].add(uid)
        code = exit_code_of(change.body)
        if code is not None:
            world.exits.setdefault(owner, code)
        self._check_pods(change, owner)
        self._check_sizes(change, owner[0])

    def _pod_went(self, uid: str) -> None:
        """Forget a pod. One that went with our finalizer on it was erased behind the API server's back."""
        pod = self._world.pods.pop(uid, None)
        if pod and FINALIZER in (pod["metadata"].get("finalizers") or []) and (owner := _attempt_of(pod)):
            self._world.pods_of[owner].discard(uid)  # that its Job makes another one is not the operator's doing

    def _ledger(self, change: Change) -> None:
        if not change.name.startswith(LEDGER_PREFIX):
            return
        before, lines = self._world.ledgers.get(change.name, {}), ledger_text(change.body).splitlines()
        self._world.claimed |= victims_of(change.body)
        self._world.ledgers[change.name] = {line.split()[0]: int(line.split()[1]) for line in lines}
        self._world.admitted |= set(self._world.ledgers[change.name].items())
        held = {line.split()[0]: (int(line.split()[3]), int(line.split()[4])) for line in lines}
        touched = [uid for uid, amounts in self._world.held.get(change.name, {}).items() if held.get(uid) != amounts]
        self._world.held[change.name] = held
        for uid, attempt in before.items():
            if not any(entries.get(uid) == attempt for entries in self._world.ledgers.values()):
                self._check_release(change, uid, attempt)
        for uid in touched:
            self._check_sizes(change, uid)

    # Rules that hold at every revision.

    def _check_new_job(self, change: Change, owner: tuple[str, int]) -> None:
        uid, attempt = owner
        highest = self._world.highest[uid]
        if attempt <= highest:
            was = "given up" if owner in self._world.given_up else f"made before; the newest was {highest}"
            self._at(change, "AttemptReused", f"attempt {attempt} has a Job, and was {was}")
        elif attempt != highest + 1:
            self._at(change, "AttemptGap", f"attempt {attempt} follows {highest}")
        self._world.highest[uid] = max(highest, attempt)
        if self._world.ledger_of(uid) != attempt:
            self._at(change, "LedgerFirst", f"the Job of attempt {attempt} exists before its ledger entry")

    def _check_pods(self, change: Change, owner: tuple[str, int]) -> None:
        uid, attempt = owner
        live = [pod["metadata"]["name"] for pod in self._pods_of(uid) if is_live(pod)]
        if len(live) > 1:
            self._at(change, "OneLivePod", f"{len(live)} pods of one task live at once: {', '.join(sorted(live))}")
        if len(self._world.pods_of[owner]) > 1:
            self._at(change, "PodPerAttempt", f"attempt {attempt} got more than one pod")

    def _check_sizes(self, change: Change, uid: str) -> None:
        """While an attempt stands in the ledger, that holds at least what its pod asks for."""
        attempt, held = self._world.ledger_of(uid), self._world.held_by(uid)
        for pod in self._pods_of(uid):
            asked = asked_of(pod)
            if asked and is_live(pod) and _attempt_of(pod) == (uid, attempt) and not _covers(held, asked):
                self._at(change, "SizeUnreserved", f"{_key(pod)} asks for {asked}, the ledger holds {held} for it")

    def _check_release(self, change: Change, uid: str, attempt: int) -> None:
        for pod in self._pods_of(uid):
            if is_live(pod) and _attempt_of(pod) == (uid, attempt):
                self._at(change, "EarlyRelease", f"attempt {attempt} left the ledger while its pod {_key(pod)} lives")

    def _check_status(self, change: Change, uid: str, before: Json, after: Json) -> None:
        self._check_terminal(change, before, after)
        self._check_numbers(change, uid, before, after)
        self._check_progress(change, before, after)
        if (after.get("queue") or {}).get("reason") == "RefusedByCluster":
            self._world.refused.add((uid, after.get("attempt") or 0))
        for attempt in after.get("attempts") or []:
            if attempt.get("cause") == "Preempted":
                self._check_stop(change, (uid, attempt["number"]), attempt.get("message") or "")
            if attempt.get("completionTime"):
                self._check_end(change, uid, attempt)

    def _check_terminal(self, change: Change, before: Json, after: Json) -> None:
        if not is_finished(before) or (after.get("run") or 0) > (before.get("run") or 0):
            return
        for name in ("phase", "completionTime", "result", "run"):
            if before.get(name) != after.get(name):
                self._at(
                    change,
                    "TerminalChanged",
                    f"{name} of a finished run changed from {before.get(name)} to {after.get(name)}",
                )
        if not is_finished(after):
            self._at(change, "TerminalChanged", "a finished run is unfinished again")

    def _check_numbers(self, change: Change, uid: str, before: Json, after: Json) -> None:
        if (after.get("attempt") or 0) < (before.get("attempt") or 0):
            self._at(
                change, "AttemptFell", f"status.attempt fell from {before.get('attempt')} to {after.get('attempt')}"
            )
        number, highest = after.get("attempt") or 0, self._world.highest[uid]
        if number == highest + 1 and (uid, number) in self._world.admitted:
            self._world.given_up.add((uid, number))
            self._world.highest[uid] = number
        elif number > highest:
            self._at(change, "AttemptWithoutJob", f"status.attempt is {number}, which never had a Job")

    def _check_progress(self, change: Change, before: Json, after: Json) -> None:
        old, new = before.get("progress") or {}, after.get("progress") or {}
        same = (before.get("attempt"), before.get("run")) == (after.get("attempt"), after.get("run"))
        if same and new and (new.get("done") or 0) < (old.get("done") or 0):
            self._at(change, "ProgressFell", f"progress fell from {old.get('done')} to {new.get('done')}")

    def _check_stop(self, change: Change, owner: tuple[str, int], message: str) -> None:
        """Nobody is stopped for another task before a claim in a ledger names it."""
        if message.startswith(GAVE_WAY) and owner not in self._world.claimed:
            self._at(change, "StoppedUnclaimed", f"attempt {owner[1]} is stopped, no claim ever named it: {message}")

    def _check_end(self, change: Change, uid: str, attempt: Json) -> None:
        """Hold a recorded end against the earlier record of it, or, the first time, against the pod."""
        owner = (uid, attempt["number"])
        known = self._world.ended.get(owner)
        if known is None:
            self._world.ended[owner] = attempt
            self._check_new_end(change, owner, attempt)
            return
        for name in ("cause", "exitCode", "completionTime", "run", "podUid"):
            if known.get(name) != attempt.get(name):
                self._at(
                    change,
                    "EndRewritten",
                    f"{name} of ended attempt {owner[1]} changed from {known.get(name)} to {attempt.get(name)}",
                )

    def _check_new_end(self, change: Change, owner: tuple[str, int], attempt: Json) -> None:
        world, number = self._world, owner[1]
        code, cause = world.exits.get(owner), attempt.get("cause")
        for pod in self._pods_of(owner[0]):
            given_up = cause == "Lost" and is_forced(pod)
            if _attempt_of(pod) == owner and is_live(pod) and exit_code_of(pod) is None and not given_up:
                self._at(change, "EndedAlive", f"attempt {number} is recorded as ended while {_key(pod)} runs")
        if attempt.get("exitCode") != code:
            self._at(
                change, "ExitCode", f"attempt {number}: recorded {attempt.get('exitCode')}, the container said {code}"
            )
        if cause == "Completed" and code != 0:
            self._at(change, "ExitCode", f"attempt {number} is Completed, the container's exit code was {code}")
        # One that was given up with its node may be ended by the very deletion that gives it up.
        if cause == "Lost" and code is not None and "stopTime" not in attempt:
            self._at(change, "OutcomeLost", f"attempt {number} is Lost, but its container ended with {code}")

    # Rules that hold at rest.

    def _check_rest(self, uid: str, task: Json) -> None:
        status = task.get("status") or {}
        if not is_finished(status):
            self._found("Unfinished", 0, _key(task), f"the task did not finish; phase {status.get('phase')}")
            return
        ended = {number for owner, number in self._world.ended if owner == uid}
        for number in range(1, self._world.highest[uid] + 1):
            begun = (uid, number) not in self._world.given_up and not self._was_refused(uid, number)
            if begun and number not in ended:
                self._found("Unaccounted", 0, _key(task), f"attempt {number} had a Job, but its end is not recorded")
        total = sum((status.get("attemptTotals") or {}).values())
        if total != len(ended):
            self._found(
                "Counts", 0, _key(task), f"attemptTotals add up to {total}, attempts that ended are {len(ended)}"
            )

    def _was_refused(self, uid: str, number: int) -> bool:
        """Whether the status said that the cluster refused this attempt's pod, and no pod of it ever was there."""
        return (uid, number) in self._world.refused and not self._world.pods_of[uid, number]

    def _check_expected(self, key: str, wanted: Expected) -> None:
        uid = self._world.uid_of.get(f"LongTask/{key}")
        if uid is None:
            self._found("LostTask", 0, key, "the task is gone")
            return
        status = self._world.tasks[uid].get("status") or {}
        causes = tuple(
            str(self._world.ended[owner].get("cause")) for owner in sorted(self._world.ended) if owner[0] == uid
        )
        found = {"phase": status.get("phase"), "causes": causes, "result": (status.get("result") or {}).get("value")}
        for name, value in (("phase", wanted.phase), ("causes", wanted.causes), ("result", wanted.result)):
            if value is not None and found[name] != value:
                self._found("Expected", 0, key, f"{name} is {found[name]}, its script makes it {value}")

    def _pods_of(self, uid: str) -> Iterator[Json]:
        return (pod for pod in self._world.pods.values() if pod["metadata"]["labels"].get(UID) == uid)

    def _at(self, change: Change, rule: str, message: str) -> None:
        self._found(rule, change.revision, f"{change.namespace}/{change.name}", message)

    def _found(self, rule: str, revision: int, about: str, message: str) -> None:
        self.violations.append(Violation(rule=rule, revision=revision, about=about, message=message))


def ledger_text(body: Json | None) -> str:
    """Return all lines of attempts of a ledger, of all its tenants: a cohort's has a data key for each."""
    data = (body or {}).get("data") or {}
    return "".join(lines for key, lines in data.items() if "." not in key)


def victims_of(body: Json | None) -> set[tuple[str, int]]:
    """Return the task uid and number of each attempt that gives way by the claims of a ledger."""
    lines = ((body or {}).get("data") or {}).get(CLAIMS, "").splitlines()
    named = [name.split("/") for line in lines for name in line.split()[4:]]
    return {(uid, int(number)) for uid, number in named}


def is_live(pod: Json) -> bool:
    """Tell whether a container of *pod* may still run: not over, and not deleted before it had a node."""
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return False
    return not (pod["metadata"].get("deletionTimestamp") and not (pod.get("spec") or {}).get("nodeName"))


def is_forced(pod: Json) -> bool:
    """Tell whether *pod* was deleted by force: only our finalizer shows it, and nobody need ever say how it ended."""
    meta = pod["metadata"]
    return bool(meta.get("deletionTimestamp")) and meta.get("deletionGracePeriodSeconds") == 0


def exit_code_of(pod: Json) -> int | None:
    """Return the exit code of the task container, or None while it has none.

    The kubelet makes one up, 137, for a container that never ran or that it lost.
    """
    for container in (pod.get("status") or {}).get("containerStatuses") or []:
        terminated = (container.get("state") or {}).get("terminated")
        made_up = terminated is not None and terminated.get("reason") == "ContainerStatusUnknown"
        if container.get("name") == "task" and terminated is not None and not made_up:
            return int(terminated.get("exitCode") or 0)
    return None


def asked_of(pod: Json) -> Amounts | None:
    """Return what the task container of *pod* is limited to, None where it is not."""
    for container in (pod.get("spec") or {}).get("containers") or []:
        limits = (container.get("resources") or {}).get("limits") or {}
        if container.get("name") == "task" and {"cpu", "memory"} <= set(limits):
            return milli(limits["cpu"]), mebi(limits["memory"])
    return None


def milli(cpu: str) -> int:
    """Return milliCPU."""
    return int(cpu.removesuffix("m")) if cpu.endswith("m") else int(cpu) * 1000


def mebi(memory: str) -> int:
    """Return MiB."""
    units = {"Mi": 1, "Gi": 1024}
    return int(memory[:-2]) * units[memory[-2:]] if memory[-2:] in units else int(memory) // 2**20


def _covers(held: Amounts, asked: Amounts) -> bool:
    return held[0] >= asked[0] and held[1] >= asked[1]


def is_finished(status: Json) -> bool:
    """Tell whether the condition Finished is true."""
    return any(c.get("type") == "Finished" and c.get("status") == "True" for c in status.get("conditions") or [])


def _attempt_of(body: Json) -> tuple[str, int] | None:
    labels = body["metadata"].get("labels") or {}
    number = str(labels.get(ATTEMPT, ""))
    return (labels[UID], int(number)) if UID in labels and number.isdigit() else None


def _key(body: Json) -> str:
    return f"{body['metadata'].get('namespace', '')}/{body['metadata']['name']}"
