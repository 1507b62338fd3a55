"""Starts operators quickly: it has imported everything once, and each operator is a fork of it.

What is forked is a real process with a process group, a log and an environment of its own, which runs
`longtask_operator.__main__.main` and can be killed like any other. One line of JSON on standard input
asks for one, `{"env": {...}, "log": path, "mutant": name}`; answers are `{"pid": n}` and, when one has
ended, `{"pid": n, "code": n}` (negative: the signal).
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
import traceback
from typing import Any

import longtask_operator.app  # noqa: F401 - this is what takes a second and a half
from longtask_operator.__main__ import main as run_operator
from tests.faults.hurry import hurry
from tests.faults.mutants import plant

_PREFIX = "LONGTASK_OPERATOR_"


def serve() -> None:
    """Fork for each line until standard input ends; then end all operators that still run."""
    wakeup, noticed = os.pipe()
    os.set_blocking(noticed, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(noticed, warn_on_full_buffer=False)
    gc.freeze()
    running: set[int] = set()
    pending = b""
    while True:
        ready, _, _ = select.select([0, wakeup], [], [])
        if wakeup in ready:
            os.read(wakeup, 4096)
            _reap(running)
        if 0 in ready:
            data = os.read(0, 65536)
            if not data:
                break
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                _say({"pid": _fork(json.loads(line), running)})
    for pid in running:
        os.kill(pid, signal.SIGKILL)


def _fork(order: dict[str, Any], running: set[int]) -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(_become_operator(order))
    running.add(pid)
    return pid


def _become_operator(order: dict[str, Any]) -> int:
    """Run the operator in the forked process and return its exit code."""
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        output = os.open(order["log"], os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
        for number in (1, 2):
            os.dup2(output, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for key in [key for key in os.environ if key.startswith(_PREFIX)]:
            del os.environ[key]
        os.environ.update(order["env"])
        hurry()
        if order.get("mutant"):
            plant(order["mutant"])
        return run_operator()
    except BaseException:
        traceback.print_exc()
        return 70
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _reap(running: set[int]) -> None:
    while running:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        running.discard(pid)
        _say({"pid": pid, "code": os.waitstatus_to_exitcode(status)})


def _say(message: dict[str, Any]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    serve()
