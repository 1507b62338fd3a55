from __future__ import annotations

from typing import Any

import pytest

from longtask_operator.api.errors import SpecError
from longtask_operator.api.longtask import parse_longtask
from longtask_operator.api.status import LongTaskStatus
from tests.builders import UID, a_longtask_body, wire


def test_a_task_is_read_as_the_api_server_shows_it() -> None:
    body = a_longtask_body(
        {"ttlSecondsAfterFinished": 5, "retry": {"limits": {"neverStarted": 0}}, "payload": {"a": None}},
        {"attemptCounts": {"outOfMemory": 1}},
        labels={"a": "b"},
    )
    task = parse_longtask(body)
    assert (task.metadata.uid, task.metadata.generation, task.metadata.labels) == (UID, 1, {"a": "b"})
    assert task.spec.ttl_seconds_after_finished == 5
    assert task.spec.retry is not None
    assert task.spec.retry.limits is not None
    assert task.spec.retry.limits.never_started == 0
    assert task.spec.payload == {"a": None}
    assert task.status.attempt_counts == {"outOfMemory": 1}


def test_an_object_without_a_status_has_an_empty_one() -> None:
    body = a_longtask_body()
    del body["status"]
    assert parse_longtask(body).status == LongTaskStatus()


def test_fields_of_a_newer_schema_are_ignored() -> None:
    body = a_longtask_body({"growth": "Live"}, {"queue": {"reason": "NewWord", "message": "", "basis": 4}})
    assert parse_longtask(body).spec.image == "registry.example/wordcount:1.4"


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"priority": 2000}, "spec.priority"),
        ({"deadlineSeconds": 0}, "spec.deadlineSeconds"),
        ({"env": [{"name": "1X"}]}, "spec.env.0.name"),
        ({"runAsUser": 0}, "spec.runAsUser"),
        ({"payload": [1]}, "spec.payload"),
        ({"resources": {"memory": []}}, "spec.resources.memory"),
    ],
)
def test_a_stored_object_of_a_wrong_shape_is_a_spec_error(spec: dict[str, Any], path: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_longtask(a_longtask_body(spec))
    assert caught.value.path == path


def test_a_quantity_that_is_none_is_one_mistake() -> None:
    with pytest.raises(SpecError) as caught:
        parse_longtask(a_longtask_body({"resources": {"memory": []}}))
    assert caught.value.message == "[] is not a quantity; write for example 500m or 2Gi"


def test_a_status_is_written_as_it_was_read() -> None:
    status = {
        "observedGeneration": 3,
        "phase": "Running",
        "run": 2,
        "attempt": 4,
        "lastRedrive": "",
        "attempts": [{"number": 4, "run": 2, "generation": 3, "jobName": "j", "startTime": wire(1)}],
        "result": {"value": {"rows": [1, None]}},
        "runStartTime": wire(0),
    }
    read = parse_longtask(a_longtask_body(status=status)).status
    written = read.model_dump(by_alias=True, exclude_none=True, mode="json")
    assert written == status
