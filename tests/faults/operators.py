"""Operators as processes: started by the fork server, killed, frozen, and started again when they end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.operator_process import ROOT, complaints
from tests.support.ports import free_port

#: Short, because a successor of another name must wait for it, but not so short that a busy machine ends operators.
LEASE = {
    "LONGTASK_OPERATOR_LEASE_DURATION_SECONDS": "8",
    "LONGTASK_OPERATOR_LEASE_RENEW_DEADLINE_SECONDS": "6.5",
    "LONGTASK_OPERATOR_LEASE_RETRY_SECONDS": "0.5",
}
_FENCED = "the lease is lost"


@dataclass(frozen=True, slots=True, eq=False)
class Forked:
    """A process of the fork server. Its number may be another's once it has ended: machines use them again."""

    pid: int
    ended: asyncio.Future[int] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    async def code(self) -> int:
        """Wait until it has ended and return its exit code; cancelled where nobody will ever tell."""
        return await asyncio.shield(self.ended)  # cancelling us must not cancel what others await


@dataclass(slots=True)
class ForkServer:
    """See `tests.faults.forkserver`."""

    process: asyncio.subprocess.Process
    _asked: deque[asyncio.Future[Forked]] = field(default_factory=deque)  #: it answers in this order
    _running: dict[int, Forked] = field(default_factory=dict)

    @classmethod
    async def start(cls) -> ForkServer:
        path = os.pathsep.join(str(ROOT / part) for part in ("operator", "worker-image", "."))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.faults.forkserver",
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # a signal to all of us must not end it before us: it tells when operators end
        )
        return cls(process)

    async def listen(self) -> None:
        """Take in what the fork server says, until cancelled. Raises RuntimeError if it ends before."""
        assert self.process.stdout is not None
        try:
            async for line in self.process.stdout:
                self._hear(json.loads(line))
            raise RuntimeError("the fork server ended")
        finally:
            for forked in self._running.values():
                forked.ended.cancel()

    def _hear(self, said: dict[str, int]) -> None:
        if "code" in said:
            self._running.pop(said["pid"]).ended.set_result(said["code"])
        else:
            forked, asked = Forked(said["pid"]), self._asked.popleft()
            self._running[forked.pid] = forked
            if asked.done():  # who asked was cancelled meanwhile: it would lead beside those of others
                os.kill(forked.pid, signal.SIGKILL)
            else:
                asked.set_result(forked)

    async def fork(self, env: Mapping[str, str], log: Path, mutant: str) -> Forked:
        """Start an operator and return its process."""
        assert self.process.stdin is not None
        order = {"env": dict(env), "log": str(log), "mutant": mutant}
        asked = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        return await asyncio.wait_for(asked, 60)

    async def close(self) -> None:
        """End it and every operator that it started."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), 10)


@dataclass(slots=True)
class Replica:
    """One place for an operator: its name, its ports, its log; at most one process at a time."""

    server: ForkServer
    kubeconfig: Path
    log: Path
    identity: str
    settings: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)  #: more of its environment
    mutant: str = ""
    starts: int = 0
    unexpected_ends: list[str] = field(default_factory=list)
    fenced: int = 0  #: times it ended itself because it could not renew its Lease, as it must on a machine that is slow
    _ports: tuple[int, int] = field(default_factory=lambda: (free_port(), free_port()))
    _expected_end: bool = False
    _forked: Forked | None = None

    async def start(self, identity: str | None = None) -> None:
        """Start it, under another name if one is given."""
        self.identity = identity or self.identity
        http_port, report_port = self._ports
        env = {
            "KUBECONFIG": str(self.kubeconfig),
            "LONGTASK_OPERATOR_IDENTITY": self.identity,
            "LONGTASK_OPERATOR_HTTP_PORT": str(http_port),
            "LONGTASK_OPERATOR_REPORT_PORT": str(report_port),
            "LONGTASK_OPERATOR_REPORT_HOST": "127.0.0.1",
            "LONGTASK_OPERATOR_TERMINATION_GRACE_SECONDS": "1",
            "LONGTASK_OPERATOR_KUEUE": "true",
            "LONGTASK_OPERATOR_PROGRESS_INTERVAL_SECONDS": "1",  # reports of one task are looked at no more often
            "LONGTASK_OPERATOR_CANCEL_WAIT_SECONDS": "30",  # a successor of another name needs more than 10 to come
            **LEASE,
            **self.variables,
            **{f"LONGTASK_OPERATOR_{name.upper()}": value for name, value in self.settings.items()},
        }
        self._expected_end = False
        self._forked = await self.server.fork(env, self.log, self.mutant)
        self.starts += 1

    @property
    def port(self) -> int:
        """The proxy's port that it speaks through."""
        return int(self.kubeconfig.stem.rpartition("-")[2])

    @property
    def runs(self) -> bool:
        return self._forked is not None and not self._forked.ended.done()

    async def kill(self) -> None:
        """End it as a crash does, and return once it is dead."""
        if self.runs:
            self._expected_end = True
            self._signal(signal.SIGKILL)
            await self._latest.code()

    async def ended(self) -> int:
        """Wait until its process ends; return the exit code. An end that nobody brought about is noted."""
        log_from = self.log_size()
        code = await self._latest.code()
        if not self._expected_end and code == 1 and any(_FENCED in line for line in self._lines(log_from)):
            self.fenced += 1
        elif not self._expected_end:
            self.unexpected_ends.append(f"{self.identity} ended with {code}")
        return code

    async def keep_running(self) -> None:
        """Start it and, as a kubelet does, start it again whenever it ends, until cancelled."""
        while True:
            await self.start()
            await self.ended()
            await asyncio.sleep(0.5)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        os.kill(self._latest.pid, number)

    @property
    def _latest(self) -> Forked:
        assert self._forked is not None
        return self._forked

    def says(self, event: str) -> bool:
        """Tell whether its log has a line with that event."""
        return self.log.exists() and f'"event": "{event}"'.encode() in self.log.read_bytes()

    def log_size(self) -> int:
        return self.log.stat().st_size if self.log.exists() else 0

    def complaints(self, since: int) -> list[str]:
        """Return what its log says from byte *since* on that no operator may say."""
        return complaints(self._lines(since))

    def _lines(self, since: int) -> list[str]:
        if not self.log.exists():
            return []
        with self.log.open("rb") as file:
            file.seek(since)
            return file.read().decode(errors="replace").splitlines()


async def quiet(last_write: Any, seconds: float, limit: float) -> bool:
    """Wait until *last_write* () is *seconds* ago; return False if that did not happen within *limit*."""
    until = time.monotonic() + limit
    while (left := last_write() + seconds - time.monotonic()) > 0:
        if time.monotonic() > until:
            return False
        await asyncio.sleep(min(left, 0.05))
    return True
