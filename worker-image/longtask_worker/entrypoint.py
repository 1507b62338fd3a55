"""Where a worker starts: as a program that calls `run`, or as `python -m longtask_worker module:function`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from longtask_worker import exit_codes
from longtask_worker.calling import Main, load_function
from longtask_worker.cluster import run_attempt
from longtask_worker.environment import in_cluster
from longtask_worker.local import run_locally

_USAGE = """usage: python -m longtask_worker module:function [options]

Calls the function with its Task. In a cluster there are no options.
Without a cluster: python -m longtask_worker module:function --help
"""


_started_by_name = False


def run(main: Main) -> None:
    """Call *main* with its Task, then exit the process; what *main* returns is the result.

    In a cluster the environment describes the task, elsewhere the command line does. Does nothing
    while `python -m longtask_worker module:function` imports the module: that runs the function.
    """
    if not _started_by_name:
        sys.exit(_execute(lambda: main))


def start(argv: list[str]) -> int:
    """Run the function that the first argument names and return the exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        (sys.stdout if argv else sys.stderr).write(_USAGE)
        return exit_codes.OK if argv else exit_codes.USAGE
    global _started_by_name
    _started_by_name = True
    sys.argv = argv
    return _execute(lambda: load_function(argv[0]))


def _execute(load: Callable[[], Main]) -> int:
    return run_attempt(load, os.environ) if in_cluster(os.environ) else run_locally(load)
