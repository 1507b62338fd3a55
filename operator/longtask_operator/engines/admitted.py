"""Which live attempts this process has admitted, when, and of which nobody has asked for a Job yet. In memory."""

from __future__ import annotations

from datetime import datetime

_Key = tuple[str, int]  #: uid of the task and number of the attempt


class Admitted:
    """Filled when a ledger write that admits lands; forgets an attempt when it leaves the ledger."""

    def __init__(self) -> None:
        self._times: dict[_Key, datetime] = {}
        self._fresh: set[_Key] = set()

    def note(self, uid: str, attempt: int, now: datetime, *, anew: bool) -> None:
        """Take note of an admission; *anew* where the ledger held the task already: others may have begun it."""
        self._times.setdefault((uid, attempt), now)
        if not anew:
            self._fresh.add((uid, attempt))

    def time(self, uid: str, attempt: int) -> datetime | None:
        """Return when the attempt was admitted, or None where another process did that."""
        return self._times.get((uid, attempt))

    def take_fresh(self, uid: str, attempt: int) -> bool:
        """Return, once, whether this process admitted the attempt and nobody can have begun it before."""
        key = (uid, attempt)
        if key not in self._fresh:
            return False
        self._fresh.discard(key)
        return True

    def forget(self, uid: str, attempt: int) -> None:
        """Forget an attempt that leaves the ledger."""
        self._times.pop((uid, attempt), None)
        self._fresh.discard((uid, attempt))
