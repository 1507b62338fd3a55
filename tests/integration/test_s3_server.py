"""The S3 server that tests use does what checkpoints lean on: conditional creates, ranges, and a clean end."""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.support.s3 import S3Server, serve

pytestmark = pytest.mark.integration


def test_an_object_is_stored_listed_and_read_back_in_ranges(s3: S3Server) -> None:
    s3.put("basic/a", b"0123456789")
    assert s3.get("basic/a") == b"0123456789"
    assert s3.keys("basic/") == ["basic/a"]
    ranged = s3.client().get_object(Bucket=s3.bucket, Key="basic/a", Range="bytes=3-5")
    assert ranged["Body"].read() == b"345"
    assert s3.path("basic/a").read_bytes() == b"0123456789"


def test_a_key_is_created_once(s3: S3Server) -> None:
    client = s3.client()
    client.put_object(Bucket=s3.bucket, Key="once", Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError) as refused:
        client.put_object(Bucket=s3.bucket, Key="once", Body=b"second", IfNoneMatch="*")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    assert s3.get("once") == b"first"


def test_strangers_are_refused(s3: S3Server) -> None:
    stranger = S3Server(**{**{name: getattr(s3, name) for name in s3.__dataclass_fields__}, "secret_key": "0" * 40})
    with pytest.raises(ClientError) as refused:
        stranger.put("stranger", b"")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_it_ends_with_its_test_also_when_that_fails(s3_program: Path, tmp_path: Path) -> None:
    seen: list[S3Server] = []

    def fail() -> None:
        with serve(s3_program, tmp_path / "s3") as server:
            assert server.process.poll() is None
            seen.append(server)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert seen[0].process.poll() is not None


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    program = tmp_path / "broken"
    program.write_text("#!/bin/sh\necho out of order >&2; exit 3\n")
    program.chmod(0o755)
    with pytest.raises(RuntimeError, match="out of order"), serve(program, tmp_path / "s3"):
        pass
