"""Which size the next attempt gets, and why: what was asked for, or what a run needed before.

Without a request it is what the size of the inputs suggests, else what attempts of the same kind
needed before, else the smallest.
A size that was needed once is kept: `status.sizing` says it, and the attempt that ran out of memory
last. It is given up when `spec.resources` asks for something else than it did then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from longtask_operator.api.errors import SpecError
from longtask_operator.api.longtask import LongTask, Resources
from longtask_operator.api.quantity import format_cpu, format_memory, parse_cpu, parse_memory
from longtask_operator.api.reasons import Cause, SizeSource
from longtask_operator.api.status import Attempt, LongTaskStatus, Sizing
from longtask_operator.core.growth import Ceiling, ceiling_of, grown_size
from longtask_operator.core.sizing import Ladder, Size, asked_cpu, asked_memory, rungs_of

_MESSAGES: Mapping[SizeSource, str] = {
    SizeSource.REQUESTED: "asked for in spec.resources",
    SizeSource.SMALLEST: "no size was asked for; this is the smallest",
}
#: Sizes that a task keeps until its spec asks for something else.
_KEPT = (SizeSource.OUT_OF_MEMORY, SizeSource.LIVE, SizeSource.HISTORY, SizeSource.INPUT_HINT)


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeChoice:
    """A size, where it comes from, and the same in a sentence."""

    size: Size
    source: SizeSource
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """What is known of the need of a task that asks for no memory: bytes, where that is from, why, and a bound.

    Without *memory* nothing is, and the message says why. *asked*: since when an answer is awaited that may say more.
    """

    memory: int | None
    source: SizeSource
    message: str
    most: Ceiling = field(default_factory=Ceiling)  #: no size beyond it is suggested
    asked: datetime | None = None


def choose_size(
    resources: Resources | None, status: LongTaskStatus, ladder: Ladder, suggestion: Suggestion | None = None
) -> SizeChoice:
    """Return the size of the attempt that starts next.

    Raises:
        SpecError: if what is asked for is not on the ladder or contradicts itself.
    """
    _check_ceiling(resources, ladder)
    start, kept = _start(resources, ladder, suggestion), _kept(resources, status, ladder)
    return kept if kept and kept.size.memory > start.size.memory else start


def choice_after_oom(size: Size, number: int, resources: Resources | None, ladder: Ladder) -> SizeChoice | None:
    """Return the size after attempt *number* ran out of memory at *size*, or None if it cannot grow. Raises SpecError.

    A size that the ladder does not hold any more grows as any other.
    """
    grown = grown_size(size, resources, ladder)
    message = f"{format_memory(size.memory)} ran out of memory in attempt {number}"
    return SizeChoice(size=grown, source=SizeSource.OUT_OF_MEMORY, message=message) if grown else None


def choice_of_resize(before: Size, after: Size, number: int) -> SizeChoice:
    """Return the size that attempt *number* was given while it ran."""
    message = f"{format_memory(before.memory)} was nearly used up in attempt {number}, which was resized while it ran"
    return SizeChoice(size=after, source=SizeSource.LIVE, message=message)


def sizing_at_start(
    size: Size, task: LongTask, status: LongTaskStatus, ladder: Ladder, suggestion: Suggestion | None = None
) -> Sizing:
    """Return what the status says of an attempt that was admitted with *size*; what was said of it before stays."""
    said, requested = status.sizing, requested_text(task.spec.resources)
    if said and said.display == size.display and said.requested in (None, requested):
        return said
    try:
        choice = choose_size(task.spec.resources, status, ladder, suggestion)
    except SpecError:
        choice = None
    if choice is None or choice.size != size:
        source = _source_of(size, task.spec.resources, ladder, suggestion)
        choice = SizeChoice(size=size, source=source, message="as decided when the attempt was admitted")
    return sizing_of(choice, task.spec.resources)


def sizing_of(choice: SizeChoice, resources: Resources | None) -> Sizing:
    """Return `status.sizing` of *choice*."""
    return Sizing(
        cpu=format_cpu(choice.size.cpu),
        memory=format_memory(choice.size.memory),
        display=choice.size.display,
        source=str(choice.source),
        message=choice.message[:1024],
        requested=requested_text(resources),
    )


def requested_text(resources: Resources | None) -> str:
    """Return what a spec asks for in one form, `500m/Auto`; what is no quantity stays as it is."""
    resources = resources or Resources()
    try:
        cpu, memory = asked_cpu("cpu", resources.cpu), asked_memory("memory", resources.memory)
    except SpecError:
        return f"{resources.cpu}/{resources.memory}"[:41]
    return f"{'Auto' if cpu is None else format_cpu(cpu)}/{'Auto' if memory is None else format_memory(memory)}"


def size_of_attempt(attempt: Attempt | None) -> Size | None:
    """Return the size that is recorded of *attempt*, or None."""
    if attempt is None or not attempt.cpu or not attempt.memory:
        return None
    return Size(cpu=parse_cpu(attempt.cpu), memory=parse_memory(attempt.memory))


def _start(resources: Resources | None, ladder: Ladder, suggestion: Suggestion | None) -> SizeChoice:
    ceiling = ceiling_of(resources)
    allowed = [rung for rung in rungs_of(resources, ladder) if ceiling.allows(rung)]
    if not allowed:
        raise SpecError("spec.resources", "maxCpu and maxMemory leave no size; raise one of them or leave it out")
    if suggestion and (size := _suggested(suggestion, resources, allowed)):
        return SizeChoice(size=size, source=suggestion.source, message=suggestion.message)
    size = allowed[0]
    source = SizeSource.REQUESTED if _asks(resources) else SizeSource.SMALLEST
    unknown = f"; {suggestion.message}" if suggestion and suggestion.memory is None else ""
    return SizeChoice(size=size, source=source, message=_MESSAGES[source] + unknown)


def _suggested(suggestion: Suggestion, resources: Resources | None, allowed: list[Size]) -> Size | None:
    """Return the cheapest of the *allowed* rungs that has the suggested memory, else the largest within its bound."""
    if suggestion.memory is None or (resources and resources.memory is not None):
        return None
    within = tuple(rung for rung in allowed if suggestion.most.allows(rung))
    return _fitted(Size(cpu=0, memory=suggestion.memory), within, Ceiling())


def _source_of(size: Size, resources: Resources | None, ladder: Ladder, suggestion: Suggestion | None) -> SizeSource:
    """Return where an admitted size comes from of which nothing else is known any more."""
    if resources and resources.memory is not None:
        return SizeSource.REQUESTED
    try:
        start = _start(resources, ladder, None)
    except SpecError:
        return SizeSource.REQUESTED
    if start.size.memory >= size.memory:
        return start.source
    if suggestion is None:
        return SizeSource.HISTORY
    return SizeSource.INPUT_HINT if suggestion.asked else suggestion.source  # another size than the past suggests


def _asks(resources: Resources | None) -> bool:
    return resources is not None and (resources.cpu is not None or resources.memory is not None)


def _kept(resources: Resources | None, status: LongTaskStatus, ladder: Ladder) -> SizeChoice | None:
    """Return the size that the task needed before, within its ceiling of today, or None."""
    if status.sizing and status.sizing.requested not in (None, requested_text(resources)):
        return None
    found = [choice for choice in (_after_last(resources, status, ladder), _said(status)) if choice]
    if not found:
        return None
    needed = max(found, key=lambda choice: choice.size.memory)
    size = _fitted(needed.size, ladder, ceiling_of(resources))
    return SizeChoice(size=size, source=needed.source, message=needed.message) if size else None


def _after_last(resources: Resources | None, status: LongTaskStatus, ladder: Ladder) -> SizeChoice | None:
    """Return what follows if the newest attempt ran out of memory; the same size again where it cannot grow."""
    last = status.attempts[-1] if status.attempts else None
    size = size_of_attempt(last)
    if last is None or size is None or last.cause != Cause.OUT_OF_MEMORY or last.completion_time is None:
        return None
    message = f"{format_memory(size.memory)} ran out of memory in attempt {last.number} and cannot grow"
    stays = SizeChoice(size=size, source=SizeSource.OUT_OF_MEMORY, message=message)
    return choice_after_oom(size, last.number, resources, ladder) or stays


def _said(status: LongTaskStatus) -> SizeChoice | None:
    sizing = status.sizing
    if sizing is None or sizing.source not in _KEPT:
        return None
    size = Size(cpu=parse_cpu(sizing.cpu), memory=parse_memory(sizing.memory))
    return SizeChoice(size=size, source=SizeSource(sizing.source), message=sizing.message or "")


def _fitted(size: Size, ladder: Ladder, ceiling: Ceiling) -> Size | None:
    """Return the cheapest rung that is at least *size*, else the largest within *ceiling*: either may have changed."""
    allowed = [rung for rung in ladder if ceiling.allows(rung)]
    enough = [rung for rung in allowed if rung.memory >= size.memory and rung.cpu >= size.cpu]
    if enough:
        return min(enough, key=lambda rung: (rung.memory, rung.cpu))
    return max(allowed, key=lambda rung: (rung.memory, -rung.cpu), default=None)


def _check_ceiling(resources: Resources | None, ladder: Ladder) -> None:
    """Raise SpecError where a ceiling is not on the ladder or below what is asked for."""
    ceiling = ceiling_of(resources)
    if resources is None or ceiling == Ceiling():
        return
    cpu, memory = asked_cpu("cpu", resources.cpu), asked_memory("memory", resources.memory)
    _check_one("maxCpu", ceiling.cpu, cpu, sorted({rung.cpu for rung in ladder}), format_cpu)
    _check_one("maxMemory", ceiling.memory, memory, sorted({rung.memory for rung in ladder}), format_memory)


def _check_one(name: str, value: int | None, asked: int | None, steps: list[int], shown: Callable[[int], str]) -> None:
    if value is None:
        return
    if value not in steps:
        raise SpecError(f"spec.resources.{name}", f"must be one of {', '.join(map(shown, steps))}, or left out")
    if asked is not None and value < asked:
        field = name.removeprefix("max").lower()
        message = f"{shown(value)} is less than {field}, {shown(asked)}; raise it or leave it out"
        raise SpecError(f"spec.resources.{name}", message)
