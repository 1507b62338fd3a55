"""S3 by boto3, any endpoint: what the AWS_* variables say holds. An object is created once, where the server can."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import io
import itertools
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from longtask_worker.errors import (
    AlreadyExistsError,
    ChangedError,
    MissingExtraError,
    NotFoundError,
    StorageError,
    TransferError,
)
from longtask_worker.storage.base import Stat
from longtask_worker.storage.persistence import persistently
from longtask_worker.storage.ranges import Body, RangeReader

CONNECT_SECONDS, READ_SECONDS, ATTEMPTS = 10, 60, 5
#: Keys in one request to delete, S3's own limit.
MAX_DELETE = 1000
_TAKEN = {"PreconditionFailed", "412", "ConditionalRequestConflict"}
_MISSING = {"NoSuchKey", "404", "NotFound"}
_UNKNOWN_CONDITION = {"NotImplemented", "501"}


def s3_storage() -> S3Storage:
    """Return this process's storage; MissingExtraError where boto3 is not installed."""
    return _storage_of(os.getpid())  # a client must not be shared with a forked child


@functools.cache
def _storage_of(_pid: int) -> S3Storage:
    return S3Storage(make_client())


def make_client() -> Any:
    """Return a boto3 client that the environment describes; MissingExtraError where boto3 is not installed."""
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        raise MissingExtraError(
            "s3:// needs boto3, which this image does not have; install longtask-worker[s3] in it"
        ) from None
    options: dict[str, Any] = {}
    for name in ("request_checksum_calculation", "response_checksum_validation"):
        # Servers other than Amazon's often refuse the checksums that boto3 would add by itself.
        if not os.environ.get(f"AWS_{name.upper()}"):
            options[name] = "when_required"
    retries = {"mode": "standard", "total_max_attempts": ATTEMPTS}
    config = Config(connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS, retries=retries, **options)
    with _as_storage_errors("s3://"):
        return boto3.session.Session().client("s3", config=config)


class S3Storage:
    """Objects in buckets."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._conditional = True

    def create(self, uri: str, data: bytes) -> None:
        """Store *data* under a new name; AlreadyExistsError if the name is taken."""
        place = split_uri(uri)
        checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
        if self._conditional:
            try:
                with _as_storage_errors(uri):
                    self._client.put_object(**place, Body=data, ChecksumSHA256=checksum, IfNoneMatch="*")
                return
            except _UnknownConditionError:
                self._conditional = False
        self._create_unconditionally(uri, place, data)

    def stat(self, uri: str) -> Stat:
        """Return size and ETag; NotFoundError if there is no such object."""
        with _as_storage_errors(uri):
            found = self._client.head_object(**split_uri(uri))
        return Stat(size=found["ContentLength"], version=found["ETag"].strip('"'))

    def read(self, uri: str, limit: int) -> bytes:
        """Return the object's content, at most its first *limit* bytes; NotFoundError if there is no such object."""
        return persistently(lambda: self._read_once(uri, limit))

    def _read_once(self, uri: str, limit: int) -> bytes:
        with _as_storage_errors(uri):
            found = self._client.get_object(**split_uri(uri))
            with contextlib.closing(found["Body"]) as body:
                data: bytes = body.read(limit)
        if len(data) < min(limit, found["ContentLength"]):
            raise TransferError(f"{uri}: only {len(data)} of {found['ContentLength']} bytes arrived")
        return data

    def open(self, uri: str, *, version: str | None = None) -> io.RawIOBase:
        """Return a seekable reader of the object as it is now; ChangedError if that is not *version*, now or later."""
        stat = self.stat(uri)
        if version is not None and stat.version != version:
            raise ChangedError(f"{uri} has changed")
        place = {**split_uri(uri), "IfMatch": f'"{stat.version}"'}

        def fetch(start: int, stop: int) -> Body:
            with _as_storage_errors(uri, taken=ChangedError):
                found = self._client.get_object(**place, Range=f"bytes={start}-{stop - 1}")
            return _S3Body(found["Body"], uri)

        return RangeReader(fetch, stat.size)

    def list_below(self, prefix: str) -> Iterator[str]:
        """Yield the URI of every object below *prefix*."""
        place = split_uri(prefix)
        bucket = place["Bucket"]
        with _as_storage_errors(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=place["Key"])
            for page in pages:
                for entry in page.get("Contents", ()):
                    yield f"s3://{bucket}/{entry['Key']}"

    def delete(self, uris: Iterable[str]) -> None:
        """Delete the objects; those that are gone already are no error."""
        places = [split_uri(uri) for uri in uris]
        for bucket, group in itertools.groupby(places, key=lambda place: place["Bucket"]):
            keys = [{"Key": place["Key"]} for place in group]
            for start in range(0, len(keys), MAX_DELETE):
                self._delete_batch(bucket, keys[start : start + MAX_DELETE])

    def _create_unconditionally(self, uri: str, place: dict[str, str], data: bytes) -> None:
        """For servers without conditional requests: whoever comes second finds the name taken, unless at once."""
        try:
            self.stat(uri)
        except NotFoundError:
            with _as_storage_errors(uri):
                self._client.put_object(**place, Body=data)
            return
        raise AlreadyExistsError(f"{uri} exists already")

    def _delete_batch(self, bucket: str, keys: list[dict[str, str]]) -> None:
        with _as_storage_errors(f"s3://{bucket}"):
            done = self._client.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
        for error in done.get("Errors", ()):
            raise StorageError(f"s3://{bucket}/{error.get('Key')}: {error.get('Code')} {error.get('Message')}")


def split_uri(uri: str) -> dict[str, str]:
    """Return bucket and key of an s3:// URI as boto3 names them. Nothing is unescaped: a key is what stands there."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not bucket:
        raise StorageError(f"not an s3://bucket/key URI: {uri!r}")
    return {"Bucket": bucket, "Key": key}


class _UnknownConditionError(StorageError):
    """The server does not know If-None-Match."""


class _S3Body:
    """A range of an object on its way."""

    def __init__(self, body: Any, uri: str) -> None:
        self._body = body
        self._uri = uri

    def read(self, size: int) -> bytes:
        with _as_storage_errors(self._uri):
            data: bytes = self._body.read(size)
            return data

    def close(self) -> None:
        self._body.close()


@contextmanager
def _as_storage_errors(uri: str, taken: type[StorageError] = AlreadyExistsError) -> Iterator[None]:
    """Turn what boto3 raises into a StorageError; *taken* is what a failed condition means here."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        HTTPClientError,
        NoCredentialsError,
        ParamValidationError,
        PartialCredentialsError,
    )
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ClientError as error:
        raise _translate(error.response, uri, taken) from error
    except (NoCredentialsError, PartialCredentialsError, ParamValidationError, ValueError) as error:
        raise StorageError(f"{uri}: {error}") from error
    except (BotoCoreError, HTTPClientError, HTTPError, OSError) as error:
        raise TransferError(f"{uri}: {type(error).__name__}: {error}") from error


def _translate(response: Any, uri: str, taken: type[StorageError]) -> StorageError:
    code = str(response.get("Error", {}).get("Code", ""))
    text = f"{uri}: {code} {response.get('Error', {}).get('Message', '')}".rstrip()
    if code in _TAKEN:
        return taken(text)
    if code in _MISSING:
        return NotFoundError(text)
    if code in _UNKNOWN_CONDITION:
        return _UnknownConditionError(text)
    if code in ("AccessDenied", "403"):
        text += " (S3 also says so of an object that does not exist, unless the bucket may be listed)"
    return StorageError(text)
