"""Starting and ending the cluster's own processes, and never another one.

A process is known by its pid and start time, recorded by the process itself before it becomes the component, and by
a mark in its environment that all its children inherit. The mark finds what a crash left unrecorded.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devcluster.errors import DevclusterError
from devcluster.paths import ClusterPaths

MARK = "LONGTASK_DEVCLUSTER"
# Arguments: pid file, log file, command. The shell keeps its pid when it becomes the command.
_LAUNCHER = 'exec >>"$2" 2>&1 </dev/null; read -r stat </proc/$$/stat; echo "$stat" >"$1"; shift 2; exec "$@"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process of the past or present; alive only while pid and start time both match."""

    pid: int
    started: int

    def alive(self) -> bool:
        """Whether exactly this process still runs; a zombie does not."""
        return read_stat(Path(f"/proc/{self.pid}/stat")) == self

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it is still this process."""
        if self.alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return


def parse_stat(line: str) -> Process | None:
    """Pid and start time out of a line of /proc/PID/stat; None for a dead process or a broken line."""
    head, _, tail = line.rpartition(")")
    fields = tail.split()
    if len(fields) < 20 or fields[0] in ("Z", "X"):
        return None
    return Process(pid=int(head.split(" ", 1)[0]), started=int(fields[19]))


def read_stat(path: Path) -> Process | None:
    """The process behind a stat file, None when it is gone."""
    try:
        return parse_stat(path.read_text())
    except (OSError, ValueError):
        return None


def recorded(paths: ClusterPaths, component: str) -> Process | None:
    """The running process of a component, None when it was not started or has ended."""
    process = read_stat(paths.pids / component)
    return process if process and process.alive() else None


def start(paths: ClusterPaths, component: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
    """Start a component in the background and return once it has recorded itself."""
    paths.pids.mkdir(parents=True, exist_ok=True)
    paths.logs.mkdir(parents=True, exist_ok=True)
    pid_file = paths.pids / component
    pid_file.unlink(missing_ok=True)
    command = ["setsid", "--fork", "/bin/sh", "-c", _LAUNCHER, component]
    subprocess.run(
        [*command, str(pid_file), str(paths.log(component)), *argv],
        check=True,
        cwd=paths.root,
        env={**os.environ, **(env or {}), MARK: str(paths.root)},
    )
    wait_for(lambda: pid_file.exists() and pid_file.stat().st_size > 0, 60, f"{component} did not start", poll=0.01)


def marked(paths: ClusterPaths) -> list[Process]:
    """Every live process that carries this cluster's mark, recorded or not."""
    wanted = f"{MARK}={paths.root}".encode()
    return [process for process in _all_processes() if wanted in _environment(process.pid)]


def _all_processes() -> Iterable[Process]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid() and (process := read_stat(folder / "stat")):
            yield process


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def end(processes: Sequence[Process], *, grace: float) -> None:
    """Ask the processes to end, wait up to `grace` seconds, then kill what is left; returns when all are gone."""
    if grace > 0:
        for process in processes:
            process.signal(signal.SIGTERM)
        _await_end(processes, grace)
    for process in processes:
        process.signal(signal.SIGKILL)
    if not _await_end(processes, 30):
        left = [process.pid for process in processes if process.alive()]
        raise DevclusterError(f"Processes {left} do not end although they were killed; look at them with ps.")


def _await_end(processes: Sequence[Process], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while any(process.alive() for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def wait_for(ready: Callable[[], bool], seconds: float, otherwise: str, *, poll: float = 0.1) -> None:
    """Wait until `ready()` holds; raises DevclusterError with `otherwise` when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise DevclusterError(f"{otherwise} within {seconds:.0f} s.")
        time.sleep(poll)


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold a lock file, also on behalf of every command that `run` starts meanwhile.

    A command that outlives a killed `up` so keeps the lock, and the `down` that follows waits for it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not path.exists() or path.stat().st_ino != os.fstat(handle.fileno()).st_ino:
            raise DevclusterError("The cluster was removed while this command waited for it; run the command again.")
        _held.add(handle.fileno())
        try:
            yield
        finally:
            _held.discard(handle.fileno())


_held: set[int] = set()


def run(argv: Sequence[str], *, check: bool = True) -> str:
    """Run a short command and return its output; its error text becomes a DevclusterError."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, pass_fds=tuple(_held))
    except FileNotFoundError:
        raise DevclusterError(f"The program {argv[0]} is missing; install it and try again.") from None
    if check and done.returncode != 0:
        reason = (done.stderr.strip() or done.stdout.strip())[-500:]
        raise DevclusterError(f"`{shlex.join(argv)}` failed with {done.returncode}: {reason}")
    return done.stdout
