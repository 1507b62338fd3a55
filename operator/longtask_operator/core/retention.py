"""When a finished LongTask deletes itself.

An object that Argo CD or Flux applied is kept whatever its TTL says: they would create it
anew, and it would run again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

GITOPS_ANNOTATIONS = frozenset({"argocd.argoproj.io/tracking-id"})
GITOPS_LABELS = frozenset(
    {"argocd.argoproj.io/instance", "kustomize.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/name"}
)


def is_tracked(labels: Mapping[str, str], annotations: Mapping[str, str]) -> bool:
    """Return whether a GitOps tool would create the object anew after its deletion."""
    return not GITOPS_LABELS.isdisjoint(labels) or not GITOPS_ANNOTATIONS.isdisjoint(annotations)


def expires_at(completed: datetime, ttl_seconds: int | None) -> datetime | None:
    """Return when a task that finished at *completed* deletes itself; None means never."""
    return None if ttl_seconds is None else completed + timedelta(seconds=ttl_seconds)
