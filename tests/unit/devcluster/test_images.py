import socket
from pathlib import Path

import pytest

from devcluster import images, process
from devcluster.errors import DevclusterError
from devcluster.paths import ClusterPaths


@pytest.fixture
def paths(tmp_path: Path) -> ClusterPaths:
    """A cluster whose runtime was killed: its socket is there, and nobody listens on it."""
    paths = ClusterPaths(root=tmp_path)
    paths.node.mkdir()
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(paths.containerd_socket))
        killed.listen()
    return paths


def test_a_runtime_that_does_not_listen_yet_is_waited_for(paths: ClusterPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    (archive := paths.root / "image.tar").touch()
    listening = socket.socket(socket.AF_UNIX)
    waited: list[None] = []

    def start_late(seconds: float) -> None:
        waited.append(None)
        if len(waited) == 3:
            paths.containerd_socket.unlink()
            listening.bind(str(paths.containerd_socket))
            listening.listen()

    def run(argv: list[str]) -> str:
        assert len(waited) == 3, "it was asked before it listened"
        return "unpacking docker.io/a/b:1 (sha256:0)...done\n"

    monkeypatch.setattr(process.time, "sleep", start_late)
    monkeypatch.setattr(images, "run", run)
    with listening:
        assert images.load(paths, archive) == ["docker.io/a/b:1"]


def test_without_an_archive_nobody_is_asked(paths: ClusterPaths) -> None:
    with pytest.raises(DevclusterError, match="no image archive at"):
        images.load(paths, paths.root / "none.tar")
