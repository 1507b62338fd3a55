"""The auditor of quotas: adds up, at every revision of etcd's history, what the attempts of each tenant hold at once.

It counts those of each person as well, by what the task said, also where that is gone by now.
An attempt holds one place and what its pod asks for, as the template of its Job or the pod itself says. It lives from
the creation of its Job until no pod of it can run any more. Neither ledger nor status is believed; the ledger only says
when an attempt was admitted, and thereby which quota held for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from longtask_operator.api.identity import person_of
from tests.support.auditor import ATTEMPT, LEDGER_PREFIX, UID, Violation, is_live, ledger_text, mebi, milli
from tests.support.auditor_history import Change
from tests.support.auditor_protobuf import Json

TENANT, QUEUE = "longtask.dev/tenant", "kueue.x-k8s.io/queue-name"
UNLIMITED = 10**9
Attempt = tuple[str, int]
Amounts = tuple[int, int, int]  #: attempts, milliCPU, MiB
UNITS = ("attempts", "milliCPU", "MiB")


@dataclass(slots=True)
class QuotaAuditor:
    """Feed it changes with `replay`. *limits* holds for tenants of whose TenantQuota the history does not tell."""

    limits: Mapping[str, int] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=lambda: defaultdict(int))  #: attempts at once, by tenant
    violations: list[Violation] = field(default_factory=list)
    _quotas: dict[str, Amounts] = field(default_factory=dict)
    _cohorts: dict[str, tuple[str, Amounts]] = field(default_factory=dict)  #: tenant -> cohort, what it may borrow
    _admitted_under: dict[Attempt, Amounts] = field(default_factory=dict)
    _asks: dict[Attempt, tuple[int, int]] = field(default_factory=dict)  #: milliCPU, MiB
    _jobs: dict[str, tuple[str, Attempt]] = field(default_factory=dict)  #: namespace/name -> tenant, attempt
    _finished: set[Attempt] = field(default_factory=set)
    _pods: dict[str, tuple[Attempt, bool]] = field(default_factory=dict)  #: namespace/name -> attempt, whether it lives
    _seen_over: set[Attempt] = field(default_factory=set)
    _tenants: dict[str, str] = field(default_factory=dict)  #: task uid -> tenant
    _persons: dict[str, str] = field(default_factory=dict)  #: task uid -> person
    _per_user: dict[str, int] = field(default_factory=dict)  #: tenant -> attempts of one person
    _persons_under: dict[Attempt, int] = field(default_factory=dict)  #: the same, as each attempt was admitted
    _of_kueue: set[Attempt] = field(default_factory=set)  #: admitted by Kueue: no quota of ours counts them

    def replay(self, changes: Iterable[Change]) -> QuotaAuditor:
        takers = {"Job": self._job, "Pod": self._pod, "ConfigMap": self._ledger, "TenantQuota": self._quota}
        takers["LongTask"] = self._task
        for change in changes:
            if change.kind in takers:
                takers[change.kind](change)
        return self

    def _task(self, change: Change) -> None:
        if change.body is not None:
            metadata = change.body["metadata"]
            self._persons.setdefault(metadata["uid"], person_of(metadata.get("annotations") or {}))

    def _quota(self, change: Change) -> None:
        self._per_user.pop(change.name, None)
        if change.body is None:
            self._quotas.pop(change.name, None)
            self._cohorts.pop(change.name, None)
            return
        spec = change.body.get("spec") or {}
        if (most := (spec.get("perUser") or {}).get("maxConcurrency")) is not None:
            self._per_user[change.name] = int(most)
        self._quotas[change.name] = amounts_in(spec, "nominal")
        self._cohorts[change.name] = (spec.get("cohort") or "", amounts_in(spec, "borrowingLimit"))

    def _ledger(self, change: Change) -> None:
        if not change.name.startswith(LEDGER_PREFIX):
            return
        for line in ledger_text(change.body).splitlines():
            uid, number = line.split()[:2]
            tenant = self._tenants.get(uid) or _tenant_of_ledger(change.name)
            if tenant:
                self._admitted_under.setdefault((uid, int(number)), self._limit(tenant))
                self._persons_under.setdefault((uid, int(number)), self._per_user.get(tenant, UNLIMITED))

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
        self._asks.setdefault(attempt, _asked(((change.body.get("spec") or {}).get("template") or {}).get("spec")))
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
        self._asks[attempt] = _asked(change.body.get("spec"))
        if not alive:
            self._seen_over.add(attempt)
        self._tenants[attempt[0]] = labels.get(TENANT, "")

    def _check(self, change: Change, tenant: str, attempt: Attempt) -> None:
        self._tenants[attempt[0]] = tenant
        held = self._held(tenant)
        self.most[tenant] = max(self.most[tenant], held[0])
        under = self._admitted_under.get(attempt, (0, 0, 0))
        limit = [max(now, then) for now, then in zip(self._limit(tenant), under, strict=True)]
        for unit, amount, most in zip(UNITS, held, limit, strict=True):
            if amount > most:
                self._found(change, tenant, f"{amount} {unit} live at once, the quota is {most}")
        self._check_cohort(change, tenant)
        self._check_person(change, tenant, attempt)

    def _check_person(self, change: Change, tenant: str, attempt: Attempt) -> None:
        person = self._persons.get(attempt[0], "")
        most = max(self._per_user.get(tenant, UNLIMITED), self._persons_under.get(attempt, 0))
        held = sum(self._persons.get(uid) == person for uid, _ in self._alive(tenant)) if person else 0
        if held > most:
            self._found(change, tenant, f"{held} attempts of {person} live at once, each person may have {most}")

    def _check_cohort(self, change: Change, tenant: str) -> None:
        """All tenants of a cohort together never hold more than the sum of what is theirs."""
        cohort = self._cohorts.get(tenant, ("", 0))[0]
        members = [name for name, (of, _) in self._cohorts.items() if cohort and of == cohort]
        if not members:
            return
        held, together = sum_of(map(self._held, members)), sum_of(self._quotas[name] for name in members)
        self.most[f"cohort {cohort}"] = max(self.most[f"cohort {cohort}"], held[0])
        for unit, amount, most in zip(UNITS, held, together, strict=True):
            if amount > most:
                self._found(change, f"cohort {cohort}", f"{amount} {unit} live at once, its quotas add up to {most}")

    def _limit(self, tenant: str) -> Amounts:
        nominal = self._quotas.get(tenant) or (self.limits.get(tenant, UNLIMITED), UNLIMITED, UNLIMITED)
        cohort, borrowing = self._cohorts.get(tenant, ("", nominal))
        return sum_of([nominal, borrowing]) if cohort else nominal

    def _held(self, tenant: str) -> Amounts:
        """Return what the attempts of *tenant* that live hold together."""
        return sum_of((1, *self._asks[attempt]) for attempt in self._alive(tenant))

    def _alive(self, tenant: str) -> set[Attempt]:
        pods = {attempt for attempt, alive in self._pods.values() if alive and self._tenants[attempt[0]] == tenant}
        jobs = {attempt for of, attempt in self._jobs.values() if of == tenant}
        return pods | (jobs - self._finished - self._seen_over)

    def _found(self, change: Change, about: str, message: str) -> None:
        self.violations.append(Violation(rule="QuotaExceeded", revision=change.revision, about=about, message=message))


def amounts_in(spec: Json, name: str) -> Amounts:
    """Return the amounts called *name* in a TenantQuota's *spec*."""
    attempts, cpu, memory = ((spec.get(key) or {}).get(name) for key in ("concurrency", "cpu", "memory"))
    return (
        UNLIMITED if attempts is None else int(attempts),
        UNLIMITED if cpu is None else milli(cpu),
        UNLIMITED if memory is None else mebi(memory),
    )


def _asked(pod: Json | None) -> tuple[int, int]:
    """Return what all containers of a pod's spec are limited to, a sidecar included."""
    containers = [*((pod or {}).get("containers") or []), *((pod or {}).get("initContainers") or [])]
    limits = [(container.get("resources") or {}).get("limits") or {} for container in containers]
    return sum(milli(each.get("cpu", "0")) for each in limits), sum(mebi(each.get("memory", "0")) for each in limits)


def sum_of(every: Iterable[Amounts]) -> Amounts:
    attempts = cpu = memory = 0
    for one in every:
        attempts, cpu, memory = attempts + one[0], cpu + one[1], memory + one[2]
    return attempts, cpu, memory


def _tenant_of_ledger(name: str) -> str:
    """Return the tenant whose own ledger has this name; a cohort's does not tell."""
    prefix = f"{LEDGER_PREFIX}tenant-"
    return name.removeprefix(prefix) if name.startswith(prefix) else ""
