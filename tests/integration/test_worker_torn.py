"""A checkpoint that was cut anywhere is never resumed from: on a real S3, every object, every byte, every write."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from longtask_worker.checkpoints import Checkpoint
from longtask_worker.checkpoints.book import Book
from longtask_worker.checkpoints.layout import Reference, parse_prefix
from longtask_worker.checkpoints.place import Place
from longtask_worker.errors import StorageError
from longtask_worker.storage.s3 import S3Storage, make_client
from tests.support.s3 import S3Server

pytestmark = pytest.mark.integration

OLD, NEW = {"row": 1}, b"the newer value, in a part of its own" * 3


class DiesError(BaseException):
    """The worker was killed."""


class Mortal:
    """A storage whose worker dies at one write: before it, after it."""

    def __init__(self, storage: S3Storage, at: int, *, after: bool) -> None:
        self._storage, self._at, self._after = storage, at, after
        self.writes = 0

    def create(self, uri: str, data: bytes) -> None:
        self.writes += 1
        if self.writes == self._at and not self._after:
            raise DiesError
        self._storage.create(uri, data)
        if self.writes == self._at:
            raise DiesError

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)


@pytest.fixture
def storage(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Storage:
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    return S3Storage(make_client())


def attempt(storage: Any, base: str, number: int, resumable: Iterable[Reference] = ()) -> Checkpoint:
    place = Place(prefix=parse_prefix(f"{base}u/{number}/", "u", number))
    return Checkpoint(place, Book(resumable), storage=lambda _uri: storage)


def save(storage: Any, base: str, number: int, *values: object) -> list[Reference]:
    """Return what the operator would have accepted, newest first."""
    checkpoint, saved = attempt(storage, base, number), list[Reference]()
    checkpoint.on_saved = saved.append
    for value in values:
        checkpoint.save(value)
    return saved[::-1]


def test_no_byte_may_be_missing(storage: S3Storage, s3: S3Server, request: pytest.FixtureRequest) -> None:
    base = s3.uri(f"{request.node.name}/")
    references = save(storage, base, 1, OLD, NEW)
    prefix = references[0].uri.removeprefix(s3.uri()).rpartition("/")[0]
    keys = s3.keys(prefix + "/")
    assert sorted(Path(key).name for key in keys) == ["manifest.json", "part-00000"]
    bad = trials = 0
    for key in keys:
        whole = s3.path(key).read_bytes()
        for cut in range(len(whole)):
            s3.path(key).write_bytes(whole[:cut])
            trials += 1
            bad += attempt(storage, base, 2, references).load() != OLD
        s3.path(key).write_bytes(whole)
    assert attempt(storage, base, 2, references).load() == NEW, "whole again, it is the newest"
    assert (bad, trials) == (0, sum(len(s3.path(key).read_bytes()) for key in keys))


def test_no_byte_may_be_another(storage: S3Storage, s3: S3Server, request: pytest.FixtureRequest) -> None:
    base = s3.uri(f"{request.node.name}/")
    references = save(storage, base, 1, OLD, NEW)
    prefix = references[0].uri.removeprefix(s3.uri()).rpartition("/")[0]
    for key in s3.keys(prefix + "/"):
        whole = s3.path(key).read_bytes()
        for at in range(len(whole)):
            s3.path(key).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            assert attempt(storage, base, 2, references).load() == OLD
        s3.path(key).write_bytes(whole)


def test_objects_may_vanish(storage: S3Storage, s3: S3Server, request: pytest.FixtureRequest) -> None:
    base = s3.uri(f"{request.node.name}/")
    references = save(storage, base, 1, OLD, NEW)
    prefix = references[0].uri.removeprefix(s3.uri()).rpartition("/")[0]
    for key in s3.keys(prefix + "/"):
        whole = s3.path(key).read_bytes()
        s3.path(key).unlink()
        assert attempt(storage, base, 2, references).load() == OLD
        s3.path(key).write_bytes(whole)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_who_dies_at_a_write_leaves_the_one_before(
    storage: S3Storage, s3: S3Server, tmp_path: Path, after: bool, request: pytest.FixtureRequest
) -> None:
    """Three parts and a manifest; whatever was written, the next process of the attempt writes beside it."""
    folder = tmp_path / "state"
    folder.mkdir()
    for name in "abc":
        (folder / name).write_bytes(hashlib.sha256(name.encode()).digest() * 262_144)
    deaths = 0
    for at in itertools.count(1):
        base = s3.uri(f"{request.node.name}/{at}/")
        accepted = save(storage, base, 1, OLD)
        mortal = Mortal(storage, at, after=after)
        try:
            save(mortal, base, 1, folder)
        except DiesError:
            deaths += 1
        else:
            break
        assert attempt(storage, base, 2, accepted).load() == OLD
        again = save(storage, base, 1, NEW)
        assert attempt(storage, base, 2, again).load() == NEW
        assert len({one.uri for one in (*accepted, *again)}) == 2, "no name is used twice"
    assert deaths == 4


def test_a_server_that_is_away_is_no_fresh_start(
    storage: S3Storage, s3: S3Server, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    references = save(storage, s3.uri(f"{request.node.name}/"), 1, OLD)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "0" * 40)
    with pytest.raises(StorageError):
        attempt(S3Storage(make_client()), "s3://b/", 2, references).load(default="from nothing")
