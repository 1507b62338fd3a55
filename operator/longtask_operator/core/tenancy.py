"""Which tenant a namespace belongs to.

The tenant comes from the namespace and never from the task: a field in spec could be forged.
"""

from __future__ import annotations

from collections.abc import Mapping

from longtask_operator.api.names import LABEL_TENANT


def label_of(labels: Mapping[str, str]) -> str:
    """Return the tenant that the label of a namespace names, empty without one."""
    return labels.get(LABEL_TENANT) or ""


def tenant_of(namespace: str, labels: Mapping[str, str], *, unlabelled: str, taken: bool) -> str | None:
    """Return the tenant of *namespace*, or None where an unlabelled namespace has none.

    *unlabelled* is `Own` (the namespace's own name is its tenant) or `Refuse`. *taken*: other namespaces are labelled
    with its name. Who may create namespaces chooses their names, and would choose a tenant with them. A TenantQuota of
    that name takes nothing from it: it does not say whose it is.
    """
    return label_of(labels) or (namespace if unlabelled == "Own" and not taken else None)
