from __future__ import annotations

import sys
from pathlib import Path

import pytest
from run_tests import run


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_what_fails_is_told_by_its_code(capfd: pytest.CaptureFixture[str]) -> None:
    assert run({"good": python("print('fine')")}) == 0
    assert run({"bad": python("raise SystemExit(3)")}) == 3
    said = capfd.readouterr().out
    assert "== good: passed in" in said
    assert "== bad: failed (3) in" in said


MEET = """
import pathlib, sys, time
mine, other = map(pathlib.Path, sys.argv[1:])
mine.touch()
limit = time.monotonic() + 30
while not other.exists():
    assert time.monotonic() < limit, "the other does not come"
    time.sleep(0.01)
"""


def test_commands_of_one_step_run_at_once(tmp_path: Path) -> None:
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    assert run({"one": [*python(MEET), one, two], "two": [*python(MEET), two, one]}) == 0


def test_a_failure_ends_no_other_command_of_its_step(tmp_path: Path) -> None:
    slow = "import pathlib, sys, time; time.sleep(0.5); pathlib.Path(sys.argv[1]).touch()"
    assert run({"bad": python("raise SystemExit(3)"), "slow": [*python(slow), str(tmp_path / "done")]}) == 3
    assert (tmp_path / "done").exists()


def test_each_line_of_commands_that_run_at_once_names_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    words = "import sys; print('out', flush=True); print('err', file=sys.stderr)"
    assert run({"one": python(words), "two": python(words)}) == 0
    lines = capfd.readouterr().out.splitlines()
    assert {line for line in lines if not line.startswith("==")} == {"one: out", "one: err", "two: out", "two: err"}
