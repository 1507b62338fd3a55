"""`task.checkpoint`: save, load, save when due.

A save that returns is complete and durable. It is then reported until the operator has accepted it; older
ones go after that. A worker that learns that a newer attempt runs publishes nothing any more.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from longtask_worker.checkpoints.book import Book
from longtask_worker.checkpoints.contents import content_of
from longtask_worker.checkpoints.layout import MANIFEST, Reference
from longtask_worker.checkpoints.manifest import CorruptError
from longtask_worker.checkpoints.place import DEFAULT_INTERVAL, Place
from longtask_worker.checkpoints.pruning import kept_slots, select_garbage
from longtask_worker.checkpoints.reading import read_checkpoint
from longtask_worker.checkpoints.schedule import Schedule
from longtask_worker.checkpoints.writing import Writer
from longtask_worker.errors import Cancelled, StorageError
from longtask_worker.notes import note
from longtask_worker.stopping import SUPERSEDED, StopFlag
from longtask_worker.storage import Storage, open_storage

Clock = Callable[[], float]


class Checkpoint:
    """The checkpoints of one attempt. `run` makes it; without a place to save to, saving does nothing."""

    def __init__(
        self,
        place: Place | None = None,
        book: Book | None = None,
        stop: StopFlag | None = None,
        *,
        storage: Callable[[str], Storage] = open_storage,
        clock: Clock = time.monotonic,
    ) -> None:
        self._place = place
        self._book = book or Book()
        self._stop = stop or StopFlag()
        self._open_storage = storage
        self._clock = clock
        self._schedule = Schedule(place.interval if place else DEFAULT_INTERVAL, clock())
        self._saving = threading.RLock()
        self._writer: Writer | None = None
        self._resumed_from: str | None = None  # empty once `load` found nothing
        self._pruned: Reference | None = None
        self._on_request: Callable[[], object] | None = None
        self._stop_answered = False
        #: Called after each save with its reference; `run` sets it.
        self.on_saved: Callable[[Reference], object] | None = None

    @property
    def enabled(self) -> bool:
        """True if there is a place to save to: `spec.checkpoint`, or `--checkpoint` without a cluster."""
        return self._place is not None

    @property
    def requested(self) -> bool:
        """True while the operator waits for a checkpoint, as before a suspend."""
        return self._schedule.requested

    @property
    def resumed_from(self) -> str | None:
        """URI of the checkpoint that `load` returned; None at a fresh start, or before `load`."""
        return self._resumed_from or None

    def went_on_from(self, *, works: bool) -> str | None:
        """Return what the operator is told: `resumed_from`, empty for a start from nothing, None while that is open.

        It is open until `load` has ended or, without one, *works*: something was done.
        """
        if not self._book.resumable:
            return None
        return "" if works and self._resumed_from is None else self._resumed_from

    def save(self, value: object) -> str | None:
        """Save *value* and return the checkpoint's URI, None if there is no place to save to.

        Bytes are saved as bytes, a path object as the file or folder at that path, everything else as JSON.
        Raises CheckpointError for what cannot be saved, StorageError if the storage fails, Cancelled if a newer
        attempt runs.
        """
        with self._saving:
            answers = self._schedule.begin()
            try:
                reference = self._write(value)
            except StorageError:
                self._schedule.failed(answers, self._clock())
                raise
            self._schedule.saved(answers, self._clock())
            return reference.uri if reference else None

    def save_if_due(self, value: object) -> bool:
        """Save *value*, or what it returns if it can be called, if the interval is over or somebody asks for it.

        True if it was saved. Costs next to nothing otherwise: call it as often as you like, where the
        value is consistent. It is also due once when the task is asked to stop. A storage that fails is noted and
        tried again, the work goes on.
        """
        if not self._is_due() or not self.enabled:
            return False
        try:
            self.save(value() if callable(value) else value)
        except StorageError as error:
            note(f"the checkpoint was not saved, the work goes on: {error}")
            return False
        return True

    def load(self, default: Any = None, *, to: str | os.PathLike[str] | None = None) -> Any:
        """Return what the last accepted checkpoint holds, *default* if there is none.

        A file or folder is put at *to*, or into a temporary folder, and its path is returned. A checkpoint that
        is torn or altered is skipped for the one before it; if none is left, the result is *default*.
        Raises StorageError if the storage cannot be read: starting from nothing would then be wrong.
        """
        for reference in self._book.resumable:
            try:
                storage = self._open_storage(reference.uri)
                value = read_checkpoint(storage, reference, Path(to) if to is not None else None)
            except CorruptError as error:
                note(f"a checkpoint is skipped: {error}")
                continue
            self._resumed_from = reference.uri
            return value
        self._resumed_from = ""
        if self._book.resumable:
            note("no accepted checkpoint is whole: the work starts from the beginning")
        return default

    def on_request(self, callback: Callable[[], object]) -> None:
        """Call *callback* in a thread of its own when the operator asks for a checkpoint, as before a suspend.

        For work that is not a loop. The callback may call `save`; the work goes on meanwhile.
        """
        self._on_request = callback

    def heed_request(self, wanted: bool) -> None:
        """Follow what the operator's answer says; called by the reporter."""
        if self._schedule.ask(wanted) and self._on_request is not None:
            threading.Thread(target=self._call_back, name="longtask-checkpoint", daemon=True).start()

    def _call_back(self) -> None:
        try:
            assert self._on_request is not None
            self._on_request()
        except BaseException as error:
            note(f"the checkpoint that was asked for failed: {type(error).__name__}: {error}")

    def _is_due(self) -> bool:
        if self._stop.reason is not None and not self._stop_answered:
            self._stop_answered = True
            return True
        return self._schedule.due(self._clock())

    def _write(self, value: object) -> Reference | None:
        self._refuse_if_superseded()
        content = content_of(value)
        if self._place is None:
            return None
        storage = self._open_storage(self._place.prefix.uri)
        if self._writer is None:
            self._writer = Writer(storage, self._place.prefix, self._refuse_if_superseded)
        reference = self._writer.write(content)
        self._book.saved(reference)
        if self.on_saved:
            self.on_saved(reference)
        self._prune(storage, self._place)
        return reference

    def _refuse_if_superseded(self) -> None:
        if self._stop.superseded:
            raise Cancelled(SUPERSEDED)

    def _prune(self, storage: Storage, place: Place) -> None:
        """Delete what nobody can resume from, once for each checkpoint that was accepted. Failing is no harm."""
        accepted = self._book.accepted_here()
        newest = place.prefix.slot_of(accepted.uri) if accepted else None
        if accepted is None or newest is None or accepted == self._pruned:
            return
        kept = kept_slots(place.prefix, self._book.accepted(), self._book.maybe_accepted(), place.keep)
        try:
            garbage = list(select_garbage(place.prefix, storage.list_below(place.prefix.root), newest, kept))
            storage.delete(sorted(garbage, key=lambda uri: not uri.endswith(f"/{MANIFEST}")))
        except StorageError as error:
            note(f"old checkpoints were not deleted: {error}")
            return
        self._pruned = accepted
        self._book.forget(garbage)
