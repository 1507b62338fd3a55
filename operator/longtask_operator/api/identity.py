"""Who a task belongs to, as the API server wrote it down.

ServiceAccounts are no persons. One that the chart trusts, such as a GitOps controller, may name the person for whom it
submits; a policy sees to it that nobody else does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from longtask_operator.api.names import ANNOTATION_CREATED_BY, ANNOTATION_SUBMITTED_BY

#: How the API server keeps `created-by` true: it writes it, it refuses a wrong one, or neither.
CreatedBy = Literal["Mutate", "Validate", "Off"]
#: Why limits of each person do not hold for everybody, where that is so.
NOT_ENFORCED: Mapping[str, str] = {
    "Validate": "the API server does not write longtask.dev/created-by, it only refuses a wrong one (createdBy.mode "
    "Validate); tasks without it count for the tenant alone",
    "Off": "nothing keeps longtask.dev/created-by true (createdBy.mode Off, or policies.enabled false); who submits "
    "may name anybody",
}


def person_of(annotations: Mapping[str, str]) -> str:
    """Return whom a task counts for, or an empty string if that is no person."""
    return _person(annotations.get(ANNOTATION_CREATED_BY, "")) or _person(annotations.get(ANNOTATION_SUBMITTED_BY, ""))


def _person(name: str) -> str:
    return "" if name.startswith("system:") else name
