"""How a task ends other than by returning. The exit code of each stands in `exit_codes`."""

from __future__ import annotations


class PermanentError(Exception):
    """Raise it when trying again cannot help: the task fails at once, whatever its retry budget."""


class ResultError(PermanentError):
    """The result cannot be handed over: not JSON, or too large to stand inline and without an output."""


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


class CheckpointError(PermanentError):
    """A value cannot be saved as a checkpoint: not JSON, no such file, or a kind of file that cannot be kept."""


class MissingExtraError(PermanentError):
    """The image lacks a library that only some tasks need; the message says which extra to install."""


class StorageError(Exception):
    """A storage did not do what was asked: not reachable, not permitted, full. Trying again may help."""


class TransferError(StorageError):
    """The connection broke, or none came about."""


class NotFoundError(StorageError):
    """There is no such object."""


class AlreadyExistsError(StorageError):
    """An object of that name stands there already, and objects are never replaced."""


class ChangedError(StorageError):
    """The object is another one than when reading began."""
