"""Runs the project's checks: `run_tests.py lint|unit|integration|e2e|stories|all`. Stops at the first that fails."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
_UNIT = ["tests/unit", "tests/arch"]
#: Their other tests need a cluster and say so by a mark.
_PROCESSES = ["tests/integration", "tests/e2e", "tests/faults"]
_MODELS = [f"tests/unit/core/test_{name}.py" for name in ("admission", "cohort_admission", "preemption")]
_NO_CLUSTER = "not integration and not e2e"

LINT: list[tuple[str, list[str]]] = [
    ("style", [str(BIN / "ruff"), "check", "--quiet", "."]),
    ("format", [str(BIN / "ruff"), "format", "--check", "--quiet", "."]),
    ("types", [str(BIN / "mypy")]),
    ("generated files", [sys.executable, "tools/generate.py", "--check"]),
    ("chart reference", [sys.executable, "tools/chart_docs.py", "--check"]),
    ("Argo CD snippet", [sys.executable, "gitops/argo-cd/build.py", "--check"]),
]
PARTS: dict[str, list[tuple[str, list[str]]]] = {
    "lint": LINT,
    "unit": [("unit tests", ["-m", _NO_CLUSTER, *_UNIT])],
    "contract": [("contract and chart tests", ["-m", _NO_CLUSTER, "tests/contract", "tests/chart"])],
    "integration": [
        ("tests with processes", ["-m", _NO_CLUSTER, *_PROCESSES]),
        ("integration tests", ["-m", "integration", "tests"]),
    ],
    "e2e": [("end-to-end tests", ["-m", "e2e", "tests"])],
}
PARTS["stories"] = [("stories", ["-m", _NO_CLUSTER, *_MODELS, "-k", "keeps_its_promises"])]
PARTS["all"] = [
    *(step for part in ("lint", "unit", "contract") for step in PARTS[part]),
    PARTS["integration"][0],
    ("tests on real clusters", ["-m", "integration or e2e", "tests"]),
]


def main() -> int:
    """Run the parts asked for and return 0 if all passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=sorted(PARTS))
    parser.add_argument("pytest", nargs="*", help="more arguments for pytest, after --")
    arguments = parser.parse_args()
    for title, command in PARTS[arguments.part]:
        started = time.monotonic()
        print(f"== {title}", flush=True)
        if command[0].startswith("-"):
            command = [sys.executable, "-m", "pytest", "-q", "--durations=8", *command, *arguments.pytest]
        code = subprocess.run(command, cwd=ROOT, env=_environment(), check=False).returncode
        print(
            f"== {title}: {'passed' if code == 0 else f'failed ({code})'} in {time.monotonic() - started:.0f} s",
            flush=True,
        )
        if code:
            return code
    return 0


def _environment() -> dict[str, str]:
    path = os.pathsep.join(str(ROOT / part) for part in ("operator", "worker-image", "."))
    programs = os.pathsep.join((str(BIN), os.environ.get("PATH", os.defpath)))  # uv is one of them
    return {**os.environ, "PYTHONPATH": path, "PATH": programs}


if __name__ == "__main__":
    sys.exit(main())
