"""Who a task belongs to, as the API server wrote it down.

ServiceAccounts are no persons. One that the chart trusts, such as a GitOps controller, may name the person for whom it
submits; a policy sees to it that nobody else does. Names are bounded, as ledgers hold them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Literal

from longtask_operator.api.names import ANNOTATION_CREATED_BY, ANNOTATION_SUBMITTED_BY

#: How the API server keeps `created-by` true: it writes it, it refuses a wrong one, or neither.
CreatedBy = Literal["Mutate", "Validate", "Off"]
#: How long the name of a person is as JSON in ASCII, at most.
LONGEST_NAME = 66
_DIGEST_DIGITS = 16
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
    return "" if name.startswith("system:") else _bounded(name)


def _bounded(name: str) -> str:
    """Return *name*, or where it is too long its beginning and a digest of all of it."""
    if _length(name) <= LONGEST_NAME:
        return name
    digest = "~" + hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:_DIGEST_DIGITS]
    beginning = name[: LONGEST_NAME - len(digest) - 2]
    while _length(beginning) + len(digest) > LONGEST_NAME:
        beginning = beginning[:-1]
    return beginning + digest


def _length(name: str) -> int:
    return len(json.dumps(name))
