"""The ledger: one line per live attempt, written before its Job exists.

It is the write-ahead record of admission. A line `uid attempt generation milliCPU MiB`, with
the word `sidecar` behind it where our sidecar has its share of both amounts and `kueue` where Kueue
admits it, is added by compare-and-swap before the attempt's Job is created and removed when the
attempt's outcome stands in the status and no live pod of it remains. Two operators therefore cost a
conflict, never a second attempt of the same number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from longtask_operator.api.quantity import MEBIBYTE
from longtask_operator.core.sizing import SIDECAR, Size

#: Live attempts of one ledger at most: 440 kB, and 800 kB if all lines were as long as a line can be.
MAX_ENTRIES = 10_000
#: What the API server takes as the values of one ConfigMap. etcd takes 1.5 MiB.
MAX_BYTES = 1024 * 1024
#: A line with six digits for attempt and generation each, 64 CPU, 1 TiB, and all words.
LONGEST_LINE = 80
#: A line of what a ledger says of persons, with one uid and the longest name.
LONGEST_PERSON = 104
#: What the riders of a ledger may grow by before entries make room for them: 64 claims.
_SPARE_BYTES = 128 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One live attempt: the quota it holds and the generation of the spec it runs."""

    uid: str
    attempt: int
    generation: int
    size: Size  #: of the task container
    sidecar: bool = False  #: whether our sidecar runs beside it
    handed_over: bool = False  #: whether Kueue admits it: it counts for no quota of ours

    @property
    def held(self) -> Size:
        """What the attempt holds of its tenant's quota, the sidecar included; nothing where Kueue admits it."""
        return Size(cpu=0, memory=0) if self.handed_over else self.pod_size

    @property
    def pod_size(self) -> Size:
        """What its pod asks for, the sidecar included."""
        return self.size.plus(SIDECAR) if self.sidecar else self.size

    def outgrows(self, before: LedgerEntry) -> bool:
        """Return whether this one holds more of anything than *before*."""
        return self.held.cpu > before.held.cpu or self.held.memory > before.held.memory


_SIDECAR_WORD, _KUEUE_WORD = "sidecar", "kueue"
#: What may stand behind the five fields of a line.
_WORDS: tuple[list[str], ...] = ([], [_SIDECAR_WORD], [_KUEUE_WORD], [_SIDECAR_WORD, _KUEUE_WORD])

#: Entries by task uid: a task has one live attempt at most.
Entries = Mapping[str, LedgerEntry]


def parse_entries(text: str, where: str = "the ledger") -> dict[str, LedgerEntry]:
    """Return the entries of a ledger's *text*; *where* it stands, for messages.

    Raises:
        ValueError: if a line is malformed. The ledger is then not used: an empty one would admit anew what runs.
    """
    entries = {}
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if len(fields) < 5 or fields[5:] not in _WORDS:
            raise ValueError(f"line {number} of {where} has {len(fields)} fields instead of 5: {line[:80]!r}")
        try:
            entries[fields[0]] = _parse_entry(fields)
        except ValueError:
            wrong = "words where four whole numbers are to follow the uid"
            raise ValueError(f"line {number} of {where} has {wrong}: {line[:80]!r}") from None
    return entries


def format_entries(entries: Iterable[LedgerEntry]) -> str:
    """Return the ledger's text, in order of uid so that equal ledgers are equal texts."""
    return "".join(_format_entry(entry) for entry in sorted(entries, key=lambda entry: entry.uid))


def with_changes(
    entries: Entries, *, added: Iterable[LedgerEntry] = (), released: Iterable[tuple[str, int]] = ()
) -> dict[str, LedgerEntry]:
    """Return *entries* with *released* (uid, attempt) removed and *added* put in.

    A release names its attempt, so that a late one never removes a newer attempt's entry. An
    added entry never replaces one of a higher attempt.
    """
    result = dict(entries)
    for uid, attempt in released:
        if uid in result and result[uid].attempt == attempt:
            del result[uid]
    for entry in added:
        if entry.uid not in result or result[entry.uid].attempt <= entry.attempt:
            result[entry.uid] = entry
    return result


def entries_beside(carried: int) -> int:
    """Return how many entries a ledger may hold beside *carried* bytes of riders, so that it can always be stored."""
    return min(MAX_ENTRIES, max(0, MAX_BYTES - _SPARE_BYTES - carried) // LONGEST_LINE)


def entries_with_persons(most: int, count: int) -> int:
    """Return how many of *most* entries there may be where *count* stand and each further one brings its person."""
    return count + room_for_persons(most, count) // (LONGEST_LINE + LONGEST_PERSON)


def room_for_persons(most: int, count: int) -> int:
    """Return how many bytes more a ledger may hold that holds *count* of *most* entries."""
    return max(0, most - count) * LONGEST_LINE


def _parse_entry(fields: list[str]) -> LedgerEntry:
    uid, attempt, generation, cpu, memory = fields[:5]
    asked, sidecar = Size(cpu=int(cpu), memory=int(memory) * MEBIBYTE), _SIDECAR_WORD in fields[5:]
    size = Size(cpu=asked.cpu - SIDECAR.cpu, memory=asked.memory - SIDECAR.memory) if sidecar else asked
    return LedgerEntry(
        uid=uid,
        attempt=int(attempt),
        generation=int(generation),
        size=size,
        sidecar=sidecar,
        handed_over=_KUEUE_WORD in fields[5:],
    )


def _format_entry(entry: LedgerEntry) -> str:
    asked = entry.pod_size
    words = (f" {_SIDECAR_WORD}" if entry.sidecar else "") + (f" {_KUEUE_WORD}" if entry.handed_over else "")
    return f"{entry.uid} {entry.attempt} {entry.generation} {asked.cpu} {-(-asked.memory // MEBIBYTE)}{words}\n"
