"""Removes every trace of a cluster. Needs no record, only the path of its folder, so it also works after a crash."""

from __future__ import annotations

import shutil

from devcluster import machine, process
from devcluster.paths import ClusterPaths


def remove(paths: ClusterPaths) -> None:
    """End the cluster's processes and pods, give back what it took from the machine, delete its folder."""
    stop(paths)
    if paths.root.exists():
        shutil.rmtree(paths.root)


def stop(paths: ClusterPaths) -> None:
    """End everything that runs, but keep the folder with its logs."""
    # The runtime and its shims first: afterwards nobody starts a container any more. Looking again until nobody is
    # found catches what was being started meanwhile.
    while found := process.marked(paths):
        process.end(found, grace=0)
    machine.remove(paths)
