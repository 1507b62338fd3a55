"""The user's mistakes, as values that become a condition."""

from __future__ import annotations


class SpecError(ValueError):
    """The spec at *path* cannot be run; *message* says what to do. Never retried until the object changes."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.message = message
