"""A checkpoint that was cut anywhere is never resumed from: every kind of value, on a real S3 and in files; every
object, every byte, every write. Each test counts its trials and the bad resumes among them."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from longtask_worker.checkpoints import Checkpoint, contents
from longtask_worker.checkpoints.book import Book
from longtask_worker.checkpoints.layout import Reference, parse_prefix
from longtask_worker.checkpoints.place import Place
from longtask_worker.errors import StorageError
from longtask_worker.storage import files
from longtask_worker.storage.files import FileStorage
from longtask_worker.storage.s3 import S3Storage, make_client
from tests.support.s3 import S3Server

pytestmark = pytest.mark.integration

OLD = {"row": 1}
PART = 100
KINDS = ["inline", "json", "bytes", "file", "folder"]


class DiesError(BaseException):
    """The worker was killed."""


class Mortal:
    """A storage whose worker dies at one write: before it, after it."""

    def __init__(self, storage: Any, at: int, *, after: bool) -> None:
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


@dataclass(frozen=True)
class Ground:
    """A storage, and the files behind its objects, which a test may damage."""

    storage: Any
    base: str
    root: Path

    def objects(self, reference: Reference) -> list[Path]:
        """Return the files of a checkpoint, its manifest among them."""
        folder = self.root / reference.uri.removeprefix(self.base).rpartition("/")[0]
        return sorted(path for path in folder.iterdir() if path.is_file())

    def attempt(self, number: int, resumable: Iterable[Reference] = (), storage: Any = None) -> Checkpoint:
        place = Place(prefix=parse_prefix(f"{self.base}u/{number}/", "u", number))
        return Checkpoint(place, Book(resumable), storage=lambda _uri: storage or self.storage)

    def save(self, number: int, *values: object, storage: Any = None) -> list[Reference]:
        """Return what the operator would have accepted, newest first."""
        checkpoint, saved = self.attempt(number, storage=storage), list[Reference]()
        checkpoint.on_saved = saved.append
        for value in values:
            checkpoint.save(value)
        return saved[::-1]

    def load(self, references: Iterable[Reference], to: Path | None = None) -> Any:
        """Return what the next attempt resumes from, a file or folder as what is in it."""
        return content(self.attempt(2, references).load(default="from nothing", to=to))


def content(value: Any) -> Any:
    """Return *value*, or what is in the file or folder that it names."""
    if not isinstance(value, Path):
        return value
    if value.is_file():
        return value.read_bytes()
    return {path.relative_to(value).as_posix(): path.read_bytes() for path in value.rglob("*") if path.is_file()}


@pytest.fixture(params=["s3", "file"])
def ground(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ground:
    if request.param == "file":
        return Ground(FileStorage(), (tmp_path / "claim").as_uri() + "/", tmp_path / "claim")
    s3: S3Server = request.getfixturevalue("s3")
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    prefix = f"torn/{tmp_path.name}/"
    return Ground(S3Storage(make_client()), s3.uri(prefix), s3.path(prefix))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values of some hundred bytes have several parts then; nothing else changes."""
    regroup = contents.regroup
    monkeypatch.setattr(contents, "PART_BYTES", PART)
    monkeypatch.setattr(contents, "regroup", lambda pieces: regroup(pieces, PART))


@pytest.fixture(params=KINDS)
def value(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A newer value of each kind: in the manifest itself, or in three parts."""
    data = bytes(range(256)) + b"\0"
    if request.param == "json":
        monkeypatch.setattr(contents, "INLINE_BYTES", 10)
    if request.param in ("inline", "json"):
        return {"rows": list(range(70))}
    if request.param == "bytes":
        return data
    source = tmp_path / "source"
    if request.param == "file":
        source.write_bytes(data)
        return source
    (source / "b").mkdir(parents=True)
    for name, piece in (("a", data[:130]), ("b/c", data[130:250]), ("d", data[250:]), ("empty", b"")):
        (source / name).write_bytes(piece)
    return source


def wanted(value: Any) -> Any:
    return content(value)


def damages(whole: bytes) -> Iterator[bytes]:
    """Yield every cut, every byte altered, and something behind."""
    yield from (whole[:cut] for cut in range(len(whole)))
    yield from (whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole)))
    yield whole + b"\0"
    yield whole + whole


def test_no_damaged_object_is_resumed_from(ground: Ground, value: Any, tmp_path: Path) -> None:
    references = ground.save(1, OLD, value)
    objects = ground.objects(references[0])
    parts = [path.name for path in objects if path.name != "manifest.json"]
    assert parts in ([], ["part-00000", "part-00001", "part-00002"])
    bad = trials = 0
    for path in objects:
        whole = path.read_bytes()
        for damaged in damages(whole):
            path.write_bytes(damaged)
            trials += 1
            bad += ground.load(references, tmp_path / "to") != OLD
        path.write_bytes(whole)
    assert not (tmp_path / "to").exists(), "of what is torn nothing is left behind"
    assert ground.load(references, tmp_path / "to") == wanted(value), "whole again, it is the newest"
    assert (bad, trials) == (0, sum(2 * path.stat().st_size + 2 for path in objects))


def test_objects_may_vanish_or_stand_in_another_ones_place(ground: Ground, value: Any) -> None:
    references = ground.save(1, OLD, value)
    objects = ground.objects(references[0])
    for path in objects:
        whole = path.read_bytes()
        path.unlink()
        assert ground.load(references) == OLD
        for other in objects:
            if other != path:
                path.write_bytes(other.read_bytes())
                assert ground.load(references) == OLD
        path.write_bytes(whole)
    assert ground.load(references) == wanted(value)


def test_of_several_the_newest_whole_one_is_resumed_from(ground: Ground, value: Any) -> None:
    """Whatever combination of three accepted checkpoints is torn."""
    references = ground.save(1, OLD, value, {"row": 3})
    known = [{"row": 3}, wanted(value), OLD]
    for torn in itertools.product([False, True], repeat=3):
        whole = {}
        for reference in itertools.compress(references, torn):
            path = ground.objects(reference)[-1]
            whole[path] = path.read_bytes()
            path.write_bytes(whole[path][:-1])
        expected = [one for one, is_torn in zip(known, torn, strict=True) if not is_torn]
        assert ground.load(references) == (expected[0] if expected else "from nothing")
        for path, data in whole.items():
            path.write_bytes(data)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_who_dies_at_a_write_leaves_the_one_before(ground: Ground, value: Any, after: bool) -> None:
    """Whatever was written, the next process of the attempt writes beside it."""
    deaths = 0
    accepted = ground.save(1, OLD)
    used = [one.uri for one in accepted]
    for at in itertools.count(1):
        try:
            ground.save(1, value, storage=Mortal(ground.storage, at, after=after))
        except DiesError:
            deaths += 1
        else:
            break
        assert ground.load(accepted) == OLD
        again = ground.save(1, value)
        assert ground.load([*again, *accepted]) == wanted(value)
        used += [one.uri for one in again]
    assert deaths in (1, 4), "at the manifest, or at one of three parts and the manifest"
    assert len(used) == len(set(used)), "a name is used twice"


def steps(storage_files: Any, die: Callable[[], None]) -> dict[str, Callable[..., Any]]:
    """Return for each moment of writing a file what dies there."""
    link, write = os.link, storage_files._write_durably

    def half(path: Path, data: bytes) -> None:
        write(path, data[: len(data) // 2])
        die()

    def whole(path: Path, data: bytes) -> None:
        write(path, data)
        die()

    def linked(source: Path, target: Path) -> None:
        link(source, target)
        die()

    return {"half": half, "whole": whole, "linked": linked}


@pytest.mark.parametrize("step", ["half", "whole", "linked"])
def test_who_is_killed_while_a_file_is_written_leaves_the_one_before(
    tmp_path: Path, value: Any, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of its own that ends without a word: what it had begun stays, as after kill -9."""
    ground = Ground(FileStorage(), (tmp_path / "claim").as_uri() + "/", tmp_path / "claim")
    accepted, kills = ground.save(1, OLD), 0
    for at in itertools.count(1):
        left = [at]

        def die(left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == 0:
                os._exit(9)

        child = os.fork()
        if child == 0:
            name = {"linked": "os.link"}.get(step, "_write_durably")
            dying = steps(files, die)[step]
            monkeypatch.setattr(*(("os.link", dying) if name == "os.link" else (files, name, dying)))
            ground.save(1, value)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == 0:
            break
        kills += 1
        assert ground.load(accepted) == OLD
        assert ground.load([*ground.save(1, value), *accepted]) == wanted(value)
    assert kills in (1, 4)


def test_a_large_folder_in_parts_of_real_size(ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    folder = tmp_path / "state"
    folder.mkdir()
    for name in "abc":
        (folder / name).write_bytes(hashlib.sha256(name.encode()).digest() * 262_144)
    storage = ground.storage
    references = ground.save(1, OLD, folder, storage=storage)
    objects = ground.objects(references[0])
    assert len(objects) == 4
    for path in objects:
        whole = path.read_bytes()
        for cut in (0, 1, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:cut])
            assert ground.load(references) == OLD
        path.write_bytes(whole)
    assert ground.load(references) == content(folder)


def test_a_server_that_is_away_is_no_fresh_start(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    ground = Ground(S3Storage(make_client()), s3.uri(f"torn/{tmp_path.name}/"), tmp_path)
    references = ground.save(1, OLD)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "0" * 40)
    stranger = S3Storage(make_client())
    with pytest.raises(StorageError):
        ground.attempt(2, references, storage=stranger).load(default="from nothing")
