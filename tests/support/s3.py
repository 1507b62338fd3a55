"""A real S3 server for tests: versitygw over a folder of its own, gone with the test that asked for it.

It listens on one address: loopback, or the one at which a devcluster's pods reach this machine. The credentials are
made up at its start and are worth nothing after its end.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tests.support.ports import free_port

REGION = "us-east-1"
LOOPBACK = "127.0.0.1"
#: Seconds that a start may take on a machine under load.
START_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class S3Server:
    """A running server with one bucket."""

    endpoint: str
    access_key: str
    secret_key: str
    bucket: str
    #: The backend: object `a/b` of a bucket is the file BUCKET/a/b below it, so tests may damage objects by hand.
    root: Path
    #: One line a request.
    access_log: Path
    process: subprocess.Popen[bytes]

    @property
    def env(self) -> dict[str, str]:
        """The variables by which every S3 client finds this server."""
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
        }

    @property
    def spec_env(self) -> list[dict[str, str]]:
        """The same as `spec.env` of a LongTask takes it."""
        return [{"name": name, "value": value} for name, value in self.env.items()]

    def client(self) -> Any:
        """A boto3 client as the owner."""
        session = boto3.session.Session(self.access_key, self.secret_key, region_name=REGION)
        return session.client("s3", endpoint_url=self.endpoint, config=Config(retries={"max_attempts": 3}))

    def uri(self, key: str = "") -> str:
        """URI of a key in the bucket."""
        return f"s3://{self.bucket}/{key}"

    def path(self, key: str) -> Path:
        """The file that holds an object."""
        return self.root / self.bucket / key

    def put(self, key: str, body: bytes) -> str:
        """Store an object and return its URI."""
        self.client().put_object(Bucket=self.bucket, Key=key, Body=body)
        return self.uri(key)

    def get(self, key: str) -> bytes:
        """The content of an object."""
        body: bytes = self.client().get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return body

    def keys(self, prefix: str = "") -> list[str]:
        """The names of all objects below a prefix."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


@contextmanager
def serve(program: Path, folder: Path, *, address: str = LOOPBACK, bucket: str = "longtask") -> Iterator[S3Server]:
    """Start *program* (versitygw) on a free port of *address*, make the bucket, end it afterwards, come what may."""
    root, sidecar, log = folder / "objects", folder / "metadata", folder / "access.log"
    for path in (root, sidecar):
        path.mkdir(parents=True)
    listen = f"{address}:{free_port(address)}"
    keys = {"ROOT_ACCESS_KEY_ID": secrets.token_hex(10), "ROOT_SECRET_ACCESS_KEY": secrets.token_hex(20)}
    command = [str(program), "--port", listen, "--health", "/health", "--access-log", str(log), "--quiet", "posix"]
    command += [*_metadata_options(root, sidecar), str(root)]
    with (folder / "output.log").open("wb") as output:
        # Nothing of this shell: VGW_* and AWS_* variables would change what the server does.
        process = subprocess.Popen(command, env=_plain_environment() | keys, stdout=output, stderr=output)
    try:
        _await_ready(process, f"http://{listen}/health", folder / "output.log")
        server = S3Server(
            endpoint=f"http://{listen}",
            access_key=keys["ROOT_ACCESS_KEY_ID"],
            secret_key=keys["ROOT_SECRET_ACCESS_KEY"],
            bucket=bucket,
            root=root,
            access_log=log,
            process=process,
        )
        server.client().create_bucket(Bucket=bucket)
        yield server
    finally:
        _end(process)


def _plain_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}


def _metadata_options(root: Path, sidecar: Path) -> list[str]:
    """Where the folder's file system has no extended attributes, metadata go into files beside it."""
    try:
        os.setxattr(root, "user.probe", b"1")
        os.removexattr(root, "user.probe")
    except OSError:
        return ["--sidecar", str(sidecar)]
    return []


def _await_ready(process: subprocess.Popen[bytes], url: str, output: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _answers(url):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"versitygw did not start: {output.read_text(errors='replace')[-1000:]}")
        time.sleep(0.05)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
