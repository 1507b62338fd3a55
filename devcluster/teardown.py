"""Removes every trace of a cluster; needs no record of it, only the path of its folder, so it also works after a crash."""

from __future__ import annotations

import shutil

from devcluster import machine, process
from devcluster.paths import ClusterPaths


def remove(paths: ClusterPaths) -> None:
    """End the cluster's processes and pods, give back what it took from the machine, delete its folder."""
    stop(paths)
    shutil.rmtree(paths.root, ignore_errors=False) if paths.root.exists() else None


def stop(paths: ClusterPaths) -> None:
    """End everything that runs, but keep the folder with its logs."""
    # the containers first: without a runtime nobody starts new ones, and the control plane is not asked
    process.end(process.marked(paths), grace=0)
    machine.remove(paths)
