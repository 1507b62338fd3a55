"""The size ladder: which pairs of CPU and memory an attempt may have, and which ones a spec asks for.

A rung is the task container's requests and limits alike. The ladder is a setting of
the installation; its default follows the legal pairs of AWS Fargate between 0.25 vCPU
with 0.5 GB and 4 vCPU with 8 GB.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from longtask_operator.api.errors import SpecError
from longtask_operator.api.longtask import Resources
from longtask_operator.api.quantity import MEBIBYTE, format_cpu, format_memory, parse_cpu, parse_memory


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Size:
    """One rung: CPU in millicores, memory in bytes."""

    cpu: int
    memory: int

    @property
    def display(self) -> str:
        """The size as people write it, `500m/2Gi`."""
        return f"{format_cpu(self.cpu)}/{format_memory(self.memory)}"

    def covers(self, other: Size) -> bool:
        """Whether nothing of *other* is more."""
        return self.cpu >= other.cpu and self.memory >= other.memory

    def plus(self, other: Size) -> Size:
        """Return the sum of both; it need not be a rung."""
        return Size(cpu=self.cpu + other.cpu, memory=self.memory + other.memory)


#: What the sidecar of the progress file gets, requests and limits alike.
SIDECAR = Size(cpu=10, memory=32 * MEBIBYTE)


#: The rungs, smallest CPU first, then smallest memory.
Ladder = tuple[Size, ...]


def parse_ladder(text: str) -> Ladder:
    """Return the rungs of `cpu=memory,memory;cpu=memory`, sorted.

    Raises:
        ValueError: if the text names no rung, is malformed, or has a rung of 0: that would be no limit at all.
    """
    rungs = []
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        cpu, separator, memories = part.partition("=")
        if not separator:
            raise ValueError(f"ladder: {part!r} is not of the form cpu=memory,memory")
        rungs += [
            Size(cpu=parse_cpu(cpu.strip()), memory=parse_memory(memory.strip())) for memory in memories.split(",")
        ]
    if not rungs:
        raise ValueError("ladder: at least one rung is needed")
    if any(not (rung.cpu and rung.memory) for rung in rungs):
        raise ValueError("ladder: a rung needs more than 0 CPU and more than 0 memory")
    return tuple(sorted(set(rungs)))


def pick_size(requested: Resources | None, ladder: Ladder) -> Size:
    """Return the smallest rung that is at least what was asked for; nothing asked means the smallest rung.

    Raises:
        SpecError: if a value asked for is not on the ladder, or the two make no legal pair.
    """
    return rungs_of(requested, ladder)[0]


def rungs_of(requested: Resources | None, ladder: Ladder) -> list[Size]:
    """Return the rungs that have what was asked for, the smallest first; never none. Raises like `pick_size`."""
    requested = requested or Resources()
    cpu, memory = asked_cpu("cpu", requested.cpu), asked_memory("memory", requested.memory)
    fitting = [rung for rung in ladder if cpu in (None, rung.cpu) and memory in (None, rung.memory)]
    if not fitting:
        raise SpecError("spec.resources", _advice(cpu, memory, ladder))
    return fitting


def asked_cpu(name: str, value: str | int | None) -> int | None:
    """Return the field *name* of spec.resources in millicores. Raises SpecError where it is no quantity."""
    return _asked(name, value, parse_cpu)


def asked_memory(name: str, value: str | int | None) -> int | None:
    """Return the field *name* of spec.resources in bytes. Raises SpecError where it is no quantity."""
    return _asked(name, value, parse_memory)


def _asked(name: str, value: str | int | None, parse: Callable[[str | int], int]) -> int | None:
    if value is None:
        return None
    try:
        return parse(value)
    except ValueError as error:
        raise SpecError(f"spec.resources.{name}", str(error)) from None


def _advice(cpu: int | None, memory: int | None, ladder: Ladder) -> str:
    if cpu is not None and (memories := [format_memory(rung.memory) for rung in ladder if rung.cpu == cpu]):
        return f"{format_cpu(cpu)} goes with {', '.join(memories)}; choose one of these or leave memory out"
    if cpu is not None:
        steps = ", ".join(format_cpu(step) for step in sorted({rung.cpu for rung in ladder}))
        return f"cpu must be one of {steps}, or left out"
    steps = ", ".join(format_memory(step) for step in sorted({rung.memory for rung in ladder}))
    return f"memory must be one of {steps}, or left out"
