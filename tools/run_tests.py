"""Runs the project's checks: `run_tests.py lint|unit|integration|e2e|stories|all`. Stops at the first step that fails.

What belongs to one step runs at once, and all of it to its end: who waits for the clusters of one can use the machine
for another. Each of its lines then begins with its title.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
_UNIT = ["tests/unit", "tests/arch"]
#: Their other tests need a cluster and say so by a mark.
_PROCESSES = ["tests/integration", "tests/e2e", "tests/faults"]
_MODELS = [f"tests/unit/core/test_{name}.py" for name in ("admission", "cohort_admission", "preemption")]
_NO_CLUSTER = "not integration and not e2e"

#: Commands by their titles, which run at once; those of pytest are given without its name.
Step = Mapping[str, list[str]]

LINT: list[Step] = [
    {"style": [str(BIN / "ruff"), "check", "--quiet", "."]},
    {"format": [str(BIN / "ruff"), "format", "--check", "--quiet", "."]},
    {"types": [str(BIN / "mypy")]},
    {"generated files": [sys.executable, "tools/generate.py", "--check"]},
    {"chart reference": [sys.executable, "tools/chart_docs.py", "--check"]},
    {"Argo CD snippet": [sys.executable, "gitops/argo-cd/build.py", "--check"]},
]
_WITH_PROCESSES: Step = {"tests with processes": ["-m", _NO_CLUSTER, *_PROCESSES]}
_INTEGRATION: Step = {"integration tests": ["-m", "integration", "tests"]}
_E2E: Step = {"end-to-end tests": ["-m", "e2e", "tests"]}
PARTS: dict[str, list[Step]] = {
    "lint": LINT,
    "unit": [{"unit tests": ["-m", _NO_CLUSTER, *_UNIT]}],
    "contract": [{"contract and chart tests": ["-m", _NO_CLUSTER, "tests/contract", "tests/chart"]}],
    "integration": [_WITH_PROCESSES, _INTEGRATION],
    "e2e": [_E2E],
    "stories": [{"stories": ["-m", _NO_CLUSTER, *_MODELS, "-k", "keeps_its_promises"]}],
}
#: The end-to-end tests wait for a kubelet most of their time; the others have control planes of their own meanwhile.
PARTS["all"] = [
    *(step for part in ("lint", "unit", "contract") for step in PARTS[part]),
    _WITH_PROCESSES,
    {**_E2E, **_INTEGRATION},
]


def main() -> int:
    """Run the parts asked for and return 0 if all passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=sorted(PARTS))
    parser.add_argument("pytest", nargs="*", help="more arguments for pytest, after --")
    arguments = parser.parse_args()
    for step in PARTS[arguments.part]:
        code = run({title: _whole(command, arguments.pytest) for title, command in step.items()})
        if code:
            return code
    return 0


def run(step: Step) -> int:
    """Run the commands of *step* at once, each to its end; return 0 if all passed, else the code of one that failed."""
    with ThreadPoolExecutor(len(step)) as pool:
        codes = list(pool.map(lambda title: _run(title, step[title], alone=len(step) == 1), step))
    return next((code for code in codes if code), 0)


def _run(title: str, command: list[str], *, alone: bool) -> int:
    started = time.monotonic()
    _say(f"== {title}")
    code = _call(command) if alone else _call_labelled(title, command)
    said = "passed" if code == 0 else f"failed ({code})"
    _say(f"== {title}: {said} in {time.monotonic() - started:.0f} s")
    return code


def _say(line: str) -> None:
    # in one piece: another thread may have a line to say as well
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _call(command: list[str]) -> int:
    return subprocess.run(command, cwd=ROOT, env=_environment(), check=False).returncode


def _call_labelled(title: str, command: list[str]) -> int:
    options: dict[str, Any] = {"cwd": ROOT, "env": _environment(), "text": True, "errors": "replace"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options) as process:
        for line in process.stdout or ():
            _say(f"{title}: {line.rstrip()}")
    return process.returncode


def _whole(command: list[str], more: list[str]) -> list[str]:
    if not command[0].startswith("-"):
        return command
    return [sys.executable, "-m", "pytest", "-q", "--durations=8", *command, *more]


def _environment() -> dict[str, str]:
    path = os.pathsep.join(str(ROOT / part) for part in ("operator", "worker-image", "."))
    programs = os.pathsep.join((str(BIN), os.environ.get("PATH", os.defpath)))  # uv is one of them
    return {**os.environ, "PYTHONPATH": path, "PATH": programs}


if __name__ == "__main__":
    sys.exit(main())
