"""Gives the path of a program of exactly the pinned version: from the cache, from PATH, else compiled.

Compiled programs lie in the cache below a key of version and digest, so a changed pin never meets an old program.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from devcluster import golang
from devcluster.console import Progress
from devcluster.errors import DevclusterError
from devcluster.families import Family, family_of, states_version
from devcluster.paths import cache_root
from devcluster.process import lock

_PACKAGE_LINE = re.compile(r"[\w.-]+(/[\w.+-]+)*")


def ensure(tools: Sequence[str], progress: Progress) -> dict[str, Path]:
    """Path of each program; those that are missing are built one after the other, which may take minutes."""
    found = {tool: path for tool in tools if (path := find(tool))}
    missing = [tool for tool in tools if tool not in found]
    progress.expect(len(missing))
    for tool in missing:
        with progress.step(f"Compiling {tool} {family_of(tool).version()}"):
            found[tool] = build(tool, progress)
    return {tool: found[tool] for tool in tools}


def cached(tool: str) -> Path:
    """Where the program lies in the cache once it is built."""
    return cache_root() / "bin" / family_of(tool).key() / tool


def find(tool: str) -> Path | None:
    """The program of the right version, when the cache or PATH has it."""
    if cached(tool).exists():
        return cached(tool)
    family = family_of(tool)
    installed = shutil.which(tool) if family.module else None
    return Path(installed) if installed and _right_version(installed, tool, family) else None


def _right_version(program: str, tool: str, family: Family) -> bool:
    try:
        answer = subprocess.run([program, *family.question(tool)], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return states_version(answer.stdout + answer.stderr, family.version())


def build(tool: str, progress: Progress) -> Path:
    """Compile one program into the cache and return its path; a build of the same by someone else is waited for."""
    target = cached(tool)
    target.parent.mkdir(parents=True, exist_ok=True)
    with lock(target.parent / ".lock"):
        if not target.exists():
            unfinished = target.with_name(f".{tool}.{os.getpid()}")
            try:
                _compile(golang.find_go(progress), tool, unfinished, progress)
                unfinished.rename(target)
            finally:
                unfinished.unlink(missing_ok=True)
    return target


def build_command(go: str, tool: str, output: Path) -> list[str]:
    """The `go build` that makes a program; the same everywhere, so the result is too."""
    family = family_of(tool)
    flags = ["-trimpath", "-buildvcs=false", "-v", *_tags(family), "-ldflags", " ".join(family.linker_flags())]
    return [go, "build", "-C", str(family.folder), *flags, "-o", str(output), family.tools[tool]]


def _tags(family: Family) -> list[str]:
    return ["-tags", family.tags] if family.tags else []


def _compile(go: str, tool: str, output: Path, progress: Progress) -> None:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    progress.detail("fetching Go modules")
    total = _package_count(go, tool, environment)
    progress.detail(f"{total} packages, those compiled before come from Go's cache")
    command = build_command(go, tool, output)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        errors = _follow(process.stderr, total, progress)
    if process.returncode != 0:
        raise DevclusterError(f"Compiling {tool} failed: {' '.join(errors)[-600:]}")


def _package_count(go: str, tool: str, environment: dict[str, str]) -> int:
    family = family_of(tool)
    command = [go, "list", "-C", str(family.folder), *_tags(family), "-deps", family.tools[tool]]
    listed = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return len(listed.stdout.splitlines())


def _follow(lines: Iterator[str], total: int, progress: Progress) -> list[str]:
    """Show every 15 s how many packages are compiled; returns the lines that are no package, which are errors."""
    errors: list[str] = []
    compiled = 0
    shown = time.monotonic()
    for line in lines:
        if _PACKAGE_LINE.fullmatch(line.strip()):
            compiled += 1
        elif not line.startswith("go: downloading"):
            errors.append(line.strip())
        if time.monotonic() - shown > 15:
            shown = time.monotonic()
            progress.detail(f"{compiled} of at most {total} packages compiled")
    return errors
