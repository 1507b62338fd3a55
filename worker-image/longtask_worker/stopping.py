"""The one flag that asks the work to stop, and why. The first reason stays."""

from __future__ import annotations

#: The operator answered `cancel`.
CANCELLED = "cancelled"
#: The operator answered `stop`: a newer attempt exists.
SUPERSEDED = "superseded"
#: SIGTERM.
TERMINATED = "terminated"


class StopFlag:
    """Set from the reporter's thread or a signal handler, read by the work.

    It holds no lock: a signal handler may run while its own thread holds one.
    """

    __slots__ = ("reason", "superseded")

    def __init__(self) -> None:
        #: Why the work was asked to stop; None while it was not.
        self.reason: str | None = None
        #: A newer attempt exists, whatever the first reason was: publish nothing any more.
        self.superseded = False

    def is_set(self) -> bool:
        """Say whether the work was asked to stop."""
        return self.reason is not None

    def set(self, reason: str) -> None:
        """Ask the work to stop because of *reason*."""
        if reason == SUPERSEDED:
            self.superseded = True
        if self.reason is None:
            self.reason = reason
