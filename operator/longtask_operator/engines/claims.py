"""The claims of preemption: carried in the ledgers, so that they are made by compare-and-swap and outlive everybody.

Nobody gives way for a claim before it stands in its ledger, nor to a task of which this process has not heard that
it still waits: whatever has changed while nobody led counts first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from longtask_operator.core.ledger_layout import Tenants
from longtask_operator.core.preemption import Claim, format_claims, parse_claims
from longtask_operator.engines.ledgers import remember


@dataclass(slots=True)
class Claims:
    """A rider of the ledgers; *wake* is told the uid of a task whose claim is news to it, or that has to give way."""

    wake: Callable[[str], None]
    key: str = "preemption.claims"
    urgent: bool = True
    lasts: bool = True
    _planned: dict[str, tuple[Claim, ...]] = field(default_factory=dict)
    _standing: dict[str, tuple[Claim, ...]] = field(default_factory=dict)
    _unheard: set[str] = field(default_factory=set)  #: whose claims others made, until it is heard of them
    _told: dict[str, dict[str, Claim]] = field(default_factory=dict)  #: by ledger and uid: what gives way is told

    def plan(self, name: str, claims: tuple[Claim, ...]) -> None:
        """Let the next write of ledger *name* carry *claims*; for others nobody gives way any more."""
        self._planned[name] = claims
        self._spare(name, claims)

    def of(self, name: str) -> tuple[Claim, ...]:
        """Return the claims that stand in ledger *name*."""
        return self._standing.get(name, ())

    def names(self) -> list[str]:
        """Return the names of the ledgers in which there are claims."""
        return list(self._standing)

    def is_unheard(self, uid: str) -> bool:
        """Whether another process made a claim for a task of which this one knows nothing yet."""
        return uid in self._unheard

    def heard(self, uid: str) -> list[str]:
        """Note that a task was looked at; return the names of the ledgers that have, or get, a claim for it."""
        self._unheard.discard(uid)
        every = [*self._standing.items(), *self._planned.items()]
        return list({name: None for name, claims in every if any(claim.uid == uid for claim in claims)})

    def gone(self, uid: str) -> list[str]:
        """Note that a task does not wait: nobody gives way to it. Return the same as `heard`, and where it gives way.

        Whether it still can be asked to may have changed.
        """
        for told in self._told.values():
            told.pop(uid, None)
        gives_way = [name for name, claims in self._standing.items() if any(uid in dict(c.victims) for c in claims)]
        return list(dict.fromkeys([*self.heard(uid), *gives_way]))

    def for_whom(self, uid: str, attempt: int) -> Claim | None:
        """Return the claim for which the attempt of a task has to give way now, or None."""
        named = (uid, attempt)
        return next((c for told in self._told.values() for c in told.values() if named in c.victims), None)

    def spare(self, uid: str, attempt: int) -> None:
        """Let an attempt not give way any more, until it is told again."""
        for told in self._told.values():
            for one, claim in told.items():
                left = tuple(victim for victim in claim.victims if victim != (uid, attempt))
                told[one] = replace(claim, victims=left)

    def tell(self, name: str, waits: Callable[[str], bool]) -> None:
        """Let those give way whom the claims of ledger *name* say, where the task *waits*; call it after a cycle."""
        before, told = self._told.get(name, {}), {claim.uid: claim for claim in self.of(name) if waits(claim.uid)}
        remember(self._told, name, told)
        for uid, claim in told.items():
            known = before[uid].victims if uid in before else ()
            named = [victim for victim, attempt in claim.victims if (victim, attempt) not in known]
            for concerned in named if uid in before else [uid, *named]:
                self.wake(concerned)

    def text(self, name: str, before: Tenants, after: Tenants) -> str:
        """Return what ledger *name* is to carry."""
        return format_claims(self._planned.get(name, self.of(name)))

    def take_in(self, name: str, text: str) -> None:
        """Take note of the claims that ledger *name* carries; of those that others made the tasks are looked at."""
        ours = {claim.uid for claim in (*self.of(name), *self._planned.pop(name, ()))}
        claims = parse_claims(text)
        remember(self._standing, name, claims)
        self._spare(name, claims)
        foreign = {claim.uid for claim in claims} - ours
        standing = {claim.uid for every in self._standing.values() for claim in every}
        self._unheard = (self._unheard | foreign) & standing
        for uid in sorted(foreign):
            self.wake(uid)

    def _spare(self, name: str, claims: Iterable[Claim]) -> None:
        """Let nobody give way any more whom *claims* do not name."""
        told = self._told.get(name, {})
        left = {
            claim.uid: replace(claim, victims=tuple(one for one in claim.victims if one in told[claim.uid].victims))
            for claim in claims
            if claim.uid in told
        }
        remember(self._told, name, left)
