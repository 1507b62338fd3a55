"""The claims of preemption: carried in the ledgers, so that they are made by compare-and-swap and outlive everybody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from longtask_operator.core.ledger_layout import Tenants
from longtask_operator.core.preemption import Claim, format_claims, parse_claims


@dataclass(slots=True)
class Claims:
    """A rider of the ledgers; *wake* is told the uid of a task that has to give way from now on."""

    wake: Callable[[str], None]
    key: str = "preemption.claims"
    urgent: bool = True
    _planned: dict[str, tuple[Claim, ...]] = field(default_factory=dict)
    _standing: dict[str, tuple[Claim, ...]] = field(default_factory=dict)

    def plan(self, name: str, claims: tuple[Claim, ...]) -> None:
        """Let the next write of ledger *name* carry *claims*."""
        self._planned[name] = claims

    def of(self, name: str) -> tuple[Claim, ...]:
        """Return the claims that stand in ledger *name*."""
        return self._standing.get(name, ())

    def of_task(self, uid: str) -> tuple[str, Claim] | None:
        """Return the ledger and the claim of a task for which room is being made, or None."""
        found = [(name, claim) for name, claims in self._standing.items() for claim in claims if claim.uid == uid]
        return found[0] if found else None

    def names(self) -> list[str]:
        """Return the names of the ledgers in which there are claims."""
        return [name for name, claims in self._standing.items() if claims]

    def for_whom(self, uid: str, attempt: int) -> Claim | None:
        """Return the claim for which the attempt of a task has to give way, or None."""
        named = (uid, attempt)
        return next((claim for claims in self._standing.values() for claim in claims if named in claim.victims), None)

    def text(self, name: str, before: Tenants, after: Tenants) -> str:
        """Return what ledger *name* is to carry."""
        return format_claims(self._planned.get(name, self.of(name)))

    def take_in(self, name: str, text: str) -> None:
        """Take note of the claims that ledger *name* carries, and wake those that have to give way for new ones."""
        before, after = self.of(name), parse_claims(text)
        self._planned.pop(name, None)
        self._standing[name] = after
        known = {victim for claim in before for victim in claim.victims}
        for uid in {uid for claim in after for uid, attempt in claim.victims if (uid, attempt) not in known}:
            self.wake(uid)
