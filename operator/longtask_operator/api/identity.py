"""Who a task belongs to, as the API server wrote it down."""

from __future__ import annotations

from collections.abc import Mapping

from longtask_operator.api.names import ANNOTATION_CREATED_BY


def person_of(annotations: Mapping[str, str]) -> str:
    """Return who created a task, or an empty string if no person did: ServiceAccounts are none."""
    name = annotations.get(ANNOTATION_CREATED_BY, "")
    return "" if name.startswith("system:") else name
