"""The auditor of editions: holds each admission against the editions of the TenantQuotas that its ledger names.

An operator may admit by a TenantQuota that has just been changed, since no clock of two processes is one. What it may
not do (docs/adr/0031) is to name in the ledger an older edition than a ledger has gone by, to admit more than the named
ones allow, or to admit a tenant to a ledger that is not the one it belongs to. A limit that is lowered ends nothing, so
only what an admission takes is judged: what came before it may stand.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tests.support.auditor import ATTEMPT, LEDGER_PREFIX, UID, Violation, is_live
from tests.support.auditor_history import Change
from tests.support.auditor_protobuf import Json
from tests.support.auditor_quota import UNITS, UNLIMITED, Amounts, Attempt, amounts_in, sum_of

LONE, COHORT = f"{LEDGER_PREFIX}tenant-", f"{LEDGER_PREFIX}cohort-"
EDITIONS, NO_QUOTA = "quota.editions", "-"
NOTHING: Amounts = (0, 0, 0)
_EACH = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class _Terms:
    """What one edition of a TenantQuota allows; what a member lends is not kept for it."""

    cohort: str = ""
    on_hold: bool = False
    nominal: Amounts = (UNLIMITED, UNLIMITED, UNLIMITED)
    borrows: Amounts = NOTHING
    lends: Amounts = NOTHING

    def of_the_lent(self, r: int, used: int) -> int:
        """Return how much of what all lend is taken by who uses so much of resource *r*."""
        return max(0, used - self.nominal[r] + self.lends[r]) if self.nominal[r] < UNLIMITED else 0


@dataclass(frozen=True, slots=True)
class _Ledger:
    """One version: what each tenant's attempts hold, by task uid, and by which editions it goes."""

    lines: Mapping[str, Mapping[str, tuple[int, Amounts]]] = field(default_factory=dict)
    settled: Mapping[str, str] = field(default_factory=dict)
    joining: frozenset[str] = frozenset()


@dataclass(slots=True)
class EditionAuditor:
    """Feed it changes with `replay`, from before the TenantQuotas were made."""

    violations: list[Violation] = field(default_factory=list)
    admissions: int = 0
    borrowed: int = 0  #: admissions beyond a tenant's nominal quota
    moves: int = 0  #: times that a tenant that one ledger had gone by was settled in another
    _order: dict[str, list[str]] = field(default_factory=lambda: defaultdict(lambda: [NO_QUOTA]))  #: editions by tenant
    _terms: dict[tuple[str, str], _Terms] = field(default_factory=dict)  #: by tenant and edition
    _ledgers: dict[str, _Ledger] = field(default_factory=dict)
    _newest: dict[str, tuple[int, str]] = field(default_factory=dict)  #: place in the order, and ledger
    _begun: set[Attempt] = field(default_factory=set)  #: attempts that have a Job: one that comes back is no new one
    _over: set[Attempt] = field(default_factory=set)

    def replay(self, changes: Iterable[Change]) -> EditionAuditor:
        """Take in *changes* in their order."""
        takers = {"TenantQuota": self._quota, "ConfigMap": self._ledger, "Job": self._owned, "Pod": self._owned}
        for change in changes:
            if change.kind in takers:
                takers[change.kind](change)
        return self

    def _quota(self, change: Change) -> None:
        edition = edition_of(change.body)
        if self._order[change.name][-1] != edition:
            self._order[change.name].append(edition)
            self._terms[change.name, edition] = _terms((change.body or {}).get("spec") or {})

    def _owned(self, change: Change) -> None:
        labels = ((change.body or {}).get("metadata") or {}).get("labels") or {}
        if change.body is None or UID not in labels:
            return
        attempt = (labels[UID], int(labels[ATTEMPT]))
        self._begun.add(attempt)
        if change.kind == "Pod" and not is_live(change.body):
            self._over.add(attempt)

    def _ledger(self, change: Change) -> None:
        if not change.name.startswith(LEDGER_PREFIX):
            return
        before, after = self._ledgers.get(change.name, _Ledger()), _parse(change)
        gained = {tenant: wanted for tenant in after.lines if (wanted := self._gained(tenant, after)) is not None}
        self._ledgers[change.name] = after
        for tenant, edition in after.settled.items():
            if before.settled.get(tenant) != edition:
                self._check_edition(change, tenant, edition, is_new=tenant not in {*before.settled, *before.joining})
        for tenant, wanted in gained.items():
            self.admissions += wanted[0]
            for message in self._astray(change.name, tenant):
                self._found(change, "EditionHome", tenant, message)
            if tenant in after.settled:
                self._check_room(change, tenant, wanted)

    def _gained(self, tenant: str, after: _Ledger) -> Amounts | None:
        """Return what *tenant* takes more than before; None where it has no attempt and no growth that is new."""
        wanted = []
        for uid, (attempt, amounts) in after.lines[tenant].items():
            known = [every[uid] for of in self._ledgers.values() if uid in (every := of.lines.get(tenant, {}))]
            held = [before for number, before in known if number == attempt]
            if not any(number >= attempt for number, _ in known) and (uid, attempt) not in self._begun:
                wanted.append(amounts)
            elif held and (growth := _beyond(amounts, held)) != NOTHING:
                wanted.append(growth)
        return sum_of(wanted) if wanted else None

    # The rules.

    def _check_edition(self, change: Change, tenant: str, edition: str, *, is_new: bool) -> None:
        """No ledger goes back, to no edition that never was, and a tenant joins before it is admitted to."""
        order, (newest, ledger) = self._order[tenant], self._newest.get(tenant, (0, ""))
        place = len(order) - 1 - order[::-1].index(edition) if edition in order else -1
        if place < newest:
            was = f"a ledger has gone by {order[newest]}" if place >= 0 else "that never was"
            self._found(change, "EditionBack", tenant, f"the ledger goes by edition {edition}, and {was}")
        if is_new:
            self._found(change, "EditionHome", tenant, "the ledger goes by its quota, which has not joined before")
        self.moves += bool(ledger) and ledger != change.name
        self._newest[tenant] = (max(place, newest), change.name)

    def _astray(self, name: str, tenant: str) -> list[str]:
        """Return why nothing of *tenant* may be admitted to ledger *name*, whatever there is room for."""
        ledger = self._ledgers[name]
        found = [f"it is admitted while {one} still joins" for one in sorted(ledger.joining)]
        if tenant not in ledger.settled:
            return found or ["it is admitted to a ledger that does not list it"]
        others = [other for other, of in self._ledgers.items() if other != name and tenant in of.settled]
        found += [f"it is admitted, and {other} goes by its quota as well" for other in others]
        homes = {one: _home(one, self._says(one, edition).cohort) for one, edition in ledger.settled.items()}
        found += [f"it is admitted, and {one} belongs to {home}" for one, home in homes.items() if home != name]
        return found

    def _check_room(self, change: Change, tenant: str, wanted: Amounts) -> None:
        """Hold what *tenant* has now, *wanted* of it newly, against what the editions that the ledger names allow."""
        ledger = self._ledgers[change.name]
        terms = {one: self._says(one, edition) for one, edition in ledger.settled.items()}
        used, own = {one: self._held(change.name, one) for one in terms}, terms[tenant]
        strays = sum_of(held for one in ledger.lines if one not in terms for _, held in ledger.lines[one].values())
        if own.on_hold and wanted[0]:
            self._exceeded(change, tenant, "something is admitted, and the edition says that nothing starts")
        self.borrowed += any(used[tenant][r] > own.nominal[r] for r in _EACH)
        for r in (r for r in _EACH if wanted[r] > 0):
            has, cap = used[tenant][r], own.nominal[r] + own.borrows[r]
            lent = sum(of.lends[r] for of in terms.values())
            taken = strays[r] + sum(of.of_the_lent(r, used[one][r]) for one, of in terms.items())
            if has > cap:
                self._exceeded(change, tenant, f"it is admitted to {has} {UNITS[r]}, its edition allows {cap}")
            elif taken > lent and own.of_the_lent(r, has) > own.of_the_lent(r, has - wanted[r]):
                self._exceeded(change, tenant, f"{taken} {UNITS[r]} are taken of {lent} that the editions lend")

    def _held(self, name: str, tenant: str) -> Amounts:
        """Return what *tenant* holds: its lines in ledger *name*, and those that only others have while they live."""
        here = self._ledgers[name].lines.get(tenant, {})
        elsewhere = {
            uid: line
            for other, ledger in self._ledgers.items()
            for uid, line in ledger.lines.get(tenant, {}).items()
            if other != name and uid not in here and (uid, line[0]) not in self._over
        }
        return sum_of(amounts for _, amounts in [*here.values(), *elsewhere.values()])

    def _says(self, tenant: str, edition: str) -> _Terms:
        return self._terms.get((tenant, edition), _Terms())

    def _exceeded(self, change: Change, tenant: str, message: str) -> None:
        self._found(change, "EditionExceeded", tenant, message)

    def _found(self, change: Change, rule: str, tenant: str, message: str) -> None:
        about = f"{tenant} in {change.name}"
        self.violations.append(Violation(rule=rule, revision=change.revision, about=about, message=message))


def edition_of(body: Json | None) -> str:
    """Return how ledgers name the edition of a TenantQuota, or that there is none."""
    meta = (body or {}).get("metadata")
    return f"{meta['uid'][:8]}/{meta['generation']}" if meta else NO_QUOTA


def _terms(spec: Json) -> _Terms:
    nominal, cohort = amounts_in(spec, "nominal"), spec.get("cohort") or ""
    borrowing, lending = amounts_in(spec, "borrowingLimit"), amounts_in(spec, "lendingLimit")
    lends = [0 if nominal[r] >= UNLIMITED or not cohort else min(nominal[r], lending[r]) for r in _EACH]
    return _Terms(
        cohort=cohort,
        on_hold=spec.get("stopPolicy") in ("Hold", "HoldAndDrain"),
        nominal=nominal,
        borrows=borrowing if cohort else NOTHING,
        lends=(lends[0], lends[1], lends[2]),
    )


def _parse(change: Change) -> _Ledger:
    data: dict[str, str] = (change.body or {}).get("data") or {}
    texts = {key: text for key, text in data.items() if "." not in key}
    if change.name.startswith(LONE):
        texts = {change.name.removeprefix(LONE): data.get("attempts", "")}
    listed = [line.split() for line in data.get(EDITIONS, "").splitlines()]
    return _Ledger(
        {tenant: dict(map(_line, text.splitlines())) for tenant, text in texts.items()},
        {fields[0]: fields[1] for fields in listed if len(fields) == 2},
        frozenset(fields[0] for fields in listed if len(fields) > 2),
    )


def _line(text: str) -> tuple[str, tuple[int, Amounts]]:
    """Return uid, and attempt and what it holds; what Kueue admits holds nothing of ours."""
    uid, attempt, _, cpu, memory, *words = text.split()
    return uid, (int(attempt), NOTHING if "kueue" in words else (1, int(cpu), int(memory)))


def _beyond(amounts: Amounts, held: Iterable[Amounts]) -> Amounts:
    """Return by how much *amounts* exceed the most of *held*."""
    first, second, third = (max(0, amounts[r] - max(one[r] for one in held)) for r in _EACH)
    return first, second, third


def _home(tenant: str, cohort: str) -> str:
    return f"{COHORT}{cohort}" if cohort else f"{LONE}{tenant}"
