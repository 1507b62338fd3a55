"""What engines share, for tests of one engine that touches nothing but the caches."""

from __future__ import annotations

from typing import Any

from longtask_operator.engines.context import Caches, Context


def context_on(caches: Caches) -> Context:
    """Return a context with *caches*; there is nobody to ask, nothing to count and no clock."""
    nothing: Any = None
    return Context(
        kube=nothing,
        caches=caches,
        metrics=nothing,
        clock=nothing,
        policy=nothing,
        job_policy=nothing,
        unlabelled="Own",
        progress_interval=10,
    )
