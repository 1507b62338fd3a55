from pathlib import Path

import pytest

from devcluster import base_image, binaries, cache


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LONGTASK_CACHE", str(tmp_path))
    current = binaries.cached("etcd")
    for path in (
        current,
        tmp_path / "bin" / "etcd-v0.1.0-abc" / "etcd",
        base_image.cached(),
        tmp_path / "images" / "other",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_only_what_no_pin_names_is_deleted(filled: Path) -> None:
    assert cache.prune(everything=False) == [filled / "bin" / "etcd-v0.1.0-abc"]
    assert binaries.cached("etcd").exists()
    assert base_image.cached().exists()


def test_everything_means_everything_of_this_tool(filled: Path) -> None:
    cache.prune(everything=True)
    left = [path for path in filled.rglob("*") if path.is_file()]
    assert left == [filled / "images" / "other"]  # written by others, for them to delete
