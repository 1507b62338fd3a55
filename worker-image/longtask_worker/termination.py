"""The container's termination message: a file that the kubelet reads when the container has ended."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_PATH = "/dev/termination-log"


def termination_path(env: Mapping[str, str]) -> str:
    """Return the path of the file; LONGTASK_TERMINATION_LOG moves it, for runs without a kubelet."""
    return env.get("LONGTASK_TERMINATION_LOG") or DEFAULT_PATH


def write_whole(path: str, data: bytes) -> None:
    """Replace the file's content by *data* in a single write; OSError if that fails."""
    # Not a rename: the kubelet mounted this very file into the container.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(f"{path}: written in part only")
    finally:
        os.close(descriptor)
