"""The context of a task: what it works on, how it says how far it is, how it learns to stop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, TypeVar

from longtask_worker.checkpoints import Checkpoint
from longtask_worker.checkpoints.book import Book
from longtask_worker.environment import Info
from longtask_worker.errors import Cancelled
from longtask_worker.progress import Progress
from longtask_worker.stopping import SUPERSEDED, StopFlag

T = TypeVar("T")


class Task:
    """One attempt, as its function sees it. `run` makes it; tests may make their own from an Info."""

    def __init__(
        self,
        info: Info,
        progress: Progress | None = None,
        stop: StopFlag | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self._info = info
        self._progress = progress or Progress()
        self._stop = stop or StopFlag()
        #: Saves what the next attempt goes on from, and loads it.
        self.checkpoint = checkpoint or Checkpoint(info.checkpoint, Book(info.resume), self._stop)
        #: When this run must be finished, or None. Follows the operator while the task runs.
        self.deadline: datetime | None = info.deadline

    @property
    def name(self) -> str:
        """Name of the LongTask."""
        return self._info.name

    @property
    def namespace(self) -> str:
        """Namespace of the LongTask."""
        return self._info.namespace

    @property
    def uid(self) -> str:
        """UID of the LongTask."""
        return self._info.uid

    @property
    def tenant(self) -> str:
        """Tenant that the task is charged to."""
        return self._info.tenant

    @property
    def run(self) -> int:
        """Number of the run, from 1; rises with each redrive."""
        return self._info.run

    @property
    def attempt(self) -> int:
        """Number of the attempt, from 1; never falls, not even across redrives."""
        return self._info.attempt

    @property
    def resumed(self) -> bool:
        """True if an earlier attempt left an accepted checkpoint for this one to load."""
        return bool(self._info.resume)

    @property
    def payload(self) -> dict[str, Any]:
        """The JSON object in `spec.payload`, empty if there is none."""
        return self._info.payload

    @property
    def inputs(self) -> dict[str, str]:
        """URI of each input by its name."""
        return self._info.inputs

    @property
    def outputs(self) -> dict[str, str]:
        """URI of each output by its name."""
        return self._info.outputs

    @property
    def traceparent(self) -> str | None:
        """W3C trace context of whoever submitted the task, or None."""
        return self._info.traceparent

    @property
    def cancelled(self) -> bool:
        """True once the task should stop: cancelled, superseded by a newer attempt, or SIGTERM."""
        return self._stop.is_set()

    def raise_if_cancelled(self) -> None:
        """Raise Cancelled if the task should stop. Returning instead would count as completed."""
        if self._stop.reason is not None:
            raise Cancelled(self._stop.reason)

    def raise_if_superseded(self) -> None:
        """Raise Cancelled if a newer attempt runs. Call it right before you publish something that it publishes too."""
        if self._stop.superseded:
            raise Cancelled(SUPERSEDED)

    def track(
        self,
        iterable: Iterable[T],
        *,
        total: int | None = None,
        unit: str | None = None,
        stage: str | None = None,
        start: int = 0,
    ) -> Iterator[T]:
        """Yield the items of *iterable* and count them as progress, on top of *start* that were done before.

        *total* counts those too; it defaults to *start* and the length of *iterable*.
        """
        return self._progress.track(iterable, total=total, unit=unit, stage=stage, start=start)

    def report(
        self,
        done: float,
        total: float | None = None,
        *,
        unit: str | None = None,
        stage: str | None = None,
        message: str | None = None,
    ) -> None:
        """Say how far the work is. Costs no I/O; call it as often as you like.

        Counts are whole numbers. A *total*, *unit* or *stage* once said stays until another is said.
        """
        self._progress.say(done, total, unit=unit, stage=stage, message=message)
