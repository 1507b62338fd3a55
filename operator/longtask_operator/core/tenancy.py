"""Which tenant a namespace belongs to.

The tenant comes from the namespace and never from the task: a field in spec could be forged.
"""

from __future__ import annotations

from collections.abc import Mapping

from longtask_operator.api.names import LABEL_TENANT


def tenant_of(namespace: str, labels: Mapping[str, str], *, unlabelled: str) -> str | None:
    """Return the tenant of *namespace*, or None where an unlabelled namespace is refused.

    *unlabelled* is `Own` (the namespace's own name is its tenant) or `Refuse`.
    """
    return labels.get(LABEL_TENANT) or (namespace if unlabelled == "Own" else None)
