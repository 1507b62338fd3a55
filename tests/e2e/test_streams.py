"""Examples that read and write streams, on a real node with a real S3: killed mid-way, they lose and repeat nothing.

So do results that are too large for a status, and workers that are cancelled.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.e2e.stage import Stage, worker_of
from tests.support.s3 import S3Server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

EXAMPLES = Path(__file__).parents[2] / "worker-image" / "examples"
ROWS = 800
GROUPS, GROUP_ROWS = 24, 1000


@pytest.fixture(scope="module")
def stage(new_stage: Callable[..., Stage]) -> Stage:
    return new_stage("streams")


def create(stage: Stage, s3: S3Server, name: str, table: bytes, **payload: Any) -> str:
    """Create the task of an example that reads *table*, and return its UID."""
    spec: dict[str, Any] = yaml.safe_load((EXAMPLES / name / "longtask.yaml").read_text())["spec"]
    place = f"{stage.namespace}/{name}"
    spec |= {
        "payload": payload,
        "inputs": [{"name": "table", "uri": s3.put(f"{place}/table", table)}],
        "env": s3.spec_env,
        "checkpoint": {"uri": s3.uri(f"{place}/checkpoints/"), "intervalSeconds": 1},
        "retry": {"backoff": {"initialSeconds": 1, "factor": 1}},
    }
    if "outputs" in spec:
        spec["outputs"] = [{"name": spec["outputs"][0]["name"], "uri": s3.uri(f"{place}/out/")}]
    return str(stage.tasks.create(name, **spec)["metadata"]["uid"])


def kill_after_checkpoint(stage: Stage, name: str, uid: str) -> None:
    """Kill the first attempt's worker once two checkpoints of it were accepted."""
    first = stage.tasks.until(name, "a checkpoint", lambda s: s.get("checkpoint"), 90)["checkpoint"]["uri"]
    stage.tasks.until(name, "another one", lambda s: s["checkpoint"]["uri"] != first)
    os.kill(worker_of(uid, name), signal.SIGKILL)


def went_on(stage: Stage, name: str) -> Any:
    """Return the result of a task whose second attempt went on where the first was killed."""
    status = stage.tasks.until_finished(name, 120)
    assert status["phase"] == "Succeeded", status
    first, second = status["attempts"]
    assert (first["cause"], first["exitCode"], second["cause"]) == ("Application", 137, "Completed")
    assert "/1/" in second["resumedFrom"]
    return status["result"]["value"]


def test_a_table_is_repacked_into_parts_with_each_row_once(stage: Stage, cluster_s3: S3Server) -> None:
    rows = [{"id": str(number), "name": f'n "{number}",\nsecond line'} for number in range(ROWS)]
    lines = ('{},"{}"\n'.format(row["id"], row["name"].replace('"', '""')) for row in rows)
    uid = create(stage, cluster_s3, "repack", ("id,name\n" + "".join(lines)).encode(), secondsPerRow=0.03)
    kill_after_checkpoint(stage, "repack", uid)
    result = went_on(stage, "repack")
    assert result["rows"] == ROWS
    out = f"{stage.namespace}/repack/out/{uid}/"
    parts = json.loads(cluster_s3.get(out + "parts-2.json"))["parts"]
    assert result["list"] == cluster_s3.uri(out + "parts-2.json")
    assert {part.removesuffix(".gz").rpartition("-")[2] for part in parts} == {"1", "2"}, "written by both attempts"
    whole = gzip.decompress(b"".join(cluster_s3.get(out + part) for part in parts))
    assert [json.loads(line) for line in whole.splitlines()] == rows


@pytest.fixture
def parquetsum(cluster: Any) -> None:
    """Bring the example's own image, which has pyarrow in it, to the cluster."""
    import stack

    from devcluster.console import Progress

    target = stack.Target(kind="devcluster", name=cluster.devcluster.name, kubeconfig=cluster.kubeconfig)
    stack.ensure_images(target, Progress(), ["parquetsum"])


def parquet_table() -> tuple[bytes, dict[str, int]]:
    """Return a table of many row groups, and the sums of its regions."""
    sums, content = Counter[str](), io.BytesIO()
    schema = pa.schema([("region", pa.string()), ("amount", pa.int64())])
    with pq.ParquetWriter(content, schema) as writer:
        for group in range(GROUPS):
            rows = [(f"r{number % 5}", group * GROUP_ROWS + number) for number in range(GROUP_ROWS)]
            for region, amount in rows:
                sums[region] += amount
            regions, amounts = zip(*rows, strict=True)
            writer.write_table(pa.table({"region": regions, "amount": amounts}, schema=schema))
    return content.getvalue(), dict(sorted(sums.items()))


@pytest.mark.slow
@pytest.mark.usefixtures("parquetsum")
def test_row_groups_are_summed_once_each(stage: Stage, cluster_s3: S3Server) -> None:
    table, sums = parquet_table()
    uid = create(stage, cluster_s3, "parquetsum", table, secondsPerGroup=0.5)
    kill_after_checkpoint(stage, "parquetsum", uid)
    result = went_on(stage, "parquetsum")
    assert (result["rows"], result["sums"]) == (GROUPS * GROUP_ROWS, sums)
    assert 0 < result["read"] <= (GROUPS - 2) * GROUP_ROWS, "the second attempt read all of it"
    assert result["read"] % GROUP_ROWS == 0


def test_a_result_too_large_for_the_status_stands_in_the_output(stage: Stage, cluster_s3: S3Server) -> None:
    code = "from longtask_worker import run\nrun(lambda task: list(range(5000)))"
    outputs = [{"name": "out", "uri": cluster_s3.uri(f"{stage.namespace}/large/")}]
    command, image = ["python3", "-c", code], "longtask/examples:0.1.0"
    stage.tasks.create("large", image=image, command=command, outputs=outputs, env=cluster_s3.spec_env)
    status = stage.tasks.until_finished("large")
    assert status["phase"] == "Succeeded", status
    found = status["result"]
    content = cluster_s3.get(found["uri"].removeprefix(cluster_s3.uri()))
    assert json.loads(content) == list(range(5000))
    assert found == {
        "uri": found["uri"], "sha256": hashlib.sha256(content).hexdigest(), "sizeBytes": len(content)
    }  # fmt: skip


def test_a_worker_learns_of_a_cancel_from_the_answer_to_its_report(stage: Stage) -> None:
    """Exit code 130 is its word for that; SIGTERM, which would come later, has 143."""
    loop = "def main(task):\n    while True:\n        task.raise_if_cancelled()\n        time.sleep(0.2)\n"
    code = f"import time\nfrom longtask_worker import run\n{loop}\nrun(main)"
    stage.tasks.create("told", command=["python3", "-c", code])
    # Until it has reported its start may take longer than the operator waits for it to hear.
    stage.tasks.until("told", "a report", lambda status: "lastReportTime" in (status.get("progress") or {}))
    stage.tasks.change("told", cancel=True)
    status = stage.tasks.until_finished("told")
    (attempt,) = status["attempts"]
    assert (status["phase"], attempt["cause"], attempt["exitCode"]) == ("Cancelled", "Cancelled", 130)


def test_the_history_holds_no_broken_promise(stage: Stage) -> None:
    assert stage.audit() == []
