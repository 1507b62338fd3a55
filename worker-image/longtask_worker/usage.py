"""What the task consumes, as its container sees it."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUPS = (("memory.current", "inactive_file"), ("memory/memory.usage_in_bytes", "total_inactive_file"))


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and its ended children."""
    times = os.times()
    return round(times.user + times.system + times.children_user + times.children_system, 2)


def memory_bytes(cgroup: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc/self")) -> int | None:
    """Return the working set of the container as the kubelet counts it, else of this process; None if unknown."""
    for current, inactive in _CGROUPS:
        used = _working_set(cgroup / current, inactive)
        if used is not None:
            return used
    return _resident(proc / "status")


def _working_set(current: Path, inactive: str) -> int | None:
    try:
        used = int(current.read_text())
        statistics = current.with_name("memory.stat").read_text()
    except (OSError, ValueError):
        return None
    return max(used - _field(statistics, inactive), 0)


def _resident(status: Path) -> int | None:
    try:
        return _field(status.read_text(), "VmRSS:") * 1024 or None
    except OSError:
        return None


def _field(text: str, name: str) -> int:
    """Return the number after *name* at the start of a line, 0 if there is none."""
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == name and words[1].isdigit():
            return int(words[1])
    return 0
