"""What the members of a cohort may still take: their own first, then what others lend and do not use.

For each resource (Kueue's meaning of the words): a member's nominal quota is what it lends, up to its lendingLimit,
and what it keeps. What is kept is always its own. What all lend is taken by whoever comes first, up to each one's
nominal plus borrowingLimit. So nobody exceeds that, and all together never exceed the sum of nominal. A resource that
a member does not limit has no part in this: the member lends none of it and takes none from others. Of one whose
quota cannot be read the member lends none, and all that it has counts as taken: it may be borrowed. Nobody asks for it
back: it may be its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from longtask_operator.core.quota import Amounts, Caps, Limits
from longtask_operator.core.sizing import Size

RESOURCES = ("concurrency", "cpu", "memory")
UNBOUNDED = 1 << 62

#: An amount of each of RESOURCES.
Vector = tuple[int, int, int]
_EACH = (0, 1, 2)


def demand_of(held: Size) -> Vector:
    """Return what one attempt of that size takes."""
    return (1, held.cpu, held.memory)


def growth_of(before: Size, after: Size) -> Vector:
    """Return what a live attempt takes more when it holds *after* and not *before*; less is a negative number."""
    return (0, after.cpu - before.cpu, after.memory - before.memory)


def within(limits: Limits, amounts: Vector) -> Limits:
    """Return *limits* with other amounts; what is not limited stays so."""
    concurrency, cpu, memory = (None if amount >= UNBOUNDED else amount for amount in amounts)
    return replace(limits, concurrency=concurrency, cpu=cpu, memory=memory)


def vector_of(amounts: Amounts | Caps, absent: int = 0) -> Vector:
    """Return *amounts* as a vector, with *absent* where there is no number."""
    numbers = (amounts.concurrency, amounts.cpu, amounts.memory)
    first, second, third = (absent if number is None else number for number in numbers)
    return (first, second, third)


class Account:
    """One member: its quota and what it has taken."""

    __slots__ = ("cap", "kept", "lends", "nominal", "used")

    def __init__(self, limits: Limits, usage: Amounts) -> None:
        own = Caps(concurrency=limits.concurrency, cpu=limits.cpu, memory=limits.memory)
        self.nominal = vector_of(own, UNBOUNDED)
        alone = not limits.cohort
        borrowing = (0, 0, 0) if alone else vector_of(limits.borrowing, UNBOUNDED)
        lending = (0, 0, 0) if alone else vector_of(limits.lending, UNBOUNDED)
        self.cap = [min(UNBOUNDED, self.nominal[r] + borrowing[r]) for r in _EACH]
        self.lends = [0 if self.nominal[r] == UNBOUNDED else min(self.nominal[r], lending[r]) for r in _EACH]
        self.kept = [0 if RESOURCES[r] in limits.unread else self.nominal[r] - self.lends[r] for r in _EACH]
        self.used = list(vector_of(usage))

    def limits(self, r: int) -> bool:
        """Whether the member limits resource *r*."""
        return self.nominal[r] != UNBOUNDED

    def counts(self, r: int) -> bool:
        """Whether what the member has of resource *r* concerns others."""
        return self.kept[r] != UNBOUNDED

    def of_the_lent(self, r: int, used: int) -> int:
        """Return how much of what all lend the member takes when it uses that much."""
        return max(0, used - self.kept[r])

    def of_the_lent_as_its_own(self, r: int) -> int:
        """Return how much of what all lend the member takes without exceeding its nominal quota."""
        return self.of_the_lent(r, min(self.used[r], self.nominal[r]))

    def copy(self) -> Account:
        """Return an account that may be changed without changing this one."""
        twin = object.__new__(Account)
        twin.nominal, twin.cap, twin.lends, twin.kept = self.nominal, self.cap, self.lends, self.kept
        twin.used = list(self.used)
        return twin


class Room:
    """The accounts of all members; *strays* is what stands in their ledger and belongs to none of them."""

    def __init__(self, members: Mapping[str, tuple[Limits, Amounts]], strays: Amounts | None = None) -> None:
        self._accounts = {tenant: Account(limits, usage) for tenant, (limits, usage) in members.items()}
        self._strays = vector_of(strays or Amounts())
        self._lent = [sum(account.lends[r] for account in self._accounts.values()) for r in _EACH]
        self._taken = [
            self._strays[r] + sum(account.of_the_lent(r, account.used[r]) for account in self._accounts.values())
            for r in _EACH
        ]
        #: of what is taken, what nobody would have to give back
        self._owned = [sum(account.of_the_lent_as_its_own(r) for account in self._accounts.values()) for r in _EACH]

    def copy(self) -> Room:
        """Return a room that may be changed without changing this one."""
        twin = object.__new__(Room)
        twin._accounts = {tenant: account.copy() for tenant, account in self._accounts.items()}
        twin._strays, twin._lent = self._strays, self._lent
        twin._taken, twin._owned = list(self._taken), list(self._owned)
        return twin

    def add(self, tenant: str, demand: Vector, sign: int = 1) -> None:
        """Count one more attempt of *tenant*; one less with *sign* -1."""
        account = self._accounts[tenant]
        for r in _EACH:
            before, after = account.used[r], account.used[r] + sign * demand[r]
            self._taken[r] += account.of_the_lent(r, after) - account.of_the_lent(r, before)
            self._owned[r] -= account.of_the_lent_as_its_own(r)
            account.used[r] = after
            self._owned[r] += account.of_the_lent_as_its_own(r)

    def fits(self, tenant: str, demand: Vector) -> bool:
        """Whether *tenant* may take that much more."""
        account, lent, taken = self._accounts[tenant], self._lent, self._taken
        for r in _EACH:
            nominal, used, wanted = account.nominal[r], account.used[r], demand[r]
            if nominal == UNBOUNDED or wanted <= 0:
                continue
            if used + wanted > account.cap[r]:
                return False
            if wanted > max(0, account.kept[r] - used) + max(0, lent[r] - taken[r]):
                return False
        return True

    def within_cap(self, tenant: str, demand: Vector) -> bool:
        """Whether *tenant* itself may hold that much more, had the cohort room for it."""
        account = self._accounts[tenant]
        return all(account.used[r] + demand[r] <= account.cap[r] for r in _EACH)

    def borrows(self, tenant: str, demand: Vector) -> bool:
        """Whether *tenant* exceeds its nominal quota of some resource with that much more."""
        account = self._accounts[tenant]
        return any(account.used[r] + demand[r] > account.nominal[r] for r in _EACH)

    def exceeds(self, tenant: str, resources: list[int]) -> bool:
        """Whether *tenant* has more than its nominal quota of one of *resources*."""
        account = self._accounts[tenant]
        return any(account.used[r] > account.nominal[r] for r in resources)

    def lacking(self, tenant: str, demand: Vector) -> list[int]:
        """Return the resources of which *tenant* cannot have that much more now."""
        alone = [tuple(demand[r] if r == one else 0 for r in _EACH) for one in _EACH]
        return [r for r in _EACH if not self.fits(tenant, (alone[r][0], alone[r][1], alone[r][2]))]

    def most(self, tenant: str) -> Vector:
        """Return what *tenant* could have if nobody else had anything."""
        account = self._accounts[tenant]
        first, second, third = (
            min(account.cap[r], account.kept[r] + self._lent[r]) if account.limits(r) else UNBOUNDED for r in _EACH
        )
        return (first, second, third)

    def could_fit(self, tenant: str, demand: Vector) -> bool:
        """Whether *tenant* could have that much if nobody else had anything."""
        most = self.most(tenant)
        return all(demand[r] <= most[r] for r in _EACH)

    def fits_after_returns(self, tenant: str, demand: Vector) -> bool:
        """Whether *tenant* could have that much once it has nothing else and others hold none that they borrow."""
        account = self._accounts[tenant]
        for r in (r for r in _EACH if account.limits(r)):
            others = self._owned[r] - account.of_the_lent_as_its_own(r)
            if demand[r] > min(account.cap[r], account.kept[r] + self._lent[r] - others):
                return False
        return True

    def used(self, tenant: str) -> Vector:
        """Return what *tenant* has."""
        first, second, third = self._accounts[tenant].used
        return (first, second, third)

    def cap(self, tenant: str) -> Vector:
        """Return nominal and borrowingLimit of *tenant* together."""
        first, second, third = self._accounts[tenant].cap
        return (first, second, third)

    def totals(self) -> tuple[Vector, Vector]:
        """Return what counts of each resource together, and the sum of the nominal quota of those who limit it."""
        accounts = self._accounts.values()
        used = [self._strays[r] + sum(one.used[r] for one in accounts if one.counts(r)) for r in _EACH]
        nominal = [sum(one.nominal[r] for one in accounts if one.limits(r)) for r in _EACH]
        return (used[0], used[1], used[2]), (nominal[0], nominal[1], nominal[2])

    def counted(self, tenant: str, amounts: Vector) -> Vector:
        """Return *amounts*, with 0 for each resource of which what *tenant* has concerns nobody."""
        account = self._accounts[tenant]
        first, second, third = (amounts[r] if account.counts(r) else 0 for r in _EACH)
        return (first, second, third)

    def users_of(self, r: int) -> list[tuple[str, int]]:
        """Return who has how much of resource *r*, of those with whom it counts, the most first."""
        found = [(tenant, account.used[r]) for tenant, account in self._accounts.items() if account.counts(r)]
        return sorted((pair for pair in found if pair[1]), key=lambda pair: (-pair[1], pair[0]))
