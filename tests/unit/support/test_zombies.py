"""What counts as a late commit of a zombie."""

from __future__ import annotations

import pytest

from tests.support.live import Json
from tests.support.zombies import late_commits

RESULT = {"attempt": 2}


def status(attempt: int, uri: str, *older: str, said: int = 0, result: Json | None = None) -> Json:
    found: Json = {"checkpoint": {"attempt": attempt, "uri": uri, "older": [{"uri": one} for one in older]}}
    found["progress"] = {"message": f"attempt {said or attempt}"}
    return found | ({"result": {"value": result}} if result else {})


FIRST, SECOND = status(1, "1/1"), status(2, "2/1", "1/1")
END = SECOND | {"result": {"value": RESULT}}


def test_a_story_without_a_late_commit() -> None:
    assert late_commits([{}, FIRST, SECOND, END], {"1/2"}, RESULT) == []


@pytest.mark.parametrize(
    ("late", "complaint"),
    [
        (status(2, "1/2", "2/1"), "checkpoint 1/2"),
        (status(2, "2/2", "1/2"), "checkpoint 1/2"),
        (status(1, "1/1"), "checkpoints in the order"),
        (status(2, "2/1", said=1), "reports in the order"),
        (status(2, "2/1", result={"attempt": 1}), "the results"),
    ],
)
def test_a_late_commit_is_found_also_where_it_is_made_good_afterwards(late: Json, complaint: str) -> None:
    found = late_commits([{}, FIRST, SECOND, late, END], {"1/2"}, RESULT)
    assert [line for line in found if line.startswith(complaint)]


def test_a_successor_without_a_result_has_not_committed() -> None:
    assert late_commits([FIRST, SECOND], {"1/2"}, RESULT) == ["the results []"]
