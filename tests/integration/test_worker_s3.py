"""The worker's S3 storage on a real server: created once, read in ranges, and its errors told apart."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from longtask_worker.errors import AlreadyExistsError, ChangedError, NotFoundError, StorageError, TransferError
from longtask_worker.storage import create_once, s3
from longtask_worker.storage.s3 import S3Storage, make_client
from tests.support.s3 import S3Server

pytestmark = pytest.mark.integration


@pytest.fixture
def storage(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Storage:
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    return S3Storage(make_client())


@pytest.fixture
def base(s3: S3Server, request: pytest.FixtureRequest) -> str:
    return s3.uri(f"{request.node.name}/")


def test_an_object_has_its_name_once(storage: S3Storage, base: str) -> None:
    storage.create(base + "x", b"first")
    with pytest.raises(AlreadyExistsError):
        storage.create(base + "x", b"second")
    assert storage.read(base + "x", 100) == b"first"
    create_once(storage, base + "x", b"first")
    with pytest.raises(AlreadyExistsError):
        create_once(storage, base + "x", b"firs")


def test_of_many_writers_one_wins(storage: S3Storage, base: str) -> None:
    won: list[int] = []

    def write(number: int) -> None:
        try:
            storage.create(base + "x", b"%d" % number * 100_000)
            won.append(number)
        except AlreadyExistsError:
            pass

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert storage.read(base + "x", 200_000) == b"%d" % won[0] * 100_000


@pytest.mark.parametrize("size", [0, 1, 100_000, 9_000_000])
def test_content_of_any_size(storage: S3Storage, base: str, size: int) -> None:
    data = os.urandom(size)
    storage.create(base + "x", data)
    assert storage.stat(base + "x").size == size
    assert storage.read(base + "x", size + 1) == data
    with storage.open(base + "x") as reader:
        assert b"".join(iter(lambda: reader.read(70_001) or b"", b"")) == data
        if size:
            reader.seek(size // 2)
            assert reader.read(10) == data[size // 2 :][:10]


def test_names_with_strange_characters(storage: S3Storage, base: str) -> None:
    uri = base + "a b/ü+%20&=.csv"
    storage.create(uri, b"x")
    assert list(storage.list_below(base)) == [uri]
    assert storage.read(uri, 9) == b"x"
    storage.delete([uri, uri + "-never-there"])
    assert list(storage.list_below(base)) == []


def test_long_lists_are_listed_and_deleted_whole(storage: S3Storage, base: str, s3: S3Server) -> None:
    folder = s3.path(base.removeprefix(s3.uri()) + "many")
    folder.mkdir(parents=True)
    for number in range(1500):
        (folder / f"{number:04d}").touch()
    found = list(storage.list_below(base))
    assert len(found) == 1500
    storage.delete(found)
    assert list(storage.list_below(base)) == []


def test_what_is_missing_is_not_found(storage: S3Storage, base: str) -> None:
    for ask in (storage.stat, storage.open):
        with pytest.raises(NotFoundError):
            ask(base + "x")
    with pytest.raises(NotFoundError):
        storage.read(base + "x", 1)


def test_an_object_that_is_replaced_while_it_is_read_is_not_mixed(storage: S3Storage, base: str, s3: S3Server) -> None:
    key = base.removeprefix(s3.uri()) + "x"
    s3.put(key, b"a" * 500_000)
    version = storage.stat(base + "x").version
    with storage.open(base + "x", version=version) as reader:
        assert reader.read(1000) == b"a" * 1000
        s3.put(key, b"b" * 500_000)
        with pytest.raises(ChangedError):
            list(iter(lambda: reader.read(100_000) or b"", b""))
    with pytest.raises(ChangedError):
        storage.open(base + "x", version=version)


def test_a_stranger_is_refused_and_that_is_no_absence(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**s3.env, "AWS_SECRET_ACCESS_KEY": "0" * 40}.items():
        monkeypatch.setenv(name, value)
    stranger = S3Storage(make_client())
    for action in (lambda: stranger.read(s3.uri("x"), 1), lambda: stranger.create(s3.uri("x"), b"")):
        with pytest.raises(StorageError) as error:
            action()
        assert type(error.value) is StorageError


def test_nobody_listening_is_a_transfer_that_broke(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**s3.env, "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TransferError):
        S3Storage(make_client()).create(s3.uri("x"), b"")


def test_without_credentials_it_says_so(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.endpoint)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nonexistent")
    with pytest.raises(StorageError, match="credentials"):
        S3Storage(make_client()).create(s3.uri("x"), b"")


def test_a_slow_server_is_waited_for(storage: S3Storage, base: str, s3: S3Server) -> None:
    """It stands still for a second, in the middle of whatever it does."""
    with ThreadPoolExecutor(1) as pool:
        s3.process.send_signal(signal.SIGSTOP)
        try:
            writing = pool.submit(storage.create, base + "x", b"x")
            with pytest.raises(TimeoutError):
                writing.result(1.0)
        finally:
            s3.process.send_signal(signal.SIGCONT)
        writing.result(60)
    assert storage.read(base + "x", 9) == b"x"


def test_a_client_belongs_to_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert s3.s3_storage() is s3.s3_storage()
    mine = s3.s3_storage()
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert s3.s3_storage() is not mine
