"""A task without a cluster: described by the command line, watched on the terminal."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from longtask_worker import exit_codes
from longtask_worker.calling import Main, call
from longtask_worker.environment import Info
from longtask_worker.errors import UsageError
from longtask_worker.notes import note
from longtask_worker.outcome import plain
from longtask_worker.progress import Progress
from longtask_worker.signals import stop_on_sigterm
from longtask_worker.stopping import StopFlag
from longtask_worker.task import Task
from longtask_worker.terminal import TerminalView

_EPILOG = """Without a cluster the task reads its payload from a file, draws its progress on stderr and prints its
result as JSON on stdout. In a cluster none of these options exist: the operator says it all, and the
command line is the program's own. Exit codes: 0 done, 1 the task raised, 2 wrong command line,
65 the task failed for good, 130 interrupted or cancelled, 143 terminated."""


def run_locally(load: Callable[[], Main]) -> int:
    """Run the task that the command line describes, print its result on stdout and return the exit code."""
    try:
        info, sys.argv[1:] = parse_arguments(sys.argv[0], sys.argv[1:])
    except UsageError as error:
        note(str(error))
        return exit_codes.USAGE
    stop, progress = StopFlag(), Progress()
    stop_on_sigterm(stop)
    view = TerminalView(progress)
    view.start()
    outcome = call(load, Task(info, progress, stop))
    view.close()
    if outcome.message:
        note(outcome.message)
    if outcome.result is not None:
        sys.stdout.write(json.dumps(plain(outcome.result), ensure_ascii=False, indent=2) + "\n")
    return outcome.exit_code


def parse_arguments(program: str, argv: list[str]) -> tuple[Info, list[str]]:
    """Return what the command line says of the task, and what follows `--`, which is the program's own.

    Exits with 2 and a usage message when it is wrong, with 0 after `--help`. UsageError names a file
    that cannot be used.
    """
    own, rest = _split(argv)
    arguments = _parser(program).parse_args(own)
    info = Info(
        payload=_read_payload(arguments.payload) if arguments.payload else {},
        inputs=dict(arguments.input),
        outputs=dict(arguments.output),
    )
    return info, rest


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    at = argv.index("--") if "--" in argv else len(argv)
    return argv[:at], argv[at + 1 :]


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description="Run a LongTask worker on this machine.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [--payload FILE] [--input NAME=URI] [--output NAME=URI] [-- ARGUMENTS]",
    )
    parser.add_argument("--payload", metavar="FILE", type=Path, help="JSON object that becomes task.payload")
    for option, what in (("--input", "reads"), ("--output", "writes")):
        parser.add_argument(
            option,
            metavar="NAME=URI",
            type=_named_uri,
            action="append",
            default=[],
            help=f"data that the task {what}; a path becomes a file:// URI; may be given several times",
        )
    return parser


def _named_uri(text: str) -> tuple[str, str]:
    name, equals, uri = text.partition("=")
    if not (name and equals and uri):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=URI")
    if "://" in uri:
        return name, uri
    slash = "/" if uri.endswith("/") else ""
    return name, Path(uri).absolute().as_uri() + slash


def _read_payload(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"--payload {path}: {error}") from None
    if not isinstance(value, dict):
        raise UsageError(f"--payload {path}: not a JSON object")
    return value
