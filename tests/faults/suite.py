"""All trials of a run: which there are, in which order, and what is told of them."""

from __future__ import annotations

import asyncio
import json
import platform
import random
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from longtask_operator import __version__
from tests.faults.ground import Ground
from tests.faults.play import Scenario
from tests.faults.proxy import Mode, Write
from tests.faults.trial import Reference, Stage, Verdict, between_ledgers, reference, staged, trial

Json = dict[str, Any]
#: The write is lost with the process, done but unheard of, or done and said to have failed.
MODES = ("before", "after", "lost")
#: One in so many trials that kill has a successor of another name, which must wait for the Lease: 5 s more.
NEW_NAME_EVERY = 12
#: Times that a trial is run until it is what was wanted: two runs of a scenario may differ by a write.
TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One trial that is to be run."""

    k: int
    mode: Mode
    successor: str = "same"
    between: bool = False  #: whether it is to fall between two ledgers' writes


def mode_of(name: str, k: int) -> Mode:
    """Return the mode called *name*; lost answers alternate between a broken connection and a 504."""
    return Mode.TIMEOUT if name == "lost" and k % 2 else Mode(name)


def plan(writes: int, modes: Sequence[str], share: float, rng: random.Random) -> list[Wanted]:
    """Return the trials of a scenario of so many writes: each write at least once, and *share* of all there are."""
    found = []
    for k in range(1, writes + 1):
        order = rng.sample(list(modes), len(modes))
        found += [(place, k, name) for place, name in enumerate(order)]
    count = max(writes, round(share * len(found)))
    chosen = sorted(found, key=lambda entry: (entry[0], rng.random()))[:count]
    trials, killed = [], 0
    for _, k, name in sorted(chosen, key=lambda entry: entry[1:]):
        mode = mode_of(name, k)
        killed += mode.kills
        is_new = mode.kills and killed % NEW_NAME_EVERY == 0
        trials.append(Wanted(k=k, mode=mode, successor="new" if is_new else "same"))
    return trials


def between_two(wanted: Reference) -> list[Wanted]:
    """Return the trials that kill between two ledgers' writes: after one that is followed by another's at once."""
    pairs = zip(wanted.writes, wanted.writes[1:], strict=False)
    after = [write.number for write, following in pairs if between_ledgers(write, [following])]
    return [Wanted(k=k, mode=Mode.AFTER, between=True) for k in after]


def of_the_first_attempt(writes: Sequence[Write], trials: Iterable[Wanted]) -> list[Wanted]:
    """Return the *trials* from the first status to the first pod that is let go of: one attempt, and how it ends."""
    first = next(write.number for write in writes if write.resource == "longtasks/status")
    last = next(write.number for write in writes if (write.verb, write.resource) == ("patch", "pods"))
    return [one for one in trials if first <= one.k <= last]


@dataclass(slots=True)
class Report:
    """Writes one line of JSON per trial to *out*, and progress for people to *progress*."""

    out: TextIO | None
    seed: int
    progress: TextIO = field(default_factory=lambda: sys.stderr)
    verdicts: list[Verdict] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def add(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)
        versions = {"longtask": __version__, "python": platform.python_version()}
        if self.out:
            print(json.dumps(verdict.as_line(seed=self.seed, versions=versions)), file=self.out, flush=True)
        if verdict.violations or not verdict.fired:
            rerun = f"python -m tests.faults --scenario {verdict.scenario} --k {verdict.k} --mode {verdict.mode}"
            self.say(f"{'FAILED' if verdict.violations else 'NOT FIRED'} {rerun} --successor {verdict.successor}")
            for line in [verdict.write, *verdict.violations]:
                self.say(f"    {line[:700]}")

    def say(self, text: str) -> None:
        print(text, file=self.progress, flush=True)

    @property
    def failed(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.violations]

    @property
    def unfired(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if not verdict.fired]

    def table(self) -> str:
        """Return the result as a table in Markdown, a row for each scenario."""
        rows: dict[str, list[Verdict]] = defaultdict(list)
        for verdict in self.verdicts:
            rows[verdict.scenario].append(verdict)
        lines = ["| scenario | trials | fired | violations | seconds per trial |", "| --- | --- | --- | --- | --- |"]
        lines += [_row(name, verdicts) for name, verdicts in rows.items()]
        return "\n".join([*lines, _row("**all**", self.verdicts)])


def _row(name: str, verdicts: Sequence[Verdict]) -> str:
    fired, broken = sum(v.fired for v in verdicts), sum(bool(v.violations) for v in verdicts)
    seconds = sum(v.seconds for v in verdicts) / max(1, len(verdicts))
    return f"| {name} | {len(verdicts)} | {fired} | {broken} | {seconds:.1f} |"


Choose = Callable[[Scenario, Reference], list[Wanted]]


async def sweep(
    grounds: Sequence[Ground], scenarios: Iterable[Scenario], choose: Choose, report: Report, mutant: str = ""
) -> None:
    """Run each scenario once without faults and then all trials that *choose* names, on all *grounds* at once."""
    waiting = deque(scenarios)
    async with asyncio.TaskGroup() as group:
        for ground in grounds:
            group.create_task(_work_off(ground, waiting, choose, report, mutant))


async def _work_off(ground: Ground, waiting: deque[Scenario], choose: Choose, report: Report, mutant: str) -> None:
    async with staged(ground, mutant) as stage:
        while waiting:
            await _sweep_one(stage, waiting.popleft(), choose, report)


async def _sweep_one(stage: Stage, scenario: Scenario, choose: Choose, report: Report) -> None:
    await stage.warm_up()
    try:
        wanted = await reference(stage, scenario)
    except (AssertionError, TimeoutError) as error:
        report.add(Verdict(scenario=scenario.name, k=0, mode="none", successor="same", violations=[f"{error!r}"]))
        await stage.start_afresh(scenario)
        return
    trials = choose(scenario, wanted)
    report.say(
        f"{scenario.name}: {len(wanted.writes)} writes, {len(trials)} trials, {wanted.seconds:.1f} s without a fault"
    )
    for one in trials:
        for _ in range(TRIES):
            verdict = await trial(stage, scenario, wanted, one.k, one.mode, successor=one.successor)
            if verdict.violations or (verdict.fired and bool(verdict.between) >= one.between):
                break
        report.add(verdict)
        if verdict.violations:
            await stage.start_afresh(scenario)
    await stage.clear(scenario)
