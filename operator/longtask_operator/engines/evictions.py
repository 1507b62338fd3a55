"""Which live attempts have to give way, asked anew whenever a task is looked at."""

from __future__ import annotations

from collections.abc import Callable

from longtask_operator.adapters.errors import Conflict
from longtask_operator.core.preemption import Claim, parse_claims
from longtask_operator.engines.claims import Claims
from longtask_operator.engines.context import Context
from longtask_operator.engines.ledgers import Ledgers
from longtask_operator.engines.snapshots import Tenants


class Evictions:
    """Answers from quotas and claims as they stand now; *wake* takes the key of a task for the work queue."""

    def __init__(
        self, context: Context, ledgers: Ledgers, quotas: Tenants, claims: Claims, wake: Callable[[str], None]
    ) -> None:
        self._context, self._ledgers, self._quotas, self._claims, self._wake = context, ledgers, quotas, claims, wake

    def why(self, uid: str, tenant: str) -> str:
        """Return in a sentence why the attempt of a task has to give way; an empty string if it may go on."""
        holder, entry = self._ledgers.tenant_of(uid) or tenant, self._ledgers.entry(uid)
        limits = self._quotas.limits(holder)
        if limits.draining:
            return f"{limits.origin} says stopPolicy HoldAndDrain"
        claim = self._claims.for_whom(uid, entry.attempt) if entry else None
        # A claim of a task that is gone is about to go, too.
        return _described(claim, holder) if claim and self._quotas.key(claim.uid) else ""

    async def confirm(self, uid: str, attempt: int, tenant: str) -> None:
        """Ask the API server whether an attempt still has to give way: a claim is dropped by whoever leads.

        Raises:
            Conflict: if no ledger claims it any more. ApiError otherwise.
        """
        if self._quotas.limits(self._ledgers.tenant_of(uid) or tenant).draining:
            return
        for name in self._ledgers.standing(uid):
            claims = parse_claims(await self._ledgers.carried(name, self._claims.key))
            if any((uid, attempt) in claim.victims for claim in claims):
                return
            self._ledgers.doubt(name)
        self._claims.spare(uid, attempt)
        raise Conflict(409, "Conflict", f"no claim names attempt {attempt} any more")

    def limits_changed(self, tenant: str) -> None:
        """Look at everything of *tenant* that lives, if it is drained now."""
        if self._quotas.limits(tenant).draining:
            for record in self._context.caches.tasks:
                if record.tenant == tenant or self._ledgers.tenant_of(record.uid) == tenant:
                    self._wake(record.key)


def _described(claim: Claim, tenant: str) -> str:
    """Return for whom an attempt of *tenant* gives way; a task of another tenant is not for this one to know."""
    if claim.tenant == tenant:
        return "gives way to a task of this tenant with a higher priority"
    return f"gives back what it borrowed: tenant {claim.tenant} needs what it has lent"
