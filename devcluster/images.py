"""Images as archive files: brought into a cluster's node, and the few the cluster itself needs."""

from __future__ import annotations

import socket
from pathlib import Path

from devcluster import archive, node
from devcluster.errors import DevclusterError
from devcluster.families import family_of
from devcluster.paths import ClusterPaths, cache_root
from devcluster.process import run, wait_for

_PATIENCE = 120  # seconds; containerd takes one, a machine under load many more


def load(paths: ClusterPaths, image_archive: Path) -> list[str]:
    """Import an image archive into the node's containerd; returns the names of the images in it."""
    if not image_archive.is_file():
        raise DevclusterError(f"There is no image archive at {image_archive}; build one with `build-image` first.")
    ctr = ["ctr", f"--address={paths.containerd_socket}", "--namespace=k8s.io"]
    silent = "containerd does not listen; see `python -m devcluster logs containerd`; it did not"
    wait_for(lambda: _listens(paths.containerd_socket), _PATIENCE, silent)
    answer = run([*ctr, "images", "import", str(image_archive)])
    return [line.split()[1] for line in answer.splitlines() if line.startswith("unpacking ")]


def _listens(path: Path) -> bool:
    # the file alone says nothing: a killed runtime leaves it
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def pause_archive(program: Path) -> Path:
    """Archive of the image whose one process holds a pod's namespaces, made once per version."""
    target = pause_cached()
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        archive.write_program_image(target, program, node.PAUSE_IMAGE)
    return target


def pause_cached() -> Path:
    """Where that archive lies."""
    return cache_root() / "images" / f"{family_of('pause').key()}-{archive.FORMAT}.tar"
