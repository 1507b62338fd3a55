"""Which waiting attempts may start now.

`plan_admissions` is one cycle: it is given what waits and what the ledger holds, charges
each admission to a private copy as it goes, and returns one verdict per candidate. It
writes nothing; the admission loop writes the admitted ones into the ledger at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from longtask_operator.api.reasons import QueueReason
from longtask_operator.core.ledger import MAX_ENTRIES, Entries, LedgerEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An attempt that waits for admission, reduced to what the decision needs."""

    key: str  #: namespace/name
    tenant: str
    priority: int
    queued_at: datetime  #: start of the run: waits and backoffs keep their place
    entry: LedgerEntry  #: what the ledger will hold for it


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBack:
    """Why an attempt cannot start now, in a word and in a sentence."""

    reason: QueueReason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The decision on one candidate: admitted, unless it is held back."""

    candidate: Candidate
    held_back: HeldBack | None = None


def plan_admissions(
    candidates: Iterable[Candidate], entries: Entries, *, max_entries: int = MAX_ENTRIES
) -> list[Verdict]:
    """Decide on every candidate of one ledger, first in queue order first."""
    held = set(entries)
    verdicts = []
    for candidate in sorted(candidates, key=queue_order):
        if candidate.entry.uid not in held and len(held) >= max_entries:
            message = (
                f"{len(held)} attempts are live, the most that one ledger holds; this one waits for another to end"
            )
            held_back = HeldBack(reason=QueueReason.COHORT_EXHAUSTED, message=message)
            verdicts.append(Verdict(candidate=candidate, held_back=held_back))
            continue
        held.add(candidate.entry.uid)
        verdicts.append(Verdict(candidate=candidate))
    return verdicts


def queue_order(candidate: Candidate) -> tuple[int, datetime, str]:
    """Return the place in the queue: higher priority first, then the older run, then the name."""
    return (-candidate.priority, candidate.queued_at, candidate.key)
