"""Which checkpoints may go, once the operator says which one stands in the status. Pure.

Deleted is what nobody can resume from any more: below this task's own prefix, of this attempt or an earlier one,
older than the accepted checkpoint, and neither among the newest that were accepted nor among those that may have
been, their echo being lost. So leftovers of dead attempts go too. A later attempt's objects are never touched: then
we are the zombie.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from longtask_worker.checkpoints.layout import Prefix, Reference, Slot


def kept_slots(
    prefix: Prefix, accepted: Iterable[Reference], maybe_accepted: Iterable[Reference], keep: int
) -> set[Slot]:
    """Return what stays of the older ones: the newest *keep* of *accepted*, and of *maybe_accepted* one less."""
    known = _newest(prefix, accepted, keep)
    limit = max(known, default=None)
    older = [ref for ref in maybe_accepted if (slot := prefix.slot_of(ref.uri)) and limit and slot < limit]
    return known | _newest(prefix, older, keep - 1)


def select_garbage(prefix: Prefix, uris: Iterable[str], newest: Slot, kept: set[Slot]) -> Iterator[str]:
    """Yield those of *uris* that go: older than *newest*, which stands in the status, and not in *kept*."""
    for uri in uris:
        slot = prefix.slot_of(uri)
        if slot and slot < newest and slot.attempt <= prefix.attempt and slot not in kept:
            yield uri


def _newest(prefix: Prefix, references: Iterable[Reference], count: int) -> set[Slot]:
    slots = {slot for reference in references if (slot := prefix.slot_of(reference.uri))}
    return set(sorted(slots, reverse=True)[: max(count, 0)])
