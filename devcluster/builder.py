"""Builds images from Dockerfiles into archive files: with Docker where its daemon answers, else with buildah."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from devcluster import base_image, requirements
from devcluster.console import Progress
from devcluster.errors import DevclusterError
from devcluster.paths import cache_root
from devcluster.process import lock, run


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One image to build."""

    tag: str
    context: Path
    output: Path
    dockerfile: Path | None = None  # the one in the context
    arguments: Mapping[str, str] = field(default_factory=dict)
    parents: Sequence[Path] = ()  # archives whose images the Dockerfile may name in FROM


@functools.cache
def docker_answers() -> bool:
    """Whether a Docker daemon can be used."""
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def build(order: Order, progress: Progress) -> None:
    """Build an image and write its archive to `order.output`; raises DevclusterError with the builder's words."""
    dockerfile = order.dockerfile or order.context / "Dockerfile"
    if not dockerfile.is_file():
        raise DevclusterError(f"There is no Dockerfile at {dockerfile}; give its path with --file.")
    parents = list(order.parents)
    if base_image.IMAGE in order.arguments.values():
        parents.append(base_image.ensure(progress))
    if not docker_answers():
        requirements.install({"buildah": "buildah"}, progress)
    make = _build_with_docker if docker_answers() else _build_with_buildah
    progress.expect(1)
    with progress.step(f"Building {order.tag}"):
        order.output.parent.mkdir(parents=True, exist_ok=True)
        unfinished = order.output.with_name(f".{order.output.name}.{os.getpid()}")
        try:
            with lock(cache_root() / ".builder.lock"):
                make(order, dockerfile, parents, unfinished)
            unfinished.rename(order.output)
        finally:
            unfinished.unlink(missing_ok=True)


def _arguments(order: Order, dockerfile: Path) -> list[str]:
    values = [word for name, value in order.arguments.items() for word in ("--build-arg", f"{name}={value}")]
    return [*values, "--tag", order.tag, "--file", str(dockerfile), str(order.context)]


def _build_with_docker(order: Order, dockerfile: Path, parents: Sequence[Path], output: Path) -> None:
    for parent in parents:
        run(["docker", "load", "--quiet", "--input", str(parent)])
    run(["docker", "build", "--quiet", *_arguments(order, dockerfile)])
    run(["docker", "save", "--output", str(output), order.tag])


def _build_with_buildah(order: Order, dockerfile: Path, parents: Sequence[Path], output: Path) -> None:
    buildah = buildah_command()
    for parent in parents:
        run([*buildah, "pull", "--quiet", f"docker-archive:{parent}"])
    # chroot isolation needs no runtime and works inside containers; the cluster's runc is not involved
    options = ["--isolation", "chroot", "--layers", "--force-rm", "--quiet"]
    run([*buildah, "build", *options, *_arguments(order, dockerfile)])
    run([*buildah, "push", "--quiet", order.tag, f"docker-archive:{output}:{order.tag}"])


def export(image: str, output: Path) -> None:
    """Write an image that the builder has to an archive; raises DevclusterError when it has none of that name."""
    if docker_answers():
        run(["docker", "save", "--output", str(output), image])
    else:
        run([*buildah_command(), "push", "--quiet", image, f"docker-archive:{output}:{image}"])


def buildah_command() -> list[str]:
    """Buildah with a storage of our own in the cache, so that it meets nobody else's images.

    As root each call has mounts of its own, which end with it: buildah leaves some behind, more when it is interrupted.
    """
    storage = cache_root() / "buildah"
    command = ["buildah", "--root", str(storage / "root"), "--runroot", str(storage / "run")]
    if os.geteuid() != 0:
        return command
    fresh = 'mkdir -p "$0" && mount -t tmpfs tmpfs "$0" && exec "$@"'
    return ["unshare", "--mount", "--propagation", "slave", "/bin/sh", "-c", fresh, str(storage / "run"), *command]
