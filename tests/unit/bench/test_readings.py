import json
from pathlib import Path

from bench.lib import readings


def event(verb: str, resource: str, agent: str = "longtask-operator", stage: str = "ResponseComplete") -> str:
    return json.dumps({"stage": stage, "verb": verb, "userAgent": agent, "objectRef": {"resource": resource}}) + "\n"


def test_only_finished_writes_of_the_operator_count_and_not_those_of_its_lease(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text(event("create", "jobs"))
    position = readings.audit_position(log)
    lines = [
        event("create", "jobs"),
        event("get", "jobs"),
        event("update", "leases"),
        event("patch", "pods", agent="kwok"),
        event("patch", "longtasks", stage="RequestReceived"),
        '{"a line that is being written',
    ]
    log.write_text(log.read_text() + "".join(lines))
    assert readings.writes_of_operator(log, position) == {"create/jobs": 1}


def test_a_position_in_a_line_that_is_being_written_is_the_end_of_the_one_before(tmp_path: Path) -> None:
    log, half = tmp_path / "audit.log", event("create", "jobs")
    for before in ("", event("create", "pods"), event("create", "pods") + "x" * 200_000 + "\n"):
        log.write_text(before + half[:20])
        position = readings.audit_position(log)
        log.write_text(before + half)
        assert readings.writes_of_operator(log, position) == {"create/jobs": 1}


def test_the_way_from_a_task_to_its_job_has_five_parts(tmp_path: Path) -> None:
    def request(verb: str, resource: str, name: str, begin: int, end: int) -> str:
        moments = {
            key: f"2026-01-31T08:00:00.{milliseconds:03}000Z"
            for key, milliseconds in (("requestReceivedTimestamp", begin), ("stageTimestamp", end))
        }
        reference = {"resource": resource, "name": name}
        return json.dumps({"stage": "ResponseComplete", "verb": verb, "objectRef": reference, **moments}) + "\n"

    log = tmp_path / "audit.log"
    lines = [
        request("update", "configmaps", "ledger", 0, 9),
        request("create", "longtasks", "my-task", 10, 12),
        request("update", "configmaps", "ledger", 15, 18),
        request("create", "jobs", "my-task-abc123-1", 22, 27),
        request("update", "configmaps", "ledger", 28, 30),
        request("create", "longtasks", "another", 30, 31),
    ]
    log.write_text("".join(lines))
    assert readings.path_of_tasks(log) == {
        "create task": 2.0,
        "until ledger": 3.0,
        "write ledger": 3.0,
        "until Job": 4.0,
        "create Job": 5.0,
    }


def test_a_summary_names_a_value_that_was_measured() -> None:
    found = readings.summary([float(number) for number in range(100, 0, -1)])
    assert found == {"count": 100, "p50": 50.5, "p99": 100.0, "max": 100.0}


def test_cpu_is_told_for_each_part_and_for_all() -> None:
    before, after = {"etcd": 1.0, "operator": 2.0}, {"etcd": 1.5, "operator": 2.1, "kwok": 3.0}
    assert readings.per_task(before, after, 100) == {"etcd": 5.0, "operator": 1.0, "all": 6.0}
