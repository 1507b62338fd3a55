from __future__ import annotations

import orjson
import pytest

from longtask_operator.adapters.tasks import ParsedTasks, observe_task
from longtask_operator.api.errors import SpecError
from tests.builders import UID, a_longtask, a_longtask_body

APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def test_a_record_is_found_by_its_key_and_counted_by_its_phase() -> None:
    record = observe_task(a_longtask_body(status={"phase": "Running", "tenant": "red"}))
    assert (record.key, record.uid, record.version) == ("team-a/wordcount", UID, 7)
    assert (record.phase, record.tenant) == ("Running", "red")


def test_an_unseen_task_is_pending() -> None:
    body = a_longtask_body()
    del body["status"]
    record = observe_task(body)
    assert (record.phase, record.tenant, record.body()["status"]) == ("Pending", "", {})


def test_what_is_kept_is_enough_to_parse_it() -> None:
    body = a_longtask_body({"priority": 3}, annotations={"longtask.dev/created-by": "alice"}, labels={"a": "b"})
    assert observe_task(body).parse() == a_longtask(
        {"priority": 3}, annotations={"longtask.dev/created-by": "alice"}, labels={"a": "b"}
    )


def test_all_versions_of_a_task_share_the_strings_by_which_tables_know_it() -> None:
    one, two = (observe_task(orjson.loads(orjson.dumps(a_longtask_body()))) for _ in range(2))
    assert one.uid is two.uid
    assert one.name is two.name
    assert one.key is two.key
    assert one.parse().metadata.uid is one.uid


def test_noise_is_not_kept() -> None:
    body = a_longtask_body(annotations={APPLIED: "x" * 9000, "mine": "1"}, managedFields=[{"manager": "m"}])
    kept = observe_task(body).body()["metadata"]
    assert kept["annotations"] == {"mine": "1"}
    assert "managedFields" not in kept


def test_a_stored_object_of_a_wrong_shape_is_a_spec_error_when_it_is_looked_at() -> None:
    record = observe_task(a_longtask_body({"priority": "high"}))
    with pytest.raises(SpecError, match=r"spec\.priority"):
        record.parse()


def test_an_unchanged_task_is_parsed_once() -> None:
    parsed, record = ParsedTasks(), observe_task(a_longtask_body(resourceVersion="7"))
    task = parsed.parse(record)
    assert parsed.parse(observe_task(a_longtask_body(resourceVersion="7"))) is task
    newer = parsed.parse(observe_task(a_longtask_body({"priority": 3}, resourceVersion="8")))
    assert newer.spec.priority == 3
    assert parsed.parse(record).spec.priority is None


def test_only_the_tasks_used_last_are_kept_parsed() -> None:
    parsed = ParsedTasks(limit=2)
    records = {uid: observe_task(a_longtask_body(uid=uid)) for uid in ("a", "b", "c")}
    first = {uid: parsed.parse(records[uid]) for uid in ("a", "b")}
    assert parsed.parse(records["a"]) is first["a"]
    parsed.parse(records["c"])
    assert parsed.parse(records["a"]) is first["a"]
    assert parsed.parse(records["b"]) is not first["b"]


def test_a_task_that_went_is_not_kept_parsed() -> None:
    parsed, record = ParsedTasks(), observe_task(a_longtask_body())
    task = parsed.parse(record)
    parsed.forget(record.uid)
    assert parsed.parse(record) is not task


def test_a_task_is_kept_in_a_few_hundred_bytes() -> None:
    condition = {"lastTransitionTime": "2026-11-25T03:47:39Z", "message": "a place in the quota was reserved"}
    status = {"phase": "Running", "conditions": [{**condition, "type": kind} for kind in ("Admitted", "Ready")]}
    record = observe_task(a_longtask_body(status=status))
    assert len(record.packed) < 400
    assert record.body()["status"] == {"observedGeneration": -1} | status
