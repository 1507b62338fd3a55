"""TenantQuotas in the cache: few and small, kept as they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from longtask_operator.api.tenantquota import TenantQuotaSpec, parse_tenantquota


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaView:
    """One TenantQuota as last read; its name is its tenant."""

    name: str
    uid: str
    version: int
    generation: int
    spec: Mapping[str, Any]
    status: Mapping[str, Any]
    namespace: str = ""

    def parse_spec(self) -> TenantQuotaSpec:
        """Return the spec. Raises SpecError where it does not have the shape of the schema."""
        return parse_tenantquota({"metadata": {"name": self.name}, "spec": self.spec}).spec


def observe_quota(body: Mapping[str, Any]) -> QuotaView:
    """Return the view of a TenantQuota object."""
    meta = body["metadata"]
    return QuotaView(
        name=meta["name"],
        uid=meta["uid"],
        version=int(meta["resourceVersion"]),
        generation=int(meta.get("generation") or 0),
        spec=body.get("spec") or {},
        status=body.get("status") or {},
    )
