"""A task without a cluster: described by the command line, watched on the terminal."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from longtask_worker import exit_codes
from longtask_worker.calling import Main, call
from longtask_worker.checkpoints import Checkpoint
from longtask_worker.checkpoints.book import Book
from longtask_worker.checkpoints.layout import Reference
from longtask_worker.checkpoints.local import LocalCheckpoints
from longtask_worker.environment import Info
from longtask_worker.errors import UsageError
from longtask_worker.notes import note
from longtask_worker.outcome import plain
from longtask_worker.progress import Progress
from longtask_worker.results import encode_large
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
        info, folder, sys.argv[1:] = parse_arguments(sys.argv[0], sys.argv[1:])
        kept = LocalCheckpoints(folder) if folder else None
        info = kept.describe(info) if kept else info
    except UsageError as error:
        note(str(error))
        return exit_codes.USAGE
    stop, progress = StopFlag(), Progress()
    stop_on_sigterm(stop)
    checkpoint = Checkpoint(info.checkpoint, book := Book(info.resume), stop)
    if kept:
        checkpoint.on_saved = partial(_accept, kept, book)
    view = TerminalView(progress)
    view.start()
    outcome = call(load, Task(info, progress, stop, checkpoint), _hand_over)
    view.close()
    if kept and outcome.exit_code == exit_codes.OK:
        kept.finish()
    if outcome.message:
        note(outcome.message)
    if outcome.result is not None:
        sys.stdout.write(json.dumps(plain(outcome.result), ensure_ascii=False, indent=2) + "\n")
    return outcome.exit_code


def _hand_over(result: object, task: Task) -> object:
    """Show a result of any size, but refuse what a cluster would refuse."""
    encode_large(result, task.outputs)
    return result


def _accept(kept: LocalCheckpoints, book: Book, reference: Reference) -> None:
    """Be the operator: take the report, and answer."""
    kept.accept(reference)
    book.to_report()
    book.accept(reference.uri)


def parse_arguments(program: str, argv: list[str]) -> tuple[Info, Path | None, list[str]]:
    """Return what the command line says of the task, its checkpoints' folder, and the program's own, after `--`.

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
    return info, arguments.checkpoint, rest


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    at = argv.index("--") if "--" in argv else len(argv)
    return argv[:at], argv[at + 1 :]


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description="Run a LongTask worker on this machine.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [--payload FILE] [--input NAME=URI] [--output NAME=URI] [--checkpoint DIR] [-- ARGUMENTS]",
    )
    parser.add_argument(
        "--checkpoint", metavar="DIR", type=Path, help="save checkpoints here, and resume from the last one"
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
