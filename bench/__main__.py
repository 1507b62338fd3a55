"""Runs all benches, each as a process of its own, and sets their figures beside the demands.

    python -m bench [--scale small|full] [--only NAME ...] [--out build/bench] [--page]

One that fails or hangs does not keep the others from running; each ends with its cluster and all its processes.
Writes a JSON file for each bench, `summary.json`, `table.md` and plots; with --page docs/reference/performance.md
as well. Exit code 1 if something was not measured; a demand that is not met is no failure of the bench.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from bench import report
from bench.demands import BENCHES
from bench.lib import cli
from bench.lib.scene import cluster_name
from devcluster import api as devcluster

#: Of one bench, with its cluster; the slowest takes less than half of it on a quiet machine of two cores.
_LONGEST_SECONDS = {"small": 180, "full": 900}


def main() -> int:
    """Run the benches asked for and report after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_arguments(parser)
    parser.add_argument("--only", nargs="+", choices=BENCHES, default=BENCHES, metavar="NAME", help=", ".join(BENCHES))
    parser.add_argument("--page", action="store_true", help="write the page of the documentation from the results")
    arguments = parser.parse_args()
    failed = []
    for name in arguments.only:
        began = time.monotonic()
        print(f"== {name}", file=sys.stderr, flush=True)
        (arguments.out / f"{name}.json").unlink(missing_ok=True)
        if _run(name, arguments.scale, arguments.out) != 0:
            failed.append(name)
        print(f"== {name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        report.write(arguments.out)
    if arguments.page:
        report.write_page(arguments.out)
    print((arguments.out / "table.md").read_text())
    if failed:
        print(f"not measured to the end: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _run(name: str, scale: str, out: Path) -> int:
    """Run one bench to its end, or to the end of its time, and leave nothing of it behind; return its exit code."""
    command = [sys.executable, "-m", f"bench.{name}", "--scale", scale, "--out", str(out)]
    process = subprocess.Popen(command, cwd=cli.ROOT, env=_environment(), start_new_session=True)
    try:
        return process.wait(_LONGEST_SECONDS[scale])
    except subprocess.TimeoutExpired:
        print(f"{name}: ended after {_LONGEST_SECONDS[scale]} s", file=sys.stderr)
        os.killpg(process.pid, signal.SIGINT)  # what was measured is written, with the reason why the rest is missing
        return _end(process)
    finally:
        _end(process)
        devcluster.down(cluster_name(process.pid))


def _end(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(cli.ROOT / part) for part in (".", "operator"))}


if __name__ == "__main__":
    sys.exit(main())
