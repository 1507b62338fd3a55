"""Where things lie: caches are shared by all clusters and keyed by version, state belongs to one cluster."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
GO_MODULES = REPOSITORY / "tools" / "gomod"


def cache_root() -> Path:
    """Folder of everything that may be deleted and made again: binaries, images, the Go toolchain."""
    if own := os.environ.get("LONGTASK_CACHE"):
        return Path(own).absolute()
    return _xdg("XDG_CACHE_HOME", ".cache") / "longtask"


def state_root() -> Path:
    """Folder that holds one folder per cluster."""
    return _xdg("XDG_STATE_HOME", ".local/state") / "longtask" / "devcluster"


def _xdg(variable: str, fallback: str) -> Path:
    value = os.environ.get(variable)
    return Path(value).absolute() if value else Path.home() / fallback


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPaths:
    """The files of one cluster, and the names on the machine that are derived from their place.

    Every name follows from the folder's path: `down` finds them all even when `up` died before it wrote anything.
    """

    root: Path

    @classmethod
    def of(cls, name: str) -> ClusterPaths:
        """Paths of the cluster of that name; nothing is created."""
        return cls(root=state_root() / name)

    @property
    def id(self) -> str:
        """Eight characters that tell this cluster from every other on the machine."""
        return hashlib.sha256(str(self.root).encode()).hexdigest()[:8]

    @property
    def machine_name(self) -> str:
        """Name of the uplink interface and of the cgroup, and comment of the firewall rules (interfaces allow 15)."""
        return f"ltdc-{self.id}"

    @property
    def lock(self) -> Path:
        """Beside the folder, because `down` removes the folder while it holds the lock."""
        return self.root.with_name(f"{self.root.name}.lock")

    @property
    def plan(self) -> Path:
        """What was asked for and which addresses were chosen."""
        return self.root / "cluster.json"

    @property
    def kubeconfig(self) -> Path:
        """Kubeconfig of the cluster's administrator."""
        return self.root / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        """One JSON document per line, written by the API server before it answers."""
        return self.root / "audit.log"

    @property
    def pki(self) -> Path:
        """Keys, certificates and tokens; only the owner may enter."""
        return self.root / "pki"

    @property
    def logs(self) -> Path:
        """One file per component."""
        return self.root / "log"

    @property
    def pids(self) -> Path:
        """One file per component: the line of /proc/PID/stat at its start."""
        return self.root / "pid"

    @property
    def node(self) -> Path:
        """What containerd, the kubelet and CNI keep."""
        return self.root / "node"

    @property
    def containerd_socket(self) -> Path:
        """Socket of the node's container runtime."""
        return self.node / "containerd.sock"

    def log(self, component: str) -> Path:
        """Log of one component."""
        return self.logs / f"{component}.log"

    def component_kubeconfig(self, user: str) -> Path:
        """Kubeconfig of one component, with its own identity."""
        return self.pki / f"{user}.kubeconfig"
