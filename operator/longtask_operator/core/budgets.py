"""Rolling budgets: how many CPU-hours and GiB-hours a tenant may hold within a window of time.

What counts is what the ledger's lines hold, from admission until no pod is left. That amount changes only when
the ledger is written, so the sum up to each write rides along in that very write and is exact, whoever dies:
`advance` adds what was held since. The window rolls in steps of a 24th of its length; a step that has begun to
leave it counts until all of it has left, so never more than the budget is spent in any window. A step keeps its own
length when the window is changed: it leaves the new window no sooner than what was held in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from longtask_operator.api.quantity import MEBIBYTE
from longtask_operator.api.tenantquota import TenantQuotaSpec
from longtask_operator.api.times import format_time, parse_time
from longtask_operator.core.quota import Amounts

STEPS = 24
WARN_PERCENT = 80
_MS_PER_HOUR = 3_600_000
#: Length of the steps in which is counted what is held while nobody knows the budgets: a month of it takes 25 kB.
_BLIND_STEP_MS = _MS_PER_HOUR

State = Literal["Ok", "Warning", "Spent"]
#: Of what is said of a spent budget, what time alone changes.
_PASSING = re.compile(r"[0-9.]+(?= of )|(?<=; it recovers from ).*$")
_RECOVERS = "; it recovers from "


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a tenant may hold within *window*; None does not limit."""

    name: str
    window: timedelta
    cpu_hours: int | None = None
    memory_gib_hours: int | None = None
    warn_percent: int = WARN_PERCENT
    only_warns: bool = False

    @property
    def step_ms(self) -> int:
        """Length of a step, in milliseconds."""
        return max(1, int(self.window.total_seconds() * 1000) // STEPS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What was held in one step of a window that begins at *start* (milliseconds since the epoch)."""

    start: int
    cpu: int = 0  #: millicore-milliseconds
    memory: int = 0  #: MiB-milliseconds
    length: int = 0  #: milliseconds; 0 where an older operator wrote it: as long as the steps of its budget are now

    @property
    def end(self) -> int:
        """When the step ends, in milliseconds since the epoch."""
        return self.start + self.length


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What a tenant has held, by budget, up to *as_of* (milliseconds since the epoch)."""

    as_of: int
    steps: Mapping[str, tuple[Step, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetUse:
    """How far a budget is used."""

    budget: Budget
    cpu_hours: float
    memory_gib_hours: float
    recovers_at: datetime | None = None  #: when it is no longer spent if nothing more is held; None if it is not spent

    @property
    def percent(self) -> int:
        """Share used of the resource that is used most, rounded down."""
        shares = [
            used * 100 / limit
            for used, limit in (
                (self.cpu_hours, self.budget.cpu_hours),
                (self.memory_gib_hours, self.budget.memory_gib_hours),
            )
            if limit
        ]
        return int(max(shares, default=0))

    @property
    def state(self) -> State:
        """Whether the budget is spent, or near it."""
        if self.percent >= 100:
            return "Spent"
        return "Warning" if self.percent >= self.budget.warn_percent else "Ok"


def budgets_of(spec: TenantQuotaSpec) -> tuple[Budget, ...]:
    """Return the budgets that a TenantQuota sets."""
    return tuple(
        Budget(
            name=budget.name,
            window=timedelta(seconds=budget.window_seconds),
            cpu_hours=budget.cpu_hours,
            memory_gib_hours=budget.memory_gib_hours,
            warn_percent=budget.warn_percent or WARN_PERCENT,
            only_warns=budget.when_spent == "WarnOnly",
        )
        for budget in spec.budgets or ()
    )


def advance(spending: Spending | None, budgets: Sequence[Budget], held: Amounts, now: datetime) -> Spending:
    """Return *spending* up to *now*, with *held* since it was last known; what has left its window is dropped.

    A clock that went back adds nothing. Budgets that are no longer there are forgotten; new ones begin empty: what was
    held before is none of theirs.
    """
    now_ms = _ms(now)
    if spending is None:
        return Spending(as_of=now_ms, steps={budget.name: () for budget in budgets})
    since, until, known = spending.as_of, max(now_ms, spending.as_of), spending.steps
    return Spending(
        as_of=until,
        steps={
            budget.name: _advanced(known[budget.name], budget, held, since=since, until=until)
            if budget.name in known
            else ()
            for budget in budgets
        },
    )


def advance_blindly(spending: Spending, held: Amounts, now: datetime) -> Spending:
    """Return *spending* up to *now*, with *held* since it was last known, where its budgets cannot be read now.

    Nothing is dropped: how long their windows are is not known.
    """
    until = max(_ms(now), spending.as_of)
    added = list(_held(held, _BLIND_STEP_MS, spending.as_of, until)) if held.concurrency else []
    return Spending(as_of=until, steps={name: _appended(steps, added) for name, steps in spending.steps.items()})


def uses_of(spending: Spending, budgets: Iterable[Budget]) -> list[BudgetUse]:
    """Return how far each budget is used as of the time of *spending*."""
    return [_use_of(budget, spending.steps.get(budget.name, ())) for budget in budgets]


def blocking(uses: Iterable[BudgetUse]) -> BudgetUse | None:
    """Return the first budget that lets nothing start, or None."""
    return next((use for use in uses if use.state == "Spent" and not use.budget.only_warns), None)


def describe_spent(uses: Iterable[BudgetUse], origin: str) -> str:
    """Return in a sentence which budget lets nothing start, or an empty string; *origin* names the quota."""
    use = blocking(uses)
    if use is None:
        return ""
    recovers = f"{_RECOVERS}{format_time(use.recovers_at)}" if use.recovers_at else ""
    return f"budget {use.budget.name} of {origin} is spent: {_amounts(use)}{recovers}"


def is_overdue(spent: str, now: datetime) -> bool:
    """Whether the budget of which `describe_spent` said *spent* was to have room again by *now*."""
    moment = spent.partition(_RECOVERS)[2]
    return bool(moment) and parse_time(moment) <= now


def lasting_of(spent: str) -> tuple[str, ...]:
    """Return the parts of what `describe_spent` says that only another budget changes."""
    return tuple(part for part in _PASSING.split(spent) if part)


def parse_spending(text: str) -> Spending:
    """Return the spending in *text*. Raises ValueError if it is malformed."""
    head, *lines = text.split("\n")
    steps = {}
    for line in filter(None, lines):
        name, _, rest = line.partition(" ")
        steps[name] = tuple(_parse_step(word) for word in rest.split())
    return Spending(as_of=int(head), steps=steps)


def format_spending(spending: Spending) -> str:
    """Return *spending* as text: its time, then a line `name start:cpu:memory:length …` for each budget."""
    lines = [" ".join([name, *map(_format_step, steps)]) for name, steps in sorted(spending.steps.items())]
    return "\n".join([str(spending.as_of), *lines])


def _advanced(steps: tuple[Step, ...], budget: Budget, held: Amounts, *, since: int, until: int) -> tuple[Step, ...]:
    length, leaves = budget.step_ms, until - int(budget.window.total_seconds() * 1000)
    remembered = [step for step in _remembered(steps, length, since) if step.end > leaves]
    added = _held(held, length, max(since, leaves // length * length), until) if held.concurrency else ()
    return _merged(sorted([*remembered, *added], key=lambda step: (step.end, step.start)), length)


def _appended(steps: tuple[Step, ...], added: Iterable[Step]) -> tuple[Step, ...]:
    """Return *steps* and *added*, of which the first may be of the step that the last of *steps* is."""
    found = list(steps)
    for step in added:
        last = found[-1] if found else None
        if last and (last.start, last.length) == (step.start, step.length):
            found[-1] = replace(last, cpu=last.cpu + step.cpu, memory=last.memory + step.memory)
        else:
            found.append(step)
    return tuple(found)


def _held(held: Amounts, length: int, begin: int, until: int) -> Iterator[Step]:
    """Yield the steps of *length* in which *held* was held from *begin* to *until*."""
    memory = held.memory // MEBIBYTE
    while begin < until:
        start = begin // length * length
        end = min(until, start + length)
        yield Step(start=start, cpu=held.cpu * (end - begin), memory=memory * (end - begin), length=length)
        begin = end


def _remembered(steps: Iterable[Step], length: int, since: int) -> Iterator[Step]:
    """Yield *steps*, written at *since*, with their ends; *length* is that of the budget's steps now.

    A step of another length, made before the window was changed, gets nothing more: it ends then at the latest.
    """
    for step in steps:
        own = step.length or length
        yield replace(step, length=own if own == length else min(own, since - step.start))


def _merged(steps: Iterable[Step], length: int) -> tuple[Step, ...]:
    """Return *steps*, in the order of their ends, with those in one that take no more than *length* together.

    So they stay few, however often the window is changed. A merged step holds all of each, so nothing leaves too soon.
    """
    merged: list[Step] = []
    for step in steps:
        last = merged[-1] if merged else step
        start = min(last.start, step.start)
        if merged and step.end - start <= length:
            cpu, memory = last.cpu + step.cpu, last.memory + step.memory
            merged[-1] = Step(start=start, cpu=cpu, memory=memory, length=step.end - start)
        else:
            merged.append(step)
    return tuple(merged)


def _use_of(budget: Budget, steps: tuple[Step, ...]) -> BudgetUse:
    use = _sum(budget, steps)
    return replace(use, recovers_at=_recovery(budget, steps)) if use.state == "Spent" else use


def _sum(budget: Budget, steps: Sequence[Step]) -> BudgetUse:
    return BudgetUse(
        budget=budget,
        cpu_hours=sum(step.cpu for step in steps) / 1000 / _MS_PER_HOUR,
        memory_gib_hours=sum(step.memory for step in steps) / 1024 / _MS_PER_HOUR,
    )


def _recovery(budget: Budget, steps: tuple[Step, ...]) -> datetime:
    """Return when the oldest steps have left the window whose loss makes room again."""
    last = next(step for index, step in enumerate(steps, start=1) if _sum(budget, steps[index:]).state != "Spent")
    moment = last.end + int(budget.window.total_seconds() * 1000)
    return datetime.fromtimestamp(moment / 1000, tz=UTC)


def _amounts(use: BudgetUse) -> str:
    said = []
    if use.budget.cpu_hours:
        said.append(f"{use.cpu_hours:.1f} of {use.budget.cpu_hours} CPU-hours")
    if use.budget.memory_gib_hours:
        said.append(f"{use.memory_gib_hours:.1f} of {use.budget.memory_gib_hours} GiB-hours")
    return " and ".join(said) + f" in {_duration(use.budget.window)}"


def _duration(window: timedelta) -> str:
    seconds = int(window.total_seconds())
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds % length == 0:
            return f"{seconds // length} {unit}"
    return f"{seconds} seconds"


def _format_step(step: Step) -> str:
    known = f":{step.length}" if step.length else ""
    return f"{step.start}:{step.cpu}:{step.memory}{known}"


def _parse_step(word: str) -> Step:
    start, cpu, memory, *length = (int(part) for part in word.split(":"))
    if len(length) > 1:
        raise ValueError(f"not a step: {word}")
    return Step(start=start, cpu=cpu, memory=memory, length=sum(length))


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
