from __future__ import annotations

import pytest

from longtask_operator.api.identity import person_of
from longtask_operator.api.names import ANNOTATION_CREATED_BY, ANNOTATION_SUBMITTED_BY

CONTROLLER = "system:serviceaccount:argocd:controller"


@pytest.mark.parametrize(
    ("created_by", "submitted_by", "person"),
    [
        pytest.param("alice", None, "alice", id="a-person"),
        pytest.param(None, None, "", id="nobody"),
        pytest.param(CONTROLLER, None, "", id="a-service-account"),
        pytest.param(CONTROLLER, "alice", "alice", id="for-a-person"),
        pytest.param(CONTROLLER, "system:admin", "", id="for-no-person"),
        pytest.param("mallory", "alice", "mallory", id="a-person-counts-for-itself"),
        pytest.param(None, "alice", "alice", id="submitted-where-nothing-is-written"),
    ],
)
def test_whom_a_task_counts_for(created_by: str | None, submitted_by: str | None, person: str) -> None:
    named = {ANNOTATION_CREATED_BY: created_by, ANNOTATION_SUBMITTED_BY: submitted_by}
    assert person_of({key: name for key, name in named.items() if name is not None}) == person
