"""The base image of machines without a registry: Debian with Python's whole standard library, made once."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from devcluster import archive, requirements
from devcluster.console import Progress
from devcluster.paths import cache_root
from devcluster.process import run

SUITE = "bookworm"
IMAGE = f"localhost/longtask-base:{SUITE}"
USER = 65532  # runs what is built on it, as `nonroot`
# libstdc++: what is written in C++, such as pyarrow, comes as wheels that count on it.
_PACKAGES = "python3,python3-distutils,ca-certificates,libstdc++6"
_UNUSED = ("doc", "info", "i18n", "locale", "man")
_CONFIG = {"Cmd": ["/bin/sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}
# Perl only serves Debian's install scripts, gconv only old encodings in programs other than Python; nothing is
# installed on this base any more. The list of packages stays: scanners read it.
_HOOK = f"""
cd "$1"
echo 'nonroot:x:{USER}:{USER}:nonroot:/home/nonroot:/usr/sbin/nologin' >> etc/passwd
echo 'nonroot:x:{USER}:' >> etc/group
mkdir -p home/nonroot && chown {USER}:{USER} home/nonroot
rm -rf usr/share/perl* usr/bin/perl* usr/lib/*/perl* usr/lib/*/libperl* usr/lib/*/gconv
rm -rf var/cache/* var/lib/apt var/log/* var/lib/dpkg/info/*.md5sums usr/lib/python3.11/ensurepip
"""


def ensure(progress: Progress) -> Path:
    """Archive of the base image; made in about a minute when the cache has none."""
    target = cached()
    if target.exists():
        return target
    needed = {"mmdebstrap": "mmdebstrap", **requirements.DEBIAN_KEYS}
    requirements.install(needed, progress)
    progress.expect(1)
    with progress.step(f"Making {IMAGE} from Debian packages (about a minute)"):
        _make(target)
    return target


def cached() -> Path:
    """Where the archive lies; its name changes with everything that decides what is in it."""
    recipe = "\0".join([*_command(Path("layer.tar")), repr(_CONFIG), archive.FORMAT])
    return cache_root() / "images" / f"base-{SUITE}-{hashlib.sha256(recipe.encode()).hexdigest()[:10]}.tar"


def _make(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        layer = Path(folder) / "layer.tar"
        run(_command(layer))
        archive.write(target, layer.read_bytes(), IMAGE, _CONFIG)


def _command(layer: Path) -> list[str]:
    excluded = [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in _UNUSED]
    options = ["--variant=essential", f"--include={_PACKAGES}", '--aptopt=APT::Install-Recommends "false"']
    return ["mmdebstrap", "--quiet", *options, *excluded, f"--customize-hook={_HOOK}", SUITE, str(layer)]
