"""Growing a running attempt in place, before the kernel kills it for memory.

The ledger is raised first, then the pod is asked for the next rung (`pods/resize`), then the status says
the size that the node has put in force. Where the entry is larger than the recorded size, a resize is under way, and
whoever finds it so goes forward: asks the pod, waits for the node, or, once the attempt says `resizeRefused`,
takes the wish back from the pod first and from the ledger last. So a tenant always holds the largest of what its
pod asks for and has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from longtask_operator.api.errors import SpecError
from longtask_operator.api.status import Attempt
from longtask_operator.core.attempt_size import size_of_attempt
from longtask_operator.core.current import CurrentAttempt, Observed
from longtask_operator.core.decision import Action, KeepEntry, LowerEntry, ResizePod, UndoResize
from longtask_operator.core.growth import ceiling_of, next_size
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.live_growth import LiveGrowth, grows_live
from longtask_operator.core.observe import PodSizes, PodView
from longtask_operator.core.policy import Policy
from longtask_operator.core.sizing import Size

INFEASIBLE, DEFERRED, REFUSED = "Infeasible", "Deferred", "Refused"
#: First words of `resizeRefused`, which are what metrics count.
OUTCOMES = (INFEASIBLE, DEFERRED, REFUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What the next step of growing in place is: none by default."""

    refused: str | None = None  #: why the node, or the cluster, does not give what was asked; goes into the status
    first: tuple[Action, ...] = ()
    then: tuple[Action, ...] = ()
    again_at: datetime | None = None


NOTHING = Step()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scene:
    """A running attempt of one pod: what it has by the record, by the ledger, and by its pod."""

    pod: PodView
    sizes: PodSizes
    recorded: Attempt
    size: Size  #: by the record
    entry: LedgerEntry


def resize_step(seen: Observed, attempt: CurrentAttempt, recorded: Attempt, policy: Policy) -> Step:
    """Return the next step for the running *attempt*; *recorded* is what the status is about to say of it."""
    scene = _scene_of(attempt, recorded)
    if scene is None:
        return NOTHING
    if not scene.entry.size.covers(scene.sizes.asked) and scene.sizes.asked in policy.ladder:
        # Another operator's request came late: what the pod asks for counts, whatever the quota says.
        return Step(first=(KeepEntry(entry=replace(scene.entry, size=scene.sizes.asked), tenant=_tenant_of(seen)),))
    if scene.entry.size != scene.size:
        return _go_on(seen, scene, policy.live_growth)
    wanted = None if recorded.resize_refused else _wanted(seen, scene, policy)
    if wanted is None:
        return NOTHING
    return _ask(seen, scene, wanted, policy.live_growth)


def memory_in_force(attempts: Sequence[Attempt], entry: LedgerEntry | None) -> int | None:
    """Return the bytes that the attempt of *entry* may use by now, or None without one.

    The record says what is in force. The entry may say more, while a resize is under way that the node may refuse.
    """
    if entry is None:
        return None
    recorded = attempts[-1] if attempts and attempts[-1].number == entry.attempt else None
    return (size_of_attempt(recorded) or entry.size).memory


def _scene_of(attempt: CurrentAttempt, recorded: Attempt) -> _Scene | None:
    """Return the scene, None where there is nothing to resize: the record of the start must stand before."""
    pod = attempt.pods[0] if len(attempt.pods) == 1 else None
    if pod is None or pod.sizes is None or attempt.entry is None:
        return None
    if attempt.recorded is None or not attempt.recorded.start_time or pod.running_since is None or pod.deleted_at:
        return None
    size = size_of_attempt(recorded)
    if size is None:
        return None
    return _Scene(pod=pod, sizes=pod.sizes, recorded=recorded, size=size, entry=attempt.entry)


def _wanted(seen: Observed, scene: _Scene, policy: Policy) -> Size | None:
    """Return the size that an attempt near its memory should have, None where it is not, or cannot grow."""
    alarm, resources = policy.live_growth.alarm(scene.size.memory), seen.task.spec.resources
    if alarm is None or seen.memory_used is None or seen.memory_used < alarm or not grows_live(resources):
        return None
    if scene.entry.handed_over:  # Kueue counts what it admitted, and would not see the rest
        return None
    if scene.pod.node_lost_at or scene.sizes.in_force is None or scene.sizes.asked != scene.size:
        return None
    try:
        return next_size(scene.size, policy.ladder, ceiling_of(resources))
    except SpecError:  # a ceiling that nobody can read: the wait for the next admission says so
        return None


def _ask(seen: Observed, scene: _Scene, wanted: Size, rule: LiveGrowth) -> Step:
    """Ask for *wanted*, unless that has just been tried in vain."""
    if trouble := seen.resize_trouble:
        if trouble.for_good:
            return Step(refused=trouble.message, again_at=seen.now)
        if seen.now < trouble.at + rule.try_again:
            return Step(again_at=trouble.at + rule.try_again)
    return Step(then=(ResizePod(pod=scene.pod, entry=replace(scene.entry, size=wanted)),))


def _go_on(seen: Observed, scene: _Scene, rule: LiveGrowth) -> Step:
    """Return the next step of a resize that the ledger says is under way."""
    asked, wanted = scene.sizes.asked, scene.entry.size
    if scene.recorded.resize_refused and not _grants_after_all(scene):
        return _take_back(seen, scene)
    if not asked.covers(wanted):
        return _ask(seen, scene, wanted, rule)
    if scene.sizes.in_progress:
        return NOTHING  # what the node has granted it brings about
    if scene.sizes.pending == INFEASIBLE:
        return Step(refused=f"{INFEASIBLE}: {scene.sizes.message}", again_at=seen.now)
    limit = (scene.pod.resizing_since or seen.now) + rule.defer_limit
    if seen.now < limit:
        return Step(again_at=limit)
    seconds = int(rule.defer_limit.total_seconds())
    said = scene.sizes.message or "the node did not say why"
    return Step(refused=f"{DEFERRED}: not within {seconds} s: {said}", again_at=seen.now)


def _grants_after_all(scene: _Scene) -> bool:
    """Whether the node has granted what the pod asks for: while that is pending, it brings about an earlier request.

    Memory is not shrunk under a running program (ADR 24). Once the size is in force, the record takes it over.
    """
    sizes = scene.sizes
    return sizes.asked.covers(scene.entry.size) and sizes.in_progress and not sizes.pending


def _take_back(seen: Observed, scene: _Scene) -> Step:
    if not scene.size.covers(scene.sizes.asked):
        return Step(then=(UndoResize(pod=scene.pod, size=scene.size),))
    entry = replace(scene.entry, size=scene.size)
    return Step(then=(LowerEntry(pod=scene.pod, entry=entry, tenant=_tenant_of(seen)),))


def _tenant_of(seen: Observed) -> str:
    return seen.task.status.tenant or seen.tenant or ""
