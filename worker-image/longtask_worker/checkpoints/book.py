"""What is known of an attempt's checkpoints: saved, said to the operator, accepted. Shared by work and reporter."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from longtask_worker.checkpoints.layout import Reference


class Book:
    """The checkpoints of one attempt, from the newest saved one to those that it may resume from."""

    def __init__(self, resumable: Iterable[Reference] = ()) -> None:
        """*resumable*: accepted ones of earlier attempts, newest first."""
        self._lock = threading.Lock()
        self._latest: Reference | None = None
        self._reported: list[Reference] = []
        self._accepted: list[Reference] = []
        self._resumable = tuple(resumable)

    @property
    def latest(self) -> Reference | None:
        """The newest complete checkpoint of this attempt."""
        return self._latest

    @property
    def resumable(self) -> tuple[Reference, ...]:
        """The accepted checkpoints that this attempt was given, newest first."""
        return self._resumable

    def saved(self, reference: Reference) -> None:
        """A checkpoint is complete."""
        with self._lock:
            self._latest = reference

    def to_report(self) -> Reference | None:
        """Return the checkpoint that the next report names: the latest, until it is accepted."""
        with self._lock:
            if self._latest is None or self._latest in self._accepted:
                return None
            if self._latest not in self._reported:
                self._reported.append(self._latest)
            return self._latest

    def accept(self, uri: str) -> None:
        """The operator says that the checkpoint *uri* of this attempt stands in the status, the newest that does."""
        with self._lock:
            for index, reference in enumerate(self._reported):
                if reference.uri == uri and not self._is_older(index):
                    self._accepted.insert(0, reference)

    def _is_older(self, index: int) -> bool:
        return bool(self._accepted) and index <= self._reported.index(self._accepted[0])

    def accepted_here(self) -> Reference | None:
        """Return the newest of this attempt that is accepted."""
        return next(iter(self._accepted), None)

    def accepted(self) -> list[Reference]:
        """Return all that are known to be accepted, newest first."""
        return [*self._accepted, *self._resumable]

    def maybe_accepted(self) -> list[Reference]:
        """Return all of this attempt that may stand in the status: the operator has read of them."""
        return list(self._reported)

    def forget(self, uris: Iterable[str]) -> None:
        """Forget deleted checkpoints, so that an attempt of weeks does not grow."""
        gone = set(uris)
        with self._lock:
            self._reported = [reference for reference in self._reported if reference.uri not in gone]
            self._accepted = [reference for reference in self._accepted if reference.uri not in gone]
