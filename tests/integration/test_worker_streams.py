"""Streams and output in parts of real processes on real storages, killed again and again: each row once."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from longtask_worker.errors import ChangedError
from longtask_worker.parquet import RowGroups
from longtask_worker.storage.s3 import S3Storage, make_client
from tests.integration.checkpoint_support import UID, Ledger, attempt_environment
from tests.integration.worker_support import WORKER, ReportServer, end, start_module
from tests.support.s3 import S3Server

pytestmark = pytest.mark.integration
EXAMPLES = WORKER / "examples"
KILLS = 4


@dataclass
class Place:
    """Where a task's data are: a bucket or a folder."""

    base: str
    env: dict[str, str]
    s3: S3Server | None

    def put(self, name: str, data: bytes) -> str:
        if self.s3:
            return self.s3.put(self._key(name), data)
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path.as_uri()

    def get(self, uri: str) -> bytes:
        if self.s3:
            return self.s3.get(uri.removeprefix(self.s3.uri()))
        return Path(uri.removeprefix("file://")).read_bytes()

    def names(self, folder: str) -> list[str]:
        if self.s3:
            return sorted(key.rpartition("/")[2] for key in self.s3.keys(self._key(folder)))
        return sorted(path.name for path in self._path(folder).glob("*"))

    def _key(self, name: str) -> str:
        assert self.s3
        return self.base.removeprefix(self.s3.uri()) + name

    def _path(self, name: str) -> Path:
        return Path(self.base.removeprefix("file://")) / name


@pytest.fixture(params=["s3", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "file":
        return Place((tmp_path / "claim").as_uri() + "/", {}, None)
    s3: S3Server = request.getfixturevalue("s3")
    return Place(s3.uri(f"streams/{tmp_path.name}/"), s3.env, s3)


@dataclass
class Runs:
    """The attempts of one example task."""

    server: ReportServer
    ledger: Ledger
    place: Place
    module: str

    def start(self, payload: dict[str, Any], inputs: dict[str, str], outputs: dict[str, str], interval: float) -> Any:
        (self.server.directory / "termination-log").write_bytes(b"")
        path = os.pathsep.join(map(str, (WORKER, EXAMPLES / self.module)))
        extra = {**self.place.env, "PYTHONPATH": path, "LONGTASK_PAYLOAD": json.dumps(payload)}
        for key, uris in (("INPUTS", inputs), ("OUTPUTS", outputs)):
            extra[f"LONGTASK_{key}"] = json.dumps([{"name": name, "uri": uri} for name, uri in uris.items()])
        env = attempt_environment(self.server, self.ledger, f"{self.place.base}ckpt/", extra, interval)
        return start_module(self.module, env)

    def through_kills(self, start: Callable[[float], Any], moments: random.Random) -> dict[str, Any]:
        """Kill attempts at any time after their first accepted checkpoint, let the last one end; return its result.

        *start* takes how much slower than the last one an attempt works: so much that none ends before it is killed.
        """
        for _ in range(KILLS):
            before, process = self.ledger.accepted[:1], start(10)
            self.server.wait_for(lambda _reports, before=before: self.ledger.accepted[:1] != before)  # type: ignore[misc]
            time.sleep(moments.uniform(0, 0.5))
            process.send_signal(signal.SIGKILL)
            assert end(process)[0] == -signal.SIGKILL
            self.ledger.attempt += 1
        code, _, err = end(start(1))
        assert code == 0, err
        result: dict[str, Any] = json.loads((self.server.directory / "termination-log").read_bytes())["result"]
        return result


@pytest.fixture
def runs(place: Place, tmp_path: Path) -> Iterator[Callable[[str], Runs]]:
    server, ledger = ReportServer(tmp_path), Ledger()
    server.answer = ledger.answer
    yield lambda module: Runs(server, ledger, place, module)
    server.close()


def test_a_table_repacked_through_kills_has_each_row_once(place: Place, runs: Callable[[str], Runs]) -> None:
    rows = [{"id": str(n), "name": f'n "{n}",\nsecond line' if n % 7 == 0 else f"n{n}"} for n in range(1500)]
    quoted = "".join('{},"{}"\n'.format(row["id"], row["name"].replace('"', '""')) for row in rows)
    table = place.put("table.csv", ("id,name\n" + quoted).encode())
    task = runs("repack")
    outputs = {"lines": f"{place.base}out/"}

    def start(slower: float) -> Any:
        return task.start({"secondsPerRow": 0.001 * slower}, {"table": table}, outputs, interval=0.3)

    result = task.through_kills(start, random.Random(1))
    assert result["rows"] == len(rows)
    assert result["list"] == f"{place.base}out/{UID}/parts-{KILLS + 1}.json"
    parts = json.loads(place.get(result["list"]))["parts"]
    whole = b"".join(place.get(f"{place.base}out/{UID}/{name}") for name in parts)
    assert [json.loads(line) for line in gzip.decompress(whole).splitlines()] == rows
    assert place.names(f"out/{UID}/") == sorted([*parts, f"parts-{KILLS + 1}.json"]), (
        "what killed attempts left is gone"
    )
    writers = {name.removesuffix(".gz").rpartition("-")[2] for name in parts}
    assert len(writers) > 2, "nobody went on behind the parts of another one"


def parquet_table(path: Path, groups: int, rows: int) -> Counter[str]:
    """Write a table and return its sums."""
    sums, schema = Counter[str](), pa.schema([("region", pa.string()), ("amount", pa.int64()), ("text", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for group in range(groups):
            regions = [f"r{n % 5}" for n in range(rows)]
            amounts = [group * rows + n for n in range(rows)]
            for region, amount in zip(regions, amounts, strict=True):
                sums[region] += amount
            text = [os.urandom(8).hex() for _ in range(rows)]
            writer.write_table(pa.table({"region": regions, "amount": amounts, "text": text}, schema=schema))
    return sums


def test_a_parquet_table_summed_through_kills(place: Place, runs: Callable[[str], Runs], tmp_path: Path) -> None:
    sums = parquet_table(tmp_path / "t.parquet", groups=60, rows=1000)
    table = place.put("t.parquet", (tmp_path / "t.parquet").read_bytes())
    task = runs("parquetsum")

    def start(slower: float) -> Any:
        return task.start({"secondsPerGroup": 0.025 * slower}, {"table": table}, {}, interval=0.2)

    result = task.through_kills(start, random.Random(2))
    assert result["sums"] == dict(sums)
    assert result["rows"] == 60_000
    assert result["read"] < 60_000, "it did not go on where another one was"


def test_only_what_is_needed_of_a_parquet_object_is_transferred(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet_table(tmp_path / "t.parquet", groups=20, rows=20_000)
    data = (tmp_path / "t.parquet").read_bytes()
    uri = s3.put(f"{tmp_path.name}/t.parquet", data)
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    storage, transferred = S3Storage(make_client()), [0]
    get = storage._client.get_object

    def counted(**arguments: Any) -> Any:
        found = get(**arguments)
        transferred[0] += found["ContentLength"]
        return found

    monkeypatch.setattr(storage._client, "get_object", counted)
    with RowGroups(uri, columns=["region"], storage=lambda _uri: storage) as groups:
        first = next(groups)
    assert (first.num_rows, first.column_names) == (20_000, ["region"])
    assert transferred[0] < len(data) / 10
    s3.put(f"{tmp_path.name}/t.parquet", data + b"\0")
    with pytest.raises(ChangedError):
        RowGroups(uri, groups.position, storage=lambda _uri: storage)


def test_a_zombie_of_an_earlier_attempt_adds_no_row(s3: S3Server, tmp_path: Path) -> None:
    """Frozen, replaced, finished, and then let go on: whatever it still writes, the list does not name it."""
    place = Place(s3.uri(f"streams/{tmp_path.name}/"), s3.env, s3)
    server, ledger = ReportServer(tmp_path), Ledger()
    server.answer = ledger.answer
    task = Runs(server, ledger, place, "repack")
    table = place.put("table.csv", b"id\n" + b"".join(b"%d\n" % n for n in range(300)))
    places = ({"table": table}, {"lines": f"{place.base}out/"})
    zombie = task.start({"secondsPerRow": 0.05}, *places, interval=0.2)
    server.wait_for(lambda _reports: ledger.accepted)
    zombie.send_signal(signal.SIGSTOP)
    ledger.attempt = 2
    code, _, err = end(task.start({"secondsPerRow": 0.005}, *places, interval=0.2))
    assert code == 0, err
    result = json.loads((tmp_path / "termination-log").read_bytes())["result"]
    zombie.send_signal(signal.SIGCONT)
    assert end(zombie)[0] == 79
    server.close()
    parts = json.loads(place.get(result["list"]))["parts"]
    whole = b"".join(place.get(f"{place.base}out/{UID}/{name}") for name in parts)
    assert [json.loads(line)["id"] for line in gzip.decompress(whole).splitlines()] == [str(n) for n in range(300)]
