"""Writes image archives of one layer by itself, in the format of `docker save`."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FORMAT = "2"  # raised when the same content would be written differently: makes cached archives anew


def write_program_image(target: Path, program: Path, image: str) -> None:
    """An image archive whose only file, `/NAME`, is the static program, run as user 65535."""
    layer = _tar({program.name: program.read_bytes()}, mode=0o755)
    write(target, layer, image, {"User": "65535:65535", "Entrypoint": [f"/{program.name}"]})


def write(target: Path, layer: bytes, image: str, config: Mapping[str, Any]) -> None:
    """An image archive of one layer, an uncompressed tar; `target` appears only when it is complete."""
    document = {
        "architecture": _architecture(),
        "os": "linux",
        "config": config,
        "history": [{"created_by": "devcluster"}],  # builders count layers by it
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [image], "Layers": ["layer.tar"]}]
    files = {"config.json": document, "manifest.json": manifest}
    contents = {name: json.dumps(value).encode() for name, value in files.items()} | {"layer.tar": layer}
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    unfinished.write_bytes(_tar(contents, mode=0o644))
    unfinished.rename(target)


def _tar(files: dict[str, bytes], mode: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
