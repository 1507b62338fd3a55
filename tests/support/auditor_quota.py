"""The auditor of quotas: counts, at every revision of etcd's history, the attempts of each tenant that live at once.

An attempt lives from the creation of its Job until no pod of it can run any more. It believes neither
ledger nor status; the ledger only says when an attempt was admitted, and thereby which quota held for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tests.support.auditor import ATTEMPT, LEDGER_PREFIX, UID, Violation, is_live, ledger_text
from tests.support.auditor_history import Change

TENANT, QUEUE = "longtask.dev/tenant", "kueue.x-k8s.io/queue-name"
_UNLIMITED = 10**9
Attempt = tuple[str, int]


@dataclass(slots=True)
class QuotaAuditor:
    """Feed it changes with `replay`. *limits* holds for tenants of whose TenantQuota the history does not tell."""

    limits: Mapping[str, int] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=lambda: defaultdict(int))  #: attempts at once, by tenant
    violations: list[Violation] = field(default_factory=list)
    _quotas: dict[str, int] = field(default_factory=dict)
    _cohorts: dict[str, tuple[str, int]] = field(default_factory=dict)  #: tenant -> cohort, what it may borrow
    _admitted_under: dict[Attempt, int] = field(default_factory=dict)
    _jobs: dict[str, tuple[str, Attempt]] = field(default_factory=dict)  #: namespace/name -> tenant, attempt
    _finished: set[Attempt] = field(default_factory=set)
    _pods: dict[str, tuple[Attempt, bool]] = field(default_factory=dict)  #: namespace/name -> attempt, whether it lives
    _seen_over: set[Attempt] = field(default_factory=set)
    _tenants: dict[str, str] = field(default_factory=dict)  #: task uid -> tenant
    _of_kueue: set[Attempt] = field(default_factory=set)  #: admitted by Kueue: no quota of ours counts them

    def replay(self, changes: Iterable[Change]) -> QuotaAuditor:
        takers = {"Job": self._job, "Pod": self._pod, "ConfigMap": self._ledger, "TenantQuota": self._quota}
        for change in changes:
            if change.kind in takers:
                takers[change.kind](change)
        return self

    def _quota(self, change: Change) -> None:
        if change.body is None:
            self._quotas.pop(change.name, None)
            self._cohorts.pop(change.name, None)
            return
        spec = change.body.get("spec") or {}
        amount = spec.get("concurrency") or {}
        self._quotas[change.name] = amount.get("nominal", _UNLIMITED)
        self._cohorts[change.name] = (spec.get("cohort") or "", amount.get("borrowingLimit", _UNLIMITED))

    def _ledger(self, change: Change) -> None:
        if not change.name.startswith(LEDGER_PREFIX):
            return
        for line in ledger_text(change.body).splitlines():
            uid, number = line.split()[:2]
            tenant = self._tenants.get(uid) or _tenant_of_ledger(change.name)
            if tenant:
                self._admitted_under.setdefault((uid, int(number)), self._limit(tenant))

    def _job(self, change: Change) -> None:
        key = f"{change.namespace}/{change.name}"
        if change.body is None:
            self._jobs.pop(key, None)
            return
        labels = change.body["metadata"].get("labels") or {}
        if UID not in labels:
            return
        attempt = (labels[UID], int(labels[ATTEMPT]))
        if QUEUE in labels:
            self._of_kueue.add(attempt)
            return
        new = key not in self._jobs
        self._jobs[key] = (labels.get(TENANT, ""), attempt)
        conditions = (change.body.get("status") or {}).get("conditions") or []
        if any(c.get("type") in ("Complete", "Failed") and c.get("status") == "True" for c in conditions):
            self._finished.add(attempt)
        if new:
            self._check(change, labels.get(TENANT, ""), attempt)

    def _pod(self, change: Change) -> None:
        key = f"{change.namespace}/{change.name}"
        if change.body is None:
            self._pods.pop(key, None)
            return
        labels = change.body["metadata"].get("labels") or {}
        if UID not in labels:
            return
        attempt, alive = (labels[UID], int(labels[ATTEMPT])), is_live(change.body)
        if attempt in self._of_kueue:
            return
        self._pods[key] = (attempt, alive)
        if not alive:
            self._seen_over.add(attempt)
        self._tenants[attempt[0]] = labels.get(TENANT, "")

    def _check(self, change: Change, tenant: str, attempt: Attempt) -> None:
        self._tenants[attempt[0]] = tenant
        alive = self._alive(tenant)
        self.most[tenant] = max(self.most[tenant], len(alive))
        limit = max(self._limit(tenant), self._admitted_under.get(attempt, 0))
        if len(alive) > limit:
            self._found(change, tenant, f"{len(alive)} attempts live at once, the quota is {limit}")
        self._check_cohort(change, tenant)

    def _check_cohort(self, change: Change, tenant: str) -> None:
        """All tenants of a cohort together never hold more than the sum of what is theirs."""
        cohort = self._cohorts.get(tenant, ("", 0))[0]
        members = [name for name, (of, _) in self._cohorts.items() if cohort and of == cohort]
        if not members:
            return
        held, sum_of = sum(len(self._alive(name)) for name in members), sum(self._quotas[name] for name in members)
        self.most[f"cohort {cohort}"] = max(self.most[f"cohort {cohort}"], held)
        if held > sum_of:
            self._found(change, f"cohort {cohort}", f"{held} attempts live at once, its quotas add up to {sum_of}")

    def _limit(self, tenant: str) -> int:
        cohort, borrowing = self._cohorts.get(tenant, ("", 0))
        nominal = self._quotas.get(tenant, self.limits.get(tenant, _UNLIMITED))
        return nominal + (borrowing if cohort else 0)

    def _alive(self, tenant: str) -> set[Attempt]:
        pods = {attempt for attempt, alive in self._pods.values() if alive and self._tenants[attempt[0]] == tenant}
        jobs = {attempt for of, attempt in self._jobs.values() if of == tenant}
        return pods | (jobs - self._finished - self._seen_over)

    def _found(self, change: Change, about: str, message: str) -> None:
        self.violations.append(Violation(rule="QuotaExceeded", revision=change.revision, about=about, message=message))


def _tenant_of_ledger(name: str) -> str:
    """Return the tenant whose own ledger has this name; a cohort's does not tell."""
    prefix = f"{LEDGER_PREFIX}tenant-"
    return name.removeprefix(prefix) if name.startswith(prefix) else ""
