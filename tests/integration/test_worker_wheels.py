"""What an image build takes its packages from: complete, pinned, and refused when it is not what was locked."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.integration.worker_support import WORKER


def prepare(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(WORKER / "prepare_wheels.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_the_worker_image_gets_all_it_needs(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "old-1.0-py3-none-any.whl").touch()
    done = prepare("--project", WORKER, "--out", tmp_path / "wheels")
    assert done.returncode == 0, done.stderr
    sidecar, worker, pip = sorted((tmp_path / "wheels").iterdir())
    assert (sidecar.name, pip.name.split("-")[0]) == ("longtask-sidecar", "pip")
    assert sidecar.read_bytes()[:4] == b"\x7fELF"
    with zipfile.ZipFile(worker) as wheel:
        names = wheel.namelist()
        metadata = wheel.read(next(name for name in names if name.endswith("METADATA"))).decode()
    assert {"longtask_worker/__init__.py", "longtask_worker/py.typed"} <= set(names)
    needs = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:")]
    assert needs == [line for line in needs if "extra == " in line], "standard library only, the rest is asked for"
    assert {"Provides-Extra: s3", "Provides-Extra: parquet"} <= set(metadata.splitlines())


@pytest.mark.parametrize("folder", ["", "parquetsum"])
def test_an_image_of_examples_installs_what_is_locked_and_no_more(folder: str) -> None:
    place = WORKER / "examples" / folder
    locked = set(re.findall(r"^([a-z0-9-]+)==", (place / "requirements.lock").read_text(), re.MULTILINE))
    own = tomllib.loads((place / "pyproject.toml").read_text())["project"]["name"]
    (installed,) = re.findall(r"-m pip install (.*?)(?:\n\n| &&)", (place / "Dockerfile").read_text(), re.DOTALL)
    words = installed.replace("\\\n", " ").split("/opt/")[-1].split()[1:]
    assert set(words) == {own, *locked}


def test_a_wheel_that_is_not_the_locked_one_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"pip==26.3 --hash=sha256:{'0' * 64}\n")
    done = prepare("--project", WORKER / "examples", "--lock", lock, "--out", tmp_path / "wheels")
    assert done.returncode != 0
    assert "HASH" in done.stderr.upper()
