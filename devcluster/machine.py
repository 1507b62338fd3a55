"""placeholder"""

from devcluster.paths import ClusterPaths


def remove(paths: ClusterPaths) -> None: ...
def networks_in_use():
    return []
