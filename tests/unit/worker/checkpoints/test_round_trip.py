"""What is saved is what is loaded: any JSON, any bytes, any file, any folder; in parts of any size."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longtask_worker.checkpoints import contents
from longtask_worker.checkpoints.contents import content_of, encode_json, regroup
from longtask_worker.checkpoints.layout import Prefix, Reference
from longtask_worker.checkpoints.manifest import INLINE_BYTES, PART_BYTES, CorruptError
from longtask_worker.checkpoints.reading import read_checkpoint
from longtask_worker.checkpoints.writing import Writer
from longtask_worker.errors import AlreadyExistsError, CheckpointError
from tests.support.memory_storage import MemoryStorage

PREFIX = Prefix(root="mem://ckpt/u/", attempt=1)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 200
)


def save(storage: MemoryStorage, value: object) -> Reference:
    return Writer(storage, PREFIX, lambda: None).write(content_of(value))


def saved_and_loaded(value: object, to: Path | None = None) -> Any:
    storage = MemoryStorage()
    return read_checkpoint(storage, save(storage, value), to)


@settings(max_examples=40, deadline=None)
@given(JSON)
def test_any_json(value: object) -> None:
    assert saved_and_loaded(value) == value


def test_a_small_value_is_one_object_and_a_large_one_has_parts() -> None:
    storage = MemoryStorage()
    save(storage, {"row": 5})
    assert list(storage.objects) == ["mem://ckpt/u/1/1/manifest.json"]
    large = ["x" * INLINE_BYTES]
    reference = save(storage, large)
    assert list(storage.objects)[1:] == ["mem://ckpt/u/1/2/part-00000", "mem://ckpt/u/1/2/manifest.json"]
    assert read_checkpoint(storage, reference, None) == large


@pytest.mark.parametrize("value", [{1: "a"}, {"a": [{None: 1}]}, {1, 2}, object(), float("nan"), "\ud800"])
def test_what_json_would_alter_is_refused(value: object) -> None:
    with pytest.raises(CheckpointError):
        encode_json(value)


def test_what_holds_itself_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(CheckpointError):
        content_of(endless)


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1])
def test_bytes(size: int) -> None:
    data = os.urandom(size)
    assert saved_and_loaded(data) == data
    assert saved_and_loaded(bytearray(data)) == data


@given(st.lists(st.binary(max_size=20)), st.integers(min_value=1, max_value=7))
def test_regrouping_keeps_the_bytes(pieces: list[bytes], size: int) -> None:
    groups = list(regroup(pieces, size))
    assert b"".join(groups) == b"".join(pieces)
    assert all(len(group) == size for group in groups[:-1])
    assert not groups or 0 < len(groups[-1]) <= size


@pytest.mark.parametrize("size", [0, 5, PART_BYTES + 5])
def test_a_file(tmp_path: Path, size: int) -> None:
    source = tmp_path / "model ü.bin"
    source.write_bytes(os.urandom(size))
    copy = saved_and_loaded(source)
    assert (copy.name, copy.read_bytes()) == (source.name, source.read_bytes())
    target = tmp_path / "new" / "folder" / "copy"
    assert saved_and_loaded(source, target) == target
    assert target.read_bytes() == source.read_bytes()
    assert [path.name for path in target.parent.iterdir()] == ["copy"]


def test_a_file_replaces_what_stands_at_its_place(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"new")
    target.write_bytes(b"old")
    saved_and_loaded(source, target)
    assert target.read_bytes() == b"new"


def tree(folder: Path) -> dict[str, tuple[bytes | None, int]]:
    return {
        path.relative_to(folder).as_posix(): (
            path.read_bytes() if path.is_file() else None,
            stat.S_IMODE(path.stat().st_mode) if path.is_file() else 0,
        )
        for path in folder.rglob("*")
    }


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=20
)
@given(files=st.dictionaries(st.lists(NAMES, min_size=1, max_size=3).map(tuple), st.binary(max_size=50), max_size=8))
def test_any_folder(files: dict[tuple[str, ...], bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.mktemp("folder")
    source = base / "source"
    source.mkdir()
    for names, data in files.items():
        try:
            path = source.joinpath(*names)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError:
            continue  # a file where another name wants a folder
    assert tree(saved_and_loaded(source, base / "copy")) == tree(source)


def test_a_folder_with_empty_folders_modes_and_large_files(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "empty" / "inner").mkdir(parents=True)
    (source / "empty.txt").touch()
    for name, size in (("a", 3), ("b/large", PART_BYTES + 3), ("c", 7)):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(os.urandom(size))
    (source / "a").chmod(0o750)
    copy = saved_and_loaded(source, tmp_path / "copy")
    assert tree(copy) == tree(source)
    assert tree(saved_and_loaded(tmp_path / "source" / "empty")) == {"inner": (None, 0)}


def test_a_folder_takes_few_objects(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"{number}").write_bytes(b"%d" % number)
    storage = MemoryStorage()
    save(storage, tmp_path)
    assert len(storage.objects) == 2


def test_a_folder_is_not_put_over_another_ones_files(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in (source, target):
        folder.mkdir()
        (folder / "x").write_bytes(folder.name.encode())
    with pytest.raises(CheckpointError, match="target"):
        saved_and_loaded(source, target)
    assert (target / "x").read_bytes() == b"target"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


def test_what_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such"):
        content_of(tmp_path / "missing")
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(CheckpointError, match="link"):
        save(MemoryStorage(), tmp_path)
    (tmp_path / "link").unlink()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="pipe"):
        save(MemoryStorage(), tmp_path)


def test_a_file_that_grows_while_it_is_saved_is_whole_as_it_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log").write_bytes(b"one")
    read = contents._read

    def growing(path: Path) -> Any:
        yield from read(path)
        path.write_bytes(b"one and two")

    monkeypatch.setattr(contents, "_read", growing)
    storage = MemoryStorage()
    reference = save(storage, tmp_path)
    assert (read_checkpoint(storage, reference, None) / "log").read_bytes() == b"one"


def test_numbers_rise_above_what_an_earlier_process_left() -> None:
    storage = MemoryStorage()
    storage.objects["mem://ckpt/u/1/4/part-00000"] = b"torn"
    storage.objects["mem://ckpt/u/2/9/manifest.json"] = b"another attempt's"
    assert save(storage, 1).uri == "mem://ckpt/u/1/5/manifest.json"


def test_a_taken_number_is_left_alone() -> None:
    storage = MemoryStorage()
    writer = Writer(storage, PREFIX, lambda: None)
    writer.write(content_of(1))
    storage.objects["mem://ckpt/u/1/2/manifest.json"] = b"a second process of this attempt"
    assert writer.write(content_of(2)).uri == "mem://ckpt/u/1/3/manifest.json"
    for number in range(4, 20):
        storage.objects[f"mem://ckpt/u/1/{number}/manifest.json"] = b"x"
    with pytest.raises(AlreadyExistsError):
        writer.write(content_of(3))


def test_another_manifest_than_the_accepted_one_is_corrupt() -> None:
    storage = MemoryStorage()
    reference = save(storage, 1)
    storage.objects[reference.uri] = storage.objects[save(storage, 2).uri]
    with pytest.raises(CorruptError, match="accepted"):
        read_checkpoint(storage, reference, None)
