"""The object store that the operators of the sweep may ask for the sizes of inputs: a real one."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from devcluster import binaries
from devcluster.console import Progress
from tests.support.s3 import S3Server, serve

#: The image whose memory follows from its inputs, and how; the other scenarios have none of it.
READER = "registry.example/reader:1"
RULES = "registry.example/reader=256Mi+150%"
SIZE = 500 * 2**20  #: of every input
#: Longer than a start of the operator on a busy machine: no trial is about a store that is too late.
WAIT_SECONDS = "25"


@dataclass(frozen=True, slots=True)
class Store:
    """A running store."""

    server: S3Server

    @property
    def settings(self) -> dict[str, str]:
        """Return what makes an operator ask it, by names in lower case."""
        return {"input_rules": RULES, "input_uris": self.server.uri(), "input_wait_seconds": WAIT_SECONDS}

    def put(self, key: str) -> str:
        """Store an input and return its URI. What an operator has asked for once, it remembers for a while."""
        uri = self.server.put(key, b"")
        with self.server.path(key).open("r+b") as file:
            file.truncate(SIZE)  # nobody reads it
        return uri

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Let it take questions and answer none, until this is over."""
        os.kill(self.server.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.server.process.pid, signal.SIGCONT)


@contextlib.contextmanager
def open_store() -> Iterator[Store]:
    """Start a store. Raises DevclusterError where its program cannot be had."""
    program = binaries.ensure(["versitygw"], Progress())["versitygw"]
    with tempfile.TemporaryDirectory(prefix="longtask-store-") as folder, serve(program, Path(folder)) as server:
        yield Store(server)
