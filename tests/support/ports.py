"""Ports for servers of tests: what one process gives out, no other process gives out at the same time.

A server listens a while after its port was chosen. Were each drawn from all ports, two that start at once would at
times draw the same one.
"""

from __future__ import annotations

import itertools
import os
import socket
import threading
from collections.abc import Iterator

#: Below those that Linux takes for connections, and below those of devcluster.
PORTS = range(12_000, 20_000)
#: How many one process has: each is given out again once all were.
SHARE = 250


class Ports:
    """Gives out ports in turn, from a share that no other process has while this one lives."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0
        self._turns: Iterator[int] = iter(())
        self._claim: socket.socket | None = None

    def free(self, address: str = "0.0.0.0") -> int:
        """Return a port of *address* on which nothing listens. Raises RuntimeError if there is none."""
        with self._lock:
            if self._owner != os.getpid():  # nor does a forked child share ours
                self._claim, share = _claimed()
                self._turns, self._owner = itertools.cycle(share), os.getpid()
            for port in itertools.islice(self._turns, SHARE):
                if _is_free(address, port):
                    return port
        raise RuntimeError(f"something listens on each of {SHARE} ports of {address}")


def _claimed() -> tuple[socket.socket, range]:
    """Return a share, and what claims it for as long as it is open."""
    starts = PORTS[::SHARE]
    first = os.getpid() % len(starts)
    for start in (*starts[first:], *starts[:first]):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0longtask-test-ports-{start}")  # a name without a file: it ends with the process
        except OSError:
            claim.close()
            continue
        return claim, range(start, start + SHARE)
    raise RuntimeError("other processes of tests have all ports; end some of them")


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True


_ports = Ports()
free_port = _ports.free
