"""An attempt in a cluster: described by the environment, watched by the operator.

The order at the end: the termination message first, for the outcome does not depend on the
reports; then the last report, for a bounded time; then the exit.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from longtask_worker import exit_codes
from longtask_worker.calling import Main, call, outcome_of_stop
from longtask_worker.checkpoints import Checkpoint
from longtask_worker.checkpoints.book import Book
from longtask_worker.checkpoints.layout import Reference
from longtask_worker.environment import Info, parse_environment, parse_time
from longtask_worker.errors import UsageError
from longtask_worker.log_tail import LogTail
from longtask_worker.notes import note
from longtask_worker.outcome import Outcome, encode_outcome
from longtask_worker.outcome_log import OutcomeLog
from longtask_worker.progress import Progress, Snapshot
from longtask_worker.reporter import Reporter
from longtask_worker.results import hand_over
from longtask_worker.sender import open_sender
from longtask_worker.signals import stop_on_sigterm
from longtask_worker.stopping import CANCELLED, SUPERSEDED, StopFlag
from longtask_worker.task import Task
from longtask_worker.termination import termination_path
from longtask_worker.usage import cpu_seconds, memory_bytes
from longtask_worker.wire import Answer

#: How long a superseded attempt may take to stop by itself, in seconds. Then it is ended: its successor runs.
SUPERSEDED_GRACE_SECONDS = 10.0


def run_attempt(load: Callable[[], Main], env: Mapping[str, str]) -> int:
    """Run the attempt that *env* describes and return the exit code."""
    attempt = _Attempt(env)
    stop_on_sigterm(attempt.stop)
    try:
        info = parse_environment(env)
    except UsageError as error:
        return attempt.leave(Outcome(exit_code=exit_codes.USAGE, message=str(error), permanent=True))
    return attempt.run(load, info)


class _Attempt:
    """What one attempt's parts share."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.stop = StopFlag()
        self._progress = Progress()
        self._log = OutcomeLog(termination_path(env))
        self._tail = LogTail()
        self._tail.follow(sys.stdout, sys.stderr)
        self._sender = open_sender(env)
        self._book = Book()
        self._task: Task | None = None
        self._successor_runs = False

    def run(self, load: Callable[[], Main], info: Info) -> int:
        self._book = Book(info.resume)
        self._task = Task(info, self._progress, self.stop, Checkpoint(info.checkpoint, self._book, self.stop))
        reporter = Reporter(self._sender, self._facts, self._heed) if self._sender else None
        if reporter:
            self._task.checkpoint.on_saved = partial(self._tell, reporter)
            reporter.start()
        code = self.leave(call(load, self._task, hand_over))
        if reporter:
            reporter.close()
        return code

    def leave(self, outcome: Outcome) -> int:
        """Write the termination message and return the exit code, APPLICATION if a result would be lost."""
        outcome = self._with_log_tail(outcome)
        if outcome.message:
            note(outcome.message)
        try:
            self._log.write(self._encode(outcome, self._last_checkpoint()))
        except OSError as error:
            note(f"the termination message cannot be written: {error}")
            return exit_codes.APPLICATION if outcome.result is not None else outcome.exit_code
        return outcome.exit_code

    def _with_log_tail(self, outcome: Outcome) -> Outcome:
        """Return *outcome* with the end of the log, as the kubelet would have it: of what failed only."""
        if outcome.exit_code == exit_codes.OK:
            return outcome
        return replace(outcome, log_tail=self._tail.ending_with(outcome.log_tail))

    def _encode(self, outcome: Outcome, checkpoint: dict[str, object] | None = None) -> bytes:
        resumed_from = self._task.checkpoint.went_on_from(works=True) if self._task else None
        return encode_outcome(outcome, self._progress.snapshot(), checkpoint, resumed_from)

    def _last_checkpoint(self) -> dict[str, object] | None:
        """What a superseded attempt saved is of no interest any more."""
        latest = self._book.latest
        return latest.fields() if latest and not self.stop.superseded else None

    def _tell(self, reporter: Reporter, _saved: Reference) -> None:
        """Report a checkpoint at once: until then a crash costs the work since the one before."""
        if self._task and (self._task.checkpoint.requested or self.stop.is_set()):
            reporter.answer_request()
        else:
            reporter.hurry()

    def _facts(self) -> dict[str, Any]:
        now = self._progress.snapshot()
        saved = self._book.to_report() if not self.stop.superseded else None
        return {
            "done": now.done,
            "total": now.total,
            "unit": now.unit,
            "stage": now.stage,
            "message": now.message,
            "memoryBytes": memory_bytes(),
            "cpuSeconds": cpu_seconds(),
            "checkpoint": saved.fields() if saved else None,
            "resumedFrom": self._went_on_from(now),
        }

    def _went_on_from(self, now: Snapshot) -> str | None:
        works = bool(now.done) or self._book.latest is not None
        return self._task.checkpoint.went_on_from(works=works) if self._task else None

    def _heed(self, answer: Answer) -> None:
        """Follow what the operator asks; runs in the reporter's thread."""
        if answer.stop:
            self._yield_to_successor()
        elif answer.cancel:
            self.stop.set(CANCELLED)
        if answer.accepted_checkpoint:
            self._book.accept(answer.accepted_checkpoint)
        if answer.ok and self._task:
            self._task.checkpoint.heed_request(answer.checkpoint_requested)
        if answer.deadline and self._task:
            with suppress(ValueError):
                self._task.deadline = parse_time(answer.deadline)

    def _yield_to_successor(self) -> None:
        if self._successor_runs:
            return
        self._successor_runs = True
        self.stop.set(SUPERSEDED)
        timer = threading.Timer(SUPERSEDED_GRACE_SECONDS, self._end_superseded)
        timer.daemon = True
        timer.start()

    def _end_superseded(self) -> None:
        """End a process whose function did not stop; one that has left its outcome is on its way out already."""
        outcome = self._with_log_tail(outcome_of_stop(SUPERSEDED))
        try:
            if not self._log.write(self._encode(outcome)):
                return
        except OSError as error:
            note(f"the termination message cannot be written: {error}")
        os._exit(outcome.exit_code)
