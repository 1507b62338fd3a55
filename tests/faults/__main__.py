"""`python -m tests.faults`: end or deceive the operator at every write of every scenario, and judge what comes of it.

Exit codes: 0 all well; 1 a promise was broken; 2 usage; 3 a planned fault met no write.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from tests.faults.ground import Ground, stand_all
from tests.faults.mutants import MUTANTS
from tests.faults.play import Scenario
from tests.faults.proxy import Mode
from tests.faults.rivals import Round, batches, play_rounds
from tests.faults.scenarios import SCENARIOS
from tests.faults.suite import MODES, Report, Wanted, plan, sweep
from tests.faults.trial import Reference


def main() -> int:
    """Run what is asked for and return the exit code."""
    options = _parser().parse_args()
    if options.list:
        for found in SCENARIOS.values():
            print(f"{found.name:20} {found.about}")
        return 0
    # So that the control plane is taken down: asyncio ends the main task alone at SIGINT, and waits for it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    return asyncio.run(_run(options))


async def _run(options: argparse.Namespace) -> int:
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(open(options.out, "a")) if options.out else sys.stdout  # noqa: ASYNC230
        report = Report(out, options.seed)
        scenarios = [SCENARIOS[name] for name in options.scenario or SCENARIOS]
        grounds = options.grounds if options.rivals else min(options.grounds, len(scenarios))
        async with stand_all(grounds, options.logs) as grounds_up:
            if options.rivals:
                return await _play_rivals(grounds_up, options, out)
            await sweep(grounds_up, scenarios, lambda s, wanted: _choose(options, s, wanted), report, options.mutant)
    report.say(report.table())
    return 1 if report.failed else 3 if report.unfired else 0


async def _play_rivals(grounds: Sequence[Ground], options: argparse.Namespace, out: TextIO) -> int:
    def tell(found: Round) -> None:
        print(json.dumps(found.as_line()), file=out, flush=True)

    rounds = await play_rounds(grounds, batches(options.rivals, options.seed, mutant=options.mutant), tell)
    return 1 if any(found.violations for found in rounds) else 0


def _choose(options: argparse.Namespace, scenario: Scenario, wanted: Reference) -> list[Wanted]:
    if options.plain:
        return []
    if options.k:
        return [Wanted(k=options.k, mode=Mode(options.mode or "after"), successor=options.successor)] * options.repeat
    rng = random.Random(f"{options.seed} {scenario.name}")
    modes = [options.mode] if options.mode else [*MODES, *(["late"] if options.late else [])]
    repeat: int = options.repeat
    return plan(len(wanted.writes), modes, options.share, rng) * repeat


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    add = parser.add_argument
    add("--scenario", action="append", choices=sorted(SCENARIOS), help="only this one; may be given again")
    add("--k", type=int, help="only the fault at this write of the scenario, counted from 1")
    add("--mode", choices=[mode.value for mode in Mode], help="only this kind of fault")
    add("--plain", action="store_true", help="no faults: only see that each scenario comes to its end")
    add("--late", action="store_true", help="also writes of a dead operator that come when the next one leads already")
    add("--successor", choices=["same", "new"], default="same", help="with --k: the name under which it starts again")
    add("--share", type=float, default=1.0, help="part of all trials to run, but each write at least once (1: all)")
    add("--repeat", type=int, default=1, help="run each trial so often")
    add("--grounds", type=int, default=2, help="control planes with an operator each, among which scenarios are dealt")
    add("--seed", type=int, default=1, help="chooses the trials where --share is below 1")
    add("--out", type=Path, help="file to append the JSON lines to, instead of standard output")
    add("--rivals", type=int, metavar="ROUNDS", help="instead: rounds of several operators that lead at once")
    add("--logs", type=Path, help="folder that keeps the operators' logs")
    add("--mutant", default="", choices=["", *MUTANTS], help="plant this bug into the operator")
    add("--list", action="store_true", help="say which scenarios there are")
    return parser


if __name__ == "__main__":
    sys.exit(main())
