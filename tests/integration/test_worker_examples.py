"""The examples do their work without a cluster, as their READMEs say, and notice a wrong result."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from longtask_operator.api.longtask import parse_longtask
from tests.integration.worker_support import WORKER

EXAMPLES = WORKER / "examples"
NAMES = ["wordcount", "csvstats", "thumbnails", "keepall", "resumable", "repack", "parquetsum", "shell-progress"]


def manifest(name: str) -> dict[str, Any]:
    body: dict[str, Any] = yaml.safe_load((EXAMPLES / name / "longtask.yaml").read_text())
    return body


def run_example(name: str, temp: Path, payload: dict[str, Any], *arguments: str, python: str = "") -> dict[str, Any]:
    """Run the example with its files below *temp* and return its result."""
    (temp / "payload.json").write_text(json.dumps(payload))
    command = python.split() or [sys.executable]
    program = [str(EXAMPLES / name / f"{name}.py"), "--payload", str(temp / "payload.json"), *arguments]
    env = {**os.environ, "PYTHONPATH": str(WORKER), "TMPDIR": str(temp)}
    done = subprocess.run([*command, *program], env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "(100%)" in done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_wordcount_counts_what_stands_in_the_file(tmp_path: Path) -> None:
    result = run_example("wordcount", tmp_path, {"megabytes": 1, "n": 3, "top": 3})
    raw = (tmp_path / "corpus.txt").read_bytes()
    words = Counter(raw.decode().lower().replace(",", "").replace(".", "").split())
    assert (result["bytes"], result["sha256"]) == (len(raw), hashlib.sha256(raw).hexdigest())
    assert result["bytes"] >= 1_000_000
    assert result["words"] == words.total()
    assert result["topWords"] == dict(sorted(words.items(), key=lambda entry: (-entry[1], entry[0]))[:3])
    assert result["ngrams"] == words.total() - 2 * result["lines"]
    assert result["verified"]


def test_keepall_keeps_all(tmp_path: Path) -> None:
    result = run_example("keepall", tmp_path, {"megabytes": 3})
    data = b"".join(hashlib.shake_128(number.to_bytes(8, "big")).digest(1024**2) for number in range(3))
    assert result == {"megabytes": 3, "sha256": hashlib.sha256(data).hexdigest()}


def test_wordcount_of_an_input_is_the_same_everywhere(tmp_path: Path) -> None:
    corpus = tmp_path / "a corpus.txt"
    corpus.write_text("The cat. the dog\nThe cat\n")
    result = run_example("wordcount", tmp_path, {}, "--input", f"corpus={corpus}")
    assert result["topWords"] == {"the": 3, "cat": 2, "dog": 1}
    assert result["topNgrams"] == {"the cat": 2, "cat the": 1, "the dog": 1}
    assert not result["verified"]


def test_wordcount_notices_a_wrong_count(tmp_path: Path) -> None:
    code = "import wordcount as w, re; w.WORD = re.compile('[b-z]+'); w.run(w.main)"  # does not see the letter a
    env = {**os.environ, "PYTHONPATH": f"{WORKER}:{EXAMPLES / 'wordcount'}", "TMPDIR": str(tmp_path)}
    (tmp_path / "p.json").write_text('{"megabytes": 0.1}')
    command = [sys.executable, "-c", code, "--payload", str(tmp_path / "p.json")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 65
    assert "the counts are wrong" in done.stderr


@pytest.mark.parametrize("rows", [1, 5, 12, 1000, 9_999])
def test_csvstats_adds_up_what_stands_in_the_file(tmp_path: Path, rows: int) -> None:
    result = run_example("csvstats", tmp_path, {"rows": rows}, "--output", f"report={tmp_path / 'sums.csv'}")
    with (tmp_path / "table.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    totals: Counter[str] = Counter()
    for row in table:
        totals[f"{row['region']}/{row['product']}"] += int(row["amount"])
    assert sorted(int(row["id"]) for row in table) == list(range(rows))
    assert result == {"rows": rows, "totals": dict(totals), "verified": True}
    with (tmp_path / "sums.csv").open(newline="") as file:
        assert sum(int(row["rows"]) for row in csv.DictReader(file)) == rows


def test_thumbnails_are_made(tmp_path: Path) -> None:
    assert shutil.which("uv"), "the example needs Pillow, which uv brings: see https://docs.astral.sh/uv/"
    python = f"uv run --quiet --no-project --with-requirements {EXAMPLES / 'requirements.lock'} python"
    result = run_example("thumbnails", tmp_path, {"pictures": 3, "edge": 64}, python=python)
    made = sorted((tmp_path / "thumbnails").iterdir())
    assert [path.name for path in made] == ["00000.png", "00001.png", "00002.png"]
    assert result["bytes"] == sum(path.stat().st_size for path in made)
    assert (result["pictures"], result["verified"]) == (3, True)


def test_repack_keeps_every_row(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,name\n1,Ada\n2,Grace\n")
    arguments = ["--input", f"table={tmp_path / 't.csv'}", "--output", f"lines={tmp_path / 'out'}/"]
    result = run_example("repack", tmp_path, {}, *arguments, "--checkpoint", str(tmp_path / "state"))
    assert result == {"rows": 2, "list": (tmp_path / "out" / "local" / "parts-1.json").as_uri()}
    (part,) = (tmp_path / "out" / "local").glob("part-*.gz")
    rows = [json.loads(line) for line in gzip.decompress(part.read_bytes()).splitlines()]
    assert rows == [{"id": "1", "name": "Ada"}, {"id": "2", "name": "Grace"}]


def test_parquetsum_adds_up_each_region(tmp_path: Path) -> None:
    table = pa.table({"region": ["north", "south", "north"], "amount": [1, 20, 300]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    arguments = ["--input", f"table={tmp_path / 't.parquet'}", "--checkpoint", str(tmp_path / "state")]
    result = run_example("parquetsum", tmp_path, {}, *arguments)
    assert result == {"rows": 3, "read": 3, "sums": {"north": 301, "south": 20}}


def test_resumable_counts_words(tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("the cat\nThe dog\n")
    arguments = ["--input", f"corpus={tmp_path / 'corpus.txt'}", "--checkpoint", str(tmp_path / "state")]
    result = run_example("resumable", tmp_path, {"top": 1}, *arguments)
    assert result == {"begins": {"1": 0}, "lines": 2, "words": 4, "topWords": {"the": 2}}


STREAMS_PAGE = (WORKER.parent / "docs" / "how-to" / "streams.md").read_text()


def run_page(number: int, temp: Path, *arguments: str) -> dict[str, Any]:
    """Run a program of the page on streams and return its result."""
    program = re.findall(r"^```python\n(.*?)^```", STREAMS_PAGE, re.DOTALL | re.MULTILINE)[number]
    (temp / "program.py").write_text(program)
    command = [sys.executable, str(temp / "program.py"), *arguments, "--checkpoint", str(temp / "state")]
    env = {**os.environ, "PYTHONPATH": str(WORKER)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_the_programs_of_the_page_on_streams_run(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_text("id,amount\n1,20\n2,22\n")
    assert run_page(0, tmp_path, "--input", f"orders={tmp_path / 'orders.csv'}") == {"sum": 42}
    (tmp_path / "log").write_text("fine\nERROR one\nfine\nERROR two\n")
    arguments = ["--input", f"log={tmp_path / 'log'}", "--output", f"errors={tmp_path / 'errors'}/"]
    listed = Path(run_page(1, tmp_path, *arguments)["list"].removeprefix("file://"))
    (part,) = json.loads(listed.read_text())["parts"]
    assert gzip.decompress((listed.parent / part).read_bytes()) == b"ERROR one\nERROR two\n"


@pytest.mark.parametrize("name", ["Lines", "Rows", "RowGroups", "Parts"])
def test_the_reference_names_an_example_that_uses_it(name: str) -> None:
    text = (WORKER.parent / "docs" / "reference" / "worker.md").read_text()
    (section,) = re.findall(rf"^### `{name}\(.*?(?=^##)", text, re.DOTALL | re.MULTILINE)
    (example,) = re.findall(r"worker-image/examples/([a-z]+)/README.md", section)
    assert f"import {name}\n" in (EXAMPLES / example / f"{example}.py").read_text()


def test_shell_progress_writes_its_lines(tmp_path: Path) -> None:
    script = manifest("shell-progress")["spec"]["args"][0].replace("sleep 0.5", ":").replace("/tmp/", f"{tmp_path}/")
    env = {**os.environ, "LONGTASK_PROGRESS_FILE": str(tmp_path / "progress")}
    subprocess.run(["sh", "-euc", script], env=env, timeout=60, check=True)
    assert (tmp_path / "progress").read_text() == "40/40 hashed block 40\n"


@pytest.mark.parametrize("name", NAMES)
def test_manifests_are_valid(name: str) -> None:
    body = manifest(name)
    stored = {"namespace": "n", "uid": "u", "generation": 1, "creationTimestamp": "2030-01-01T00:00:00Z"}
    task = parse_longtask({**body, "metadata": {**body["metadata"], **stored}})
    known = task.spec.model_dump(by_alias=True, exclude_none=True)
    assert known.keys() == body["spec"].keys()  # no field that the operator does not know
    assert body["metadata"]["name"] == name


@pytest.mark.parametrize("name", NAMES)
def test_each_example_has_a_readme(name: str) -> None:
    assert (EXAMPLES / name / "README.md").read_text().startswith(f"# {name}\n")
