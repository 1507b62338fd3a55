"""How a task ends other than by returning. The exit code of each stands in `exit_codes`."""

from __future__ import annotations


class PermanentError(Exception):
    """Raise it when trying again cannot help: the task fails at once, whatever its retry budget."""


class ResultError(PermanentError):
    """The result cannot be handed over: not JSON, or too large to stand inline."""


class Cancelled(BaseException):
    """The task was asked to stop.

    Not an `Exception`, so that a loop's `except Exception` does not swallow it.
    *reason* is `cancelled`, `superseded` or `terminated`.
    """

    def __init__(self, reason: str = "cancelled") -> None:
        super().__init__(reason)
        self.reason = reason


class UsageError(Exception):
    """The command line or the environment is wrong; the message says what to do."""
