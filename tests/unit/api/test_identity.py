from __future__ import annotations

import json

import pytest

from longtask_operator.api.identity import LONGEST_NAME, person_of
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


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        pytest.param("a" * 64, "a" * 64, id="longest"),
        pytest.param("a" * 65, "a" * 47 + "~635361c48bb9eab1", id="longer"),
        pytest.param("李" * 10, "李" * 10, id="other-script"),
        pytest.param("李" * 11, "李" * 7 + "~", id="long-in-another-script"),
        pytest.param("\n" * 100, "\n" * 23 + "~", id="escaped"),
    ],
)
def test_a_long_name_is_told_by_its_beginning_and_a_digest(name: str, shown: str) -> None:
    person, other = (person_of({ANNOTATION_CREATED_BY: one}) for one in (name, name + "b"))
    assert person.startswith(shown)
    assert len(json.dumps(person)) <= LONGEST_NAME
    assert person != other
