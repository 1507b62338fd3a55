"""Prometheus metrics. No label ever carries a task's name; tenants are bounded, the rest is `_other`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from longtask_operator.adapters.tenant_labels import OTHER, TenantSeries

disable_created_metrics()  # type: ignore[no-untyped-call]

NO_TYPE = "none"  #: label `type` of tasks that name a plain image
_TO_DAYS = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 86_400, 3 * 86_400)
_TO_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """All series of the operator, in a registry of their own."""

    def __init__(self, *, version: str, max_tenants: int) -> None:
        self.registry = registry = CollectorRegistry()
        self._series = series = TenantSeries(max_tenants)
        self._known_budgets: dict[str, set[str]] = {}

        def counter(name: str, text: str, *labels: str) -> Counter:
            return series.keep(Counter(f"longtask_{name}", text, labels, registry=registry), labels)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return series.keep(Gauge(f"longtask_{name}", text, labels, registry=registry), labels)

        def histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...] = _TO_DAYS) -> Histogram:
            return Histogram(f"longtask_{name}", text, labels, registry=registry, buckets=buckets)

        self._tasks = gauge("tasks", "LongTasks by tenant and phase.", "tenant", "phase")
        self._dead_letters = gauge("dead_letters", "Tasks that failed because a budget ran out.", "tenant")
        self._stuck = gauge("stuck", "Tasks whose attempt is silent or makes no progress.", "tenant")
        self._deadline_at_risk = gauge("deadline_at_risk", "Tasks that would end after their deadline.", "tenant")
        self._queue_wait = histogram("queue_wait_seconds", "From the begin of the wait for admission to the Job.")
        self._start = histogram("start_seconds", "From an attempt's admission to its task container running.")
        self._run = histogram("run_seconds", "From the first start of a run to its end.", "outcome")
        self._submitted = counter("submitted", "LongTasks seen for the first time.", "tenant", "type")
        self._admitted = counter("admitted", "Attempts admitted.", "tenant")
        self._held_back = counter("held_back", "Attempts held back, or refused, by reason.", "tenant", "reason")
        self._queue_depth = gauge("queue_depth", "Tasks that wait for admission.", "tenant")
        self._queue_oldest = gauge(
            "queue_oldest_seconds", "Age of the oldest run that waits for admission, whatever ran since.", "tenant"
        )
        self._quota_nominal = gauge("quota_nominal", "What a tenant may use; absent: no limit.", "tenant", "resource")
        self._quota_usage = gauge("quota_usage", "What a tenant's live attempts hold.", "tenant", "resource")
        self._budget_used = gauge(
            "budget_used_ratio", "Share used of a rolling budget; 1 is spent.", "tenant", "budget"
        )
        self._finished = counter("finished", "Runs that ended.", "tenant", "type", "outcome")
        self._deleted = counter("deleted", "LongTasks deleted.", "tenant")
        self._attempts = counter("attempts", "Attempts that ended, by cause.", "tenant", "type", "cause")
        self._retries = counter("retries", "Attempts that are followed by another, by cause.", "tenant", "cause")
        self._resizes = counter("resizes", "Growths of attempts, by what came of them.", "kind", "outcome")
        self._reports = counter("reports", "Reports of workers answered, by HTTP code.", "code")
        self._probes = counter("report_probes", "Probes of the report channel by the leader itself.", "outcome")
        self.deaf = gauge("reports_deaf", "1 while no report can come through: nobody is judged for silence.")
        self.report_staleness = histogram(
            "report_staleness_seconds",
            "Age of a report when it is mirrored into the status.",
            buckets=(*_TO_SECONDS, 30, 60),
        )
        self._ledger_writes = counter("ledger_writes", "Writes of ledgers.")
        self._ledger_conflicts = counter("ledger_conflicts", "Ledger writes refused because another operator wrote.")
        self._api_requests = counter("api_requests", "Requests to the API server.", "verb", "resource", "code")
        self._api_seconds = histogram("api_request_seconds", "Time of requests to the API server.", buckets=_TO_SECONDS)
        self._reconcile_seconds = histogram(
            "reconcile_seconds", "Time of one reconcile, writes included.", buckets=_TO_SECONDS
        )
        self._reconcile_errors = counter("reconcile_errors", "Reconciles that failed and are tried again.")
        self.certificate_end = gauge("report_certificate_expiration_timestamp_seconds", "When it ends; 0: none.")
        self.cache_age = gauge("cache_age_seconds", "Age of the oldest cache's last word from the API server.")
        self.leader = gauge("leader", "1 on the replica that leads.")
        gauge("build_info", "1, labelled with the version.", "version").labels(version).set(1)

    def tenant(self, name: str | None) -> str:
        """Return the label value of a tenant: its name, or `_other` where others come first."""
        return self._series.labels.of(name)

    def set_quota(self, tenant: str, has_one: bool) -> None:
        """Take note of whether a tenant has a TenantQuota: such tenants have a label of their own before others."""
        self._series.labels.set_quota(tenant, has_one)

    def tenants(self) -> list[str]:
        """Return the tenants that have a label of their own."""
        return self._series.labels.tenants()

    def forget(self, tenant: str) -> None:
        """Drop the series of a tenant that is gone; others may have its label."""
        self._series.labels.forget(tenant)
        self._known_budgets.pop(tenant, None)

    def exposition(self) -> bytes:
        """Return all series in the text format."""
        return generate_latest(self.registry)

    def count_task(
        self, tenant: str | None, phase: str, step: int, *, dead_lettered: bool, stuck: bool, at_risk: bool
    ) -> None:
        """Count one task more (*step* 1) or less (-1) as what it is now."""
        self._series.add(tenant, self._tasks, step, phase)
        self._series.add(tenant, self._dead_letters, step * dead_lettered)
        self._series.add(tenant, self._stuck, step * stuck)
        self._series.add(tenant, self._deadline_at_risk, step * at_risk)

    def submitted(self, tenant: str | None) -> None:
        """Count a LongTask seen for the first time."""
        self._submitted.labels(self.tenant(tenant), NO_TYPE).inc()

    def admitted(self, tenant: str) -> None:
        """Count an admitted attempt."""
        self._admitted.labels(self.tenant(tenant)).inc()

    def waited(self, seconds: float) -> None:
        """Observe how long an admitted attempt had waited."""
        self._queue_wait.observe(max(0.0, seconds))

    def held_back(self, tenant: str, reason: str) -> None:
        """Count an attempt that admission holds back for a new reason, or that the cluster refuses."""
        self._held_back.labels(self.tenant(tenant), reason).inc()

    def queued(self, tenant: str, depth: int, oldest_seconds: float) -> None:
        """Show a tenant's queue. Tenants without a label of their own are not shown: gauges do not add up."""
        if (label := self.tenant(tenant)) != OTHER:
            self._queue_depth.labels(label).set(depth)
            self._queue_oldest.labels(label).set(max(0.0, oldest_seconds))

    def quota(self, tenant: str, resource: str, used: int, nominal: int | None) -> None:
        """Show what a tenant uses of a resource: attempts, millicores or bytes."""
        if (label := self.tenant(tenant)) == OTHER:
            return
        self._quota_usage.labels(label, resource).set(used)
        if nominal is None:
            with suppress(KeyError):
                self._quota_nominal.remove(label, resource)
        else:
            self._quota_nominal.labels(label, resource).set(nominal)

    def budgets(self, tenant: str, shares: Mapping[str, float]) -> None:
        """Show the share used of each budget of a tenant; those that it no longer has are dropped."""
        if (label := self.tenant(tenant)) == OTHER:
            return
        for name in self._known_budgets.get(label, set()) - set(shares):
            with suppress(KeyError):
                self._budget_used.remove(label, name)
        self._known_budgets[label] = set(shares)
        for name, share in shares.items():
            self._budget_used.labels(label, name).set(share)

    def started(self, seconds: float) -> None:
        """Observe how long an attempt took from its admission to its running container."""
        self._start.observe(max(0.0, seconds))

    def attempt_ended(self, tenant: str | None, cause: str, *, retried: bool) -> None:
        """Count an attempt's end."""
        self._attempts.labels(self.tenant(tenant), NO_TYPE, cause).inc()
        if retried:
            self._retries.labels(self.tenant(tenant), cause).inc()

    def resized(self, kind: str, outcome: str) -> None:
        """Count a growth: *kind* is Live or NextAttempt."""
        self._resizes.labels(kind, outcome).inc()

    def finished(self, tenant: str | None, outcome: str, seconds: float | None) -> None:
        """Count a run's end; *seconds* since its first start, if it started."""
        self._finished.labels(self.tenant(tenant), NO_TYPE, outcome).inc()
        if seconds is not None:
            self._run.labels(outcome).observe(max(0.0, seconds))

    def deleted(self, tenant: str | None) -> None:
        """Count a deleted LongTask."""
        self._deleted.labels(self.tenant(tenant)).inc()

    def reported(self, code: int) -> None:
        """Count an answered report."""
        self._reports.labels(str(code)).inc()

    def probed(self, *, came_through: bool) -> None:
        """Count a probe of the report channel."""
        self._probes.labels("Ok" if came_through else "Failed").inc()

    def ledger_written(self) -> None:
        """Count a ledger write."""
        self._ledger_writes.inc()

    def ledger_conflicted(self) -> None:
        """Count a ledger write that was refused."""
        self._ledger_conflicts.inc()

    def requested(self, verb: str, path: str, code: int, seconds: float) -> None:
        """Observe a request to the API server."""
        self._api_requests.labels(verb.lower(), resource_of(path), str(code)).inc()
        self._api_seconds.observe(seconds)

    def reconciled(self, seconds: float, *, failed: bool) -> None:
        """Observe a reconcile."""
        self._reconcile_seconds.observe(seconds)
        if failed:
            self._reconcile_errors.inc()


def resource_of(path: str) -> str:
    """Return the resource in an API path, with its subresource: `longtasks/status`. Names never appear."""
    parts = path.strip("/").split("/")
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    if not path.startswith(("/api/", "/apis/")) or not rest:
        return "other"
    if rest[0] == "namespaces" and len(rest) > 2:
        rest = rest[2:]
    return rest[0] + (f"/{rest[2]}" if len(rest) > 2 else "")
