"""Of the tasks of a namespace with one idempotency key one runs; which one, and what the others do.

Whoever has an attempt keeps the key, then whoever stands in the ledger, then the older one, by
creation and uid. The others wait and take over the outcome. A ledger entry is the lock: the
admission loop admits nobody whose key another entry stands for. A task that is gone keeps its key
until nothing of it lives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from longtask_operator.api.keys import KeyClaim
from longtask_operator.api.phases import TERMINAL, Phase
from longtask_operator.api.reasons import ConditionType, QueueReason
from longtask_operator.api.status import Condition, DuplicateOf, LongTaskStatus
from longtask_operator.core.conditions import FALSE, Wanted, with_conditions
from longtask_operator.core.lifecycle import Situation
from longtask_operator.core.queueing import Candidate

#: Nothing tells when what a task that is gone has left behind is let go of, so look again.
LOOK_AGAIN = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimant:
    """One task with the key. Without a *claim* it is gone, and only what it left behind counts."""

    name: str
    uid: str
    claim: KeyClaim | None
    holds: bool  #: a ledger holds an entry of it
    lives: bool  #: a Job or a pod of it may run

    @property
    def is_leaving(self) -> bool:
        """Whether it is deleted or being deleted."""
        return self.claim is None or self.claim.deleting

    @property
    def is_finished(self) -> bool:
        """Whether its outcome is there and stays."""
        return self.claim is not None and bool(self.claim.finished_at) and not self.claim.deleting

    @property
    def taken_from(self) -> str:
        """The uid of the task whose outcome it has taken over, or an empty string."""
        return self.claim.taken_from if self.claim else ""

    @property
    def contests(self) -> bool:
        """Whether it runs, or wants to."""
        return self.holds or self.lives or not (self.is_leaving or self.is_finished)

    @property
    def is_going(self) -> bool:
        """Whether it only has to let go of what is left of its attempts."""
        return self.is_leaving or (self.is_finished and self.contests)

    @property
    def has_begun(self) -> bool:
        """Whether an attempt of its present run is known."""
        begun = self.claim is not None and self.claim.begun and not self.claim.finished_at
        return self.lives or begun or (self.holds and self.is_leaving)

    @property
    def rank(self) -> tuple[int, str, str]:
        """The order in which tasks get the key, lowest first."""
        lives = self.lives or (self.holds and self.is_leaving)
        strength = 0 if lives else 1 if self.has_begun else 2 if self.holds else 3
        return strength, self.claim.created if self.claim else "", self.uid


@dataclass(frozen=True, slots=True, kw_only=True)
class Rivals:
    """What one task knows of those that share its key."""

    me: Claimant
    holder: Claimant | None  #: who runs, or may run next; may be *me*
    finished: Claimant | None  #: whose outcome is one for *me*
    outcome: LongTaskStatus | None = None  #: of *finished*
    differing: Sequence[str] = ()  #: fields by which the one that *me* yields to would run something else
    is_awaited: bool = False  #: whether another one waits for the outcome of *me*


@dataclass(frozen=True, slots=True, kw_only=True)
class Yields:
    """The task does not run, because of *to*; *outcome* is to be taken over."""

    to: Claimant
    outcome: LongTaskStatus | None = None
    differing: Sequence[str] = ()

    @property
    def conflicts(self) -> bool:
        """Whether the other would run, or ran, something else."""
        return bool(self.differing)

    @property
    def reason(self) -> QueueReason:
        """Why the task waits, in a word."""
        return QueueReason.KEY_CONFLICT if self.conflicts else QueueReason.DUPLICATE

    @property
    def message(self) -> str:
        """The same in a sentence."""
        if self.conflicts:
            fields = ", ".join(f"spec.{field}" for field in self.differing)
            return (
                f"LongTask {self.to.name} has the same idempotencyKey and differs in {fields}; "
                "delete one of the two, or create this one anew with another key"
            )
        if self.to.is_leaving:
            return f"LongTask {self.to.name} with the same idempotencyKey is deleted, and its attempt may still live"
        if self.to.claim and self.to.claim.suspended and not self.to.is_finished:
            return (
                f"LongTask {self.to.name} has the same idempotencyKey, comes first and is suspended; "
                "resume that one, or delete it and this one runs"
            )
        return f"LongTask {self.to.name} has the same idempotencyKey and comes first; its outcome will be taken over"


def contest(claimants: Iterable[Claimant]) -> tuple[Claimant | None, list[Claimant]]:
    """Return who runs or may run next of *claimants*, and who has an outcome.

    That is who finished last of those that ran, and who took over last what none that is there has to tell.
    """
    field = list(claimants)
    holder = min((one for one in field if one.contests), key=lambda one: one.rank, default=None)
    done = [one for one in field if one.is_finished and one.claim and not one.claim.is_apart]
    ran = max((one for one in done if not one.taken_from), key=_end_of, default=None)
    told = ran.uid if ran else ""
    copy = max((one for one in done if one.taken_from not in ("", told)), key=_end_of, default=None)
    return holder, [one for one in (ran, copy) if one]


def counting_for(me: Claimant, done: Iterable[Claimant]) -> Claimant | None:
    """Return whose outcome is one for *me*, the last of several; None where there is none."""
    return max((one for one in done if _counts(one, me)), key=_end_of, default=None)


def awaits(other: Claimant, me: Claimant) -> bool:
    """Whether *other*, which has not finished, is about to take over the outcome of *me*."""
    if other.claim is None or me.claim is None or me.claim.is_apart or other.is_leaving or other.is_finished:
        return False
    if other.claim.begun or other.claim.suspended:
        return False
    return other.claim.fingerprint == me.claim.fingerprint and _counts(me, other)


def yields_to(me: Claimant, holder: Claimant | None, finished: Claimant | None) -> Claimant | None:
    """Return to whom *me*, which is not finished, yields, or None if it may run; *finished* has an outcome for it."""
    ahead = holder if holder and holder.uid != me.uid else None
    if me.has_begun or (ahead and ahead.has_begun and not ahead.is_finished):
        return ahead
    return finished or ahead


def judge(rivals: Rivals | None) -> Yields | None:
    """Return what a task that is not finished yields to, or None if it may run."""
    if rivals is None:
        return None
    other = yields_to(rivals.me, rivals.holder, rivals.finished)
    if other is None:
        return None
    takes_over = other is rivals.finished and not rivals.differing
    return Yields(to=other, outcome=rivals.outcome if takes_over else None, differing=rivals.differing)


def take_over(status: LongTaskStatus, yields: Yields) -> tuple[LongTaskStatus, Situation] | None:
    """Return *status* with the result of the other task, and the situation that its outcome puts this one in.

    None where the other's status does not say how it ended.
    """
    outcome = yields.outcome
    if outcome is None or outcome.phase not in TERMINAL:
        return None
    said = f"taken over from LongTask {yields.to.name}, which has the same idempotencyKey"
    conditions = tuple(
        _wanted(condition, said, again=outcome.duplicate_of is not None)
        for condition in outcome.conditions or ()
        if condition.type in set(ConditionType)
    )
    situation = Situation(phase=Phase(outcome.phase), reason=outcome.reason or "", conditions=conditions)
    ran = outcome.duplicate_of or named(yields.to)
    taken = {"result": outcome.result, "dead_lettered": outcome.dead_lettered, "duplicate_of": ran}
    return status.model_copy(update=taken), situation


def ended_apart(status: LongTaskStatus, yields: Yields | None, *, generation: int, now: datetime) -> LongTaskStatus:
    """Return *status* of a task that ends by its own cancel or deadline while it yields: its end is nobody else's."""
    if yields is None:
        return status
    kept = [condition for condition in status.conditions or () if condition.type != ConditionType.ADMITTED]
    waits = Wanted(type=ConditionType.ADMITTED, status=FALSE, reason=yields.reason, message=yields.message)
    admitted = with_conditions(status.conditions or (), [waits], generation=generation, now=now)
    return status.model_copy(update={"conditions": [*admitted, *kept], "duplicate_of": None})


def named(claimant: Claimant) -> DuplicateOf:
    """Return *claimant* as the status names it."""
    return DuplicateOf(name=claimant.name, uid=claimant.uid)


def one_of_each_key(
    admitted: Sequence[Candidate], rivals_of: Callable[[str], Iterable[str]], holds: Callable[[str], bool]
) -> tuple[list[Candidate], list[Candidate]]:
    """Return those of *admitted* that may stand in the ledger, and those whose key another entry stands for.

    *rivals_of* names the other tasks with the key of a task, by uid; *holds* tells of an entry.
    """
    kept: dict[str, Candidate] = {}
    blocked = []
    for candidate in admitted:
        uid = candidate.entry.uid
        if any(other in kept or holds(other) for other in rivals_of(uid)) and not holds(uid):
            blocked.append(candidate)
        else:
            kept[uid] = candidate
    return list(kept.values()), blocked


def _counts(finished: Claimant, me: Claimant) -> bool:
    """Whether an outcome is one for *me*: a redrive asks for a new one, so that older ones do not count.

    Of one that was taken over nobody knows how old it is.
    """
    if finished.claim is None or me.claim is None or finished.uid == me.uid:
        return False
    return me.claim.run == 1 or (not finished.taken_from and finished.claim.finished_at > me.claim.run_start)


def _end_of(finished: Claimant) -> tuple[str, str]:
    return (finished.claim.finished_at if finished.claim else "", finished.uid)


def _wanted(condition: Condition, said: str, *, again: bool) -> Wanted:
    """Return *condition* with a message that says where it comes from; what was taken over already says so."""
    message = condition.message if again else f"{said}: {condition.message}".rstrip(": ")
    return Wanted(type=ConditionType(condition.type), status=condition.status, reason=condition.reason, message=message)
