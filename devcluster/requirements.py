"""What a machine must have; as root on Debian or Ubuntu what is missing is installed, elsewhere it is named."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from devcluster.console import Progress
from devcluster.errors import DevclusterError

# file that must exist or program that must be on PATH → Debian package
CONTROL_PLANE: Mapping[str, str] = {"openssl": "openssl", "setsid": "util-linux"}
NODE: Mapping[str, str] = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
    "ip": "iproute2",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "nsenter": "util-linux",
    "mount": "mount",
    "sysctl": "procps",
}
IMAGES: Mapping[str, str] = {"buildah": "buildah", "runc": "runc", "mmdebstrap": "mmdebstrap"}
# runs alone: without its keys mmdebstrap on Ubuntu trusts no Debian archive
DEBIAN_KEYS: Mapping[str, str] = {"/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring"}


def check(kind: str, progress: Progress) -> None:
    """Make sure a cluster with nodes of that kind can run here; raises DevclusterError with what is missing."""
    if platform.system() != "Linux":
        raise DevclusterError("devcluster needs Linux; use kind or k3d here and pass its kubeconfig instead.")
    if kind == "real" and os.geteuid() != 0:
        raise DevclusterError("Real pods need root; run this with sudo, or use --nodes none or --nodes fake:N.")
    install({**CONTROL_PLANE, **(NODE if kind == "real" else {})}, progress)


def missing(needed: Mapping[str, str]) -> list[str]:
    """Packages of the files and programs that are not there, each once."""
    packages = [package for what, package in needed.items() if not _there(what)]
    return sorted(set(packages))


def _there(what: str) -> bool:
    return Path(what).exists() if what.startswith("/") else shutil.which(what) is not None


def install(needed: Mapping[str, str], progress: Progress) -> None:
    """Install the packages of what is missing, or raise DevclusterError that names them."""
    packages = missing(needed)
    if not packages:
        return
    names = " ".join(packages)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise DevclusterError(f"These packages are missing: {names}; install them and run the command again.")
    progress.expect(1)
    with progress.step(f"Installing {names}"):
        _apt(["update", "--quiet"])
        _apt(["install", "--quiet", "--yes", "--no-install-recommends", *packages])
    if left := missing(needed):
        raise DevclusterError(
            f"apt-get installed {names}, but {' '.join(left)} still lacks its files; install it by hand."
        )


def _apt(arguments: Sequence[str]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(["apt-get", *arguments], capture_output=True, text=True, check=False, env=environment)
    # an unreachable third-party source fails `update`; what matters is whether `install` then works
    if done.returncode != 0 and arguments[0] != "update":
        raise DevclusterError(
            f"apt-get {arguments[0]} failed; install the packages by hand. {done.stderr.strip()[-400:]}"
        )
