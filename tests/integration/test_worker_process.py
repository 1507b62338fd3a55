"""A worker as a process: signals, exit codes, termination message, environment, command line."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.worker_support import PATIENCE, end, start_module, start_worker


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "termination-log"


def environment(log: Path, **more: str) -> dict[str, str]:
    return {"LONGTASK_UID": "u", "LONGTASK_TERMINATION_LOG": str(log), **more}


def run_worker(log: Path, code: str, **more: str) -> tuple[int, dict[str, Any]]:
    exit_code, _, _ = end(start_worker(code, environment(log, **more)))
    return exit_code, json.loads(log.read_bytes().decode("utf-8"))


def wait_for_line(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == f"{line}\n"


@pytest.mark.parametrize(
    ("code", "exit_code", "expected"),
    [
        ("def main(task): return {'rows': 3}", 0, {"longtask": 1, "result": {"rows": 3}}),
        ("def main(task): pass", 0, {"longtask": 1}),
        ("def main(task): 1 / 0", 1, {"longtask": 1, "message": "ZeroDivisionError: division by zero"}),
        ("def main(task): raise PermanentError('no')", 65, {"longtask": 1, "permanent": True, "message": "no"}),
        ("def main(task): exit(9)", 9, {"longtask": 1, "message": "the task called sys.exit(9)"}),
        ("def main(task): raise Cancelled", 130, {"longtask": 1, "message": "cancelled"}),
    ],
)
def test_exit_code_and_outcome(log: Path, code: str, exit_code: int, expected: dict[str, Any]) -> None:
    ended, outcome = run_worker(log, code)
    outcome.pop("logTail", None)
    assert (ended, outcome) == (exit_code, expected)


@pytest.mark.parametrize("error", ["ZeroDivisionError('no')", "PermanentError('no')"])
def test_what_was_raised_is_the_end_of_the_log(log: Path, error: str) -> None:
    _, outcome = run_worker(log, f"def main(task): raise {error}")
    assert outcome["logTail"].startswith("Traceback")
    assert outcome["logTail"].endswith(f"{error.split('(')[0]}: no\n")


LOGGING = """
import logging, sys
logging.basicConfig(format="%(message)s", level=logging.INFO)
def main(task):
    print("row 6", flush=True)
    logging.info("row 7 is bad")
    LAST
"""


@pytest.mark.parametrize(
    ("last", "exit_code", "also"),
    [
        ("sys.exit(9)", 9, ""),
        ("sys.exit('no such row')", 1, ""),
        ("raise Cancelled", 130, ""),
        ("raise UsageError('x')", 2, ""),
        ("raise KeyboardInterrupt", 130, ""),
        ("raise ValueError('no')", 1, "Traceback"),
    ],
)
def test_whoever_ends_early_leaves_the_end_of_its_log(log: Path, last: str, exit_code: int, also: str) -> None:
    code = "from longtask_worker.errors import UsageError" + LOGGING.replace("LAST", last)
    ended, outcome = run_worker(log, code)
    assert ended == exit_code
    assert outcome["logTail"].startswith(f"row 6\nrow 7 is bad\n{also}")
    assert outcome["logTail"].count("row") == 2


@pytest.mark.parametrize("last", ["return 1", "sys.exit(0)"])
def test_who_completes_leaves_no_log(log: Path, last: str) -> None:
    exit_code, outcome = run_worker(log, LOGGING.replace("LAST", last))
    assert exit_code == 0
    assert "logTail" not in outcome


def test_of_a_long_log_the_end_is_left(log: Path) -> None:
    code = "def main(task):\n    for n in range(9999): print(f'line {n}')\n    exit(3)"
    _, outcome = run_worker(log, code)
    assert outcome["logTail"].endswith("line 9997\nline 9998\n")
    assert 1024 < len(outcome["logTail"]) <= 2048


@pytest.mark.parametrize("character", ["x", "é", "日", "😀"])
def test_the_largest_result_arrives_whole(log: Path, character: str) -> None:
    text = character * ((3072 - 2) // len(character.encode()))
    exit_code, outcome = run_worker(log, f"def main(task): return {text!r}")
    assert (exit_code, outcome["result"]) == (0, text)
    exit_code, outcome = run_worker(log, f"def main(task): return {text + 'xxxx'!r}")
    assert (exit_code, outcome.get("result"), outcome["permanent"]) == (65, None, True)


@pytest.mark.parametrize("character", ["x", "é", "日", "😀", '"', "\x01"])
def test_a_long_error_is_cut_to_a_whole_message(log: Path, character: str) -> None:
    exit_code, outcome = run_worker(log, f"def main(task): raise ValueError({character * 9000!r})")
    assert exit_code == 1
    assert log.stat().st_size <= 4096
    assert set(outcome["message"].removeprefix("ValueError: ")) == {character}


def test_a_payload_arrives_byte_for_byte(log: Path) -> None:
    payload = {"a": "$(X)", "b": "$$", "c": "$$(LONGTASK_UID)", "d": "é日😀", "e": 'quote " and \\', "$(k)": ["\u2028"]}
    raw = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    code = "def main(task): return task.payload"
    assert run_worker(log, code, LONGTASK_PAYLOAD=raw)[1]["result"] == payload


def test_a_malformed_environment_is_a_usage_error(log: Path) -> None:
    exit_code, outcome = run_worker(log, "def main(task): pass", LONGTASK_PAYLOAD="{")
    assert (exit_code, outcome["permanent"]) == (2, True)
    assert "LONGTASK_PAYLOAD" in outcome["message"]


def test_a_result_that_cannot_be_left_is_a_failure(tmp_path: Path) -> None:
    log = tmp_path / "no" / "such" / "directory"
    assert end(start_worker("def main(task): return 1", environment(log)))[0] == 1
    assert end(start_worker("def main(task): pass", environment(log)))[0] == 0


STOPPABLE = """
def main(task):
    print("ready", flush=True)
    while True:
        task.raise_if_cancelled()
        time.sleep(0.01)
"""


def test_sigterm_lets_the_work_stop(log: Path) -> None:
    process = start_worker(STOPPABLE, environment(log))
    wait_for_line(process, "ready")
    process.send_signal(signal.SIGTERM)
    assert end(process)[0] == 143
    assert json.loads(log.read_text()) == {"longtask": 1, "message": "terminated (SIGTERM)", "logTail": "ready\n"}


def test_work_that_ends_after_sigterm_is_done(log: Path) -> None:
    code = """
def main(task):
    print("ready", flush=True)
    while not task.cancelled: time.sleep(0.01)
    return "saved"
"""
    process = start_worker(code, environment(log))
    wait_for_line(process, "ready")
    process.send_signal(signal.SIGTERM)
    assert end(process)[0] == 0
    assert json.loads(log.read_text())["result"] == "saved"


def test_sigterm_while_the_module_is_imported_is_not_lost(log: Path, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\nprint('importing', flush=True)\ntime.sleep(0.3)\ndef main(task): task.raise_if_cancelled()\n"
    )
    env = environment(log, PYTHONPATH=f"{tmp_path}:{_worker_path()}")
    process = start_module("longtask_worker", env, "slow:main")
    wait_for_line(process, "importing")
    process.send_signal(signal.SIGTERM)
    assert end(process)[0] == 143


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Undo what a shell does to whom it starts in the background: they ignore SIGINT, and so do their children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_it(log: Path, interruptible: None) -> None:
    process = start_worker("def main(task):\n    print('ready', flush=True)\n    time.sleep(60)\n", environment(log))
    wait_for_line(process, "ready")
    process.send_signal(signal.SIGINT)
    assert end(process)[0] == 130


def test_children_of_the_work_still_die_by_sigterm(log: Path) -> None:
    code = """
import multiprocessing
def sleep(begun):
    begun.set()
    time.sleep(600)
def main(task):
    context = multiprocessing.get_context("fork")
    begun = context.Event()
    child = context.Process(target=sleep, args=(begun,))
    child.start()
    begun.wait()
    child.terminate()
    child.join(30)
    return child.exitcode
"""
    assert run_worker(log, code)[1]["result"] == -signal.SIGTERM


def test_a_killed_worker_leaves_no_outcome(log: Path) -> None:
    log.touch()
    process = start_worker(STOPPABLE, environment(log))
    wait_for_line(process, "ready")
    process.kill()
    assert end(process)[0] == -signal.SIGKILL
    assert log.read_bytes() == b""


@pytest.mark.parametrize("bottom", ["", "run(main)"])
def test_a_function_is_started_by_name_once(log: Path, tmp_path: Path, bottom: str) -> None:
    (tmp_path / "named.py").write_text(
        f"import sys\nfrom longtask_worker import run\ndef main(task): print('called'); return sys.argv\n{bottom}\n"
    )
    env = environment(log, PYTHONPATH=f"{tmp_path}:{_worker_path()}")
    exit_code, out, _ = end(start_module("longtask_worker", env, "named:main", "--top", "100"))
    assert (exit_code, out) == (0, "called\n")
    assert json.loads(log.read_text())["result"] == ["named:main", "--top", "100"]


@pytest.mark.parametrize(("arguments", "exit_code"), [([], 2), (["--help"], 0), (["json:nix"], 2), (["nonsense"], 2)])
def test_command_line_of_the_module(arguments: list[str], exit_code: int) -> None:
    code, out, err = end(start_module("longtask_worker", {}, *arguments))
    assert code == exit_code
    assert out or err


def test_without_a_cluster(tmp_path: Path) -> None:
    payload = tmp_path / "payload.json"
    payload.write_text('{"n": 3, "text": "$(X) 😀"}', encoding="utf-8")
    code = """
def main(task):
    for _ in task.track(range(task.payload["n"]), unit="rows"): pass
    return {"text": task.payload["text"], "in": task.inputs["a"], "name": task.name}
"""
    # The plain view's interval must not delay the end.
    code = f"import longtask_worker.terminal as t\nt.PLAIN_INTERVAL = 10 * {PATIENCE}\n{code}"
    exit_code, out, err = end(start_worker(code, {}, "--payload", str(payload), "--input", "a=s3://b/c"))
    assert exit_code == 0
    assert json.loads(out) == {"text": "$(X) 😀", "in": "s3://b/c", "name": "local"}
    assert err == "3/3 (100%) rows\n"


@pytest.mark.parametrize(
    ("code", "exit_code", "words"),
    [
        ("def main(task): 1 / 0", 1, "ZeroDivisionError"),
        ("def main(task): raise PermanentError('wrong file')", 65, "wrong file"),
        ("def main(task): return object()", 65, "not JSON"),
    ],
)
def test_failures_without_a_cluster(code: str, exit_code: int, words: str) -> None:
    actual, out, err = end(start_worker(code, {}))
    assert (actual, out) == (exit_code, "")
    assert words in err


def _worker_path() -> str:
    return str(Path(__file__).parents[2] / "worker-image")
