"""Files as objects: created whole and once, listed, deleted with their folders."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from longtask_worker.errors import AlreadyExistsError, ChangedError, NotFoundError, StorageError
from longtask_worker.storage import create_once
from longtask_worker.storage.files import FileStorage, path_of

STORAGE = FileStorage()


def uri(path: Path) -> str:
    return path.as_uri()


def test_an_object_comes_back_and_has_its_name_once(tmp_path: Path) -> None:
    target = uri(tmp_path / "a" / "b ü.bin")
    STORAGE.create(target, b"first")
    with pytest.raises(AlreadyExistsError):
        STORAGE.create(target, b"second")
    assert STORAGE.read(target, 100) == b"first"
    assert STORAGE.read(target, 2) == b"fi"
    assert list(STORAGE.list_below(uri(tmp_path) + "/")) == [target]  # no temporary file is left


def test_the_same_content_twice_is_no_conflict(tmp_path: Path) -> None:
    target = uri(tmp_path / "x")
    create_once(STORAGE, target, b"same")
    create_once(STORAGE, target, b"same")
    for other in (b"sam", b"same!", b"Same"):
        with pytest.raises(AlreadyExistsError):
            create_once(STORAGE, target, other)


def test_of_many_writers_one_wins(tmp_path: Path) -> None:
    target, won = uri(tmp_path / "x"), []

    def write(number: int) -> None:
        try:
            STORAGE.create(target, b"%d" % number * 1000)
            won.append(number)
        except AlreadyExistsError:
            pass

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert STORAGE.read(target, 10_000) == b"%d" % won[0] * 1000


def test_without_hard_links_a_name_is_still_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    target = uri(tmp_path / "x")
    STORAGE.create(target, b"first")
    with pytest.raises(AlreadyExistsError):
        STORAGE.create(target, b"second")
    assert STORAGE.read(target, 9) == b"first"


def test_what_is_missing_is_not_found(tmp_path: Path) -> None:
    missing = uri(tmp_path / "no" / "such")
    for ask in (STORAGE.stat, STORAGE.open):
        with pytest.raises(NotFoundError):
            ask(missing)
    with pytest.raises(NotFoundError):
        STORAGE.read(missing, 1)
    assert list(STORAGE.list_below(missing + "/")) == []
    STORAGE.delete([missing])


def test_an_object_that_changed_is_not_read_on(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"one")
    version = STORAGE.stat(uri(path)).version
    with STORAGE.open(uri(path), version=version) as reader:
        assert reader.read() == b"one"
    path.write_bytes(b"two!")
    with pytest.raises(ChangedError):
        STORAGE.open(uri(path), version=version)


def test_deleting_takes_empty_folders_along_and_no_others(tmp_path: Path) -> None:
    first, second = tmp_path / "1" / "1" / "m", tmp_path / "1" / "2" / "m"
    for path in (first, second):
        STORAGE.create(uri(path), b"")
    STORAGE.delete([uri(first)])
    assert not first.parent.exists()
    assert second.exists()
    STORAGE.delete([uri(second)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", ["file://host/x", "s3://b/x", "/tmp/x", "file://"])
def test_only_files_of_this_machine(wrong: str) -> None:
    with pytest.raises(StorageError):
        path_of(wrong)


def test_a_full_or_forbidden_disk_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        STORAGE.create(uri(tmp_path / "file" / "below"), b"x")
