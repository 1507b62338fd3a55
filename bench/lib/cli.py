"""The command line that all benches share: `python -m bench.<name> [--scale small|full] [--out FOLDER]`."""

from __future__ import annotations

import argparse
import gc
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.demands import DEMANDS
from bench.lib.results import Results

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "bench"
SCALES = ("small", "full")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that every bench takes."""
    parser.add_argument("--scale", choices=SCALES, default="full", help="small: a look; full: what the demands say")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the results")


def main(name: str, doc: str | None, run: Callable[[Results], Any]) -> int:
    """Run one bench, print its figures, and return 0 if it came to its end; its results are written in any case."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    arguments = parser.parse_args()
    gc.set_threshold(100_000, 50, 100)  # pauses of the bench itself would be measured
    results = Results(bench=name, scale=arguments.scale, folder=arguments.out)
    try:
        run(results)
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        results.error = f"{type(error).__name__}: {error}"
        traceback.print_exc()
    results.save()
    for demand in DEMANDS:
        if demand.bench == name:
            value = results.figures.get(demand.name)
            said = "not measured" if value is None else f"{value:g} ({'met' if demand.is_met(value) else 'NOT met'})"
            print(f"{demand.title}: {said}, demanded {demand.demanded}", file=sys.stderr)
    return 1 if results.error else 0
