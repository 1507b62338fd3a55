"""Checkpoints of a run without a cluster: a folder, and one file in it that says which are accepted.

Here the SDK accepts what it saved, at once. Each run is a new attempt. A run that finishes leaves nothing
to resume from.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from longtask_worker.checkpoints.layout import Prefix, Reference
from longtask_worker.checkpoints.place import DEFAULT_KEEP, Place
from longtask_worker.errors import UsageError
from longtask_worker.notes import note

if TYPE_CHECKING:
    from longtask_worker.environment import Info

ACCEPTED = "accepted.json"
#: Short, for somebody watches.
INTERVAL = 10.0


class LocalCheckpoints:
    """The folder of `--checkpoint`."""

    def __init__(self, folder: Path) -> None:
        """Read the folder, which need not exist; UsageError if it holds something else."""
        self._file = folder / ACCEPTED
        self._root = folder.absolute().as_uri() + "/"
        self._accepted, last = self._read()
        numbers = [int(path.name) for path in folder.glob("[1-9]*") if path.name.isdigit() and path.is_dir()]
        self._attempt = max([last, *numbers]) + 1

    def describe(self, info: Info) -> Info:
        """Return *info* with attempt, place and what to resume from."""
        if self._accepted:
            note(f"resuming; delete {self._file} to start anew")
        place = Place(prefix=Prefix(root=self._root, attempt=self._attempt), interval=INTERVAL)
        return replace(info, attempt=self._attempt, checkpoint=place, resume=tuple(self._accepted))

    def accept(self, reference: Reference) -> None:
        """Resume from *reference* next time."""
        self._write([reference, *self._accepted][:DEFAULT_KEEP])

    def finish(self) -> None:
        """Start anew next time."""
        if self._accepted:
            self._write([])

    def _read(self) -> tuple[list[Reference], int]:
        try:
            fields = json.loads(self._file.read_bytes())
            found = [Reference(uri=e["uri"], sha256=e["sha256"], size_bytes=e["sizeBytes"]) for e in fields["accepted"]]
            return found, int(fields["attempt"])
        except FileNotFoundError:
            return [], 0
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UsageError(f"--checkpoint: {self._file} cannot be read: {error}") from None

    def _write(self, accepted: list[Reference]) -> None:
        self._accepted = accepted
        fields = {"attempt": self._attempt, "accepted": [reference.fields() for reference in accepted]}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._file.with_name(f".{ACCEPTED}.{secrets.token_hex(6)}")
        temporary.write_text(json.dumps(fields, indent=2))
        os.replace(temporary, self._file)
