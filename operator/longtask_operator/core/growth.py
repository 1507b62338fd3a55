"""The next larger size: memory first, along the legal pairs of the ladder, up to the task's ceiling.

Memory rises with each step and CPU only where no pair with the present one has more memory, so a
climb ends, after as many steps as the ladder has memories at most.
"""

from __future__ import annotations

from dataclasses import dataclass

from longtask_operator.api.longtask import Resources
from longtask_operator.api.quantity import format_cpu, format_memory
from longtask_operator.core.sizing import Ladder, Size, asked_cpu, asked_memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """What no size may exceed; None does not limit."""

    cpu: int | None = None  #: millicores
    memory: int | None = None  #: bytes

    def allows(self, size: Size) -> bool:
        """Whether *size* is within it."""
        return (self.cpu is None or size.cpu <= self.cpu) and (self.memory is None or size.memory <= self.memory)


def ceiling_of(resources: Resources | None) -> Ceiling:
    """Return how far a task may grow by its spec. Raises SpecError where a value is no quantity."""
    resources = resources or Resources()
    return Ceiling(cpu=asked_cpu("maxCpu", resources.max_cpu), memory=asked_memory("maxMemory", resources.max_memory))


def next_size(size: Size, ladder: Ladder, ceiling: Ceiling) -> Size | None:
    """Return the cheapest rung with more memory than *size* and no less CPU, or None where there is none."""
    larger = [rung for rung in ladder if rung.memory > size.memory and rung.cpu >= size.cpu and ceiling.allows(rung)]
    return min(larger, key=lambda rung: (rung.memory, rung.cpu), default=None)


def grown_size(size: Size, resources: Resources | None, ladder: Ladder) -> Size | None:
    """Return the size after *size* ran out of memory, or None if the task may not grow further. Raises SpecError."""
    if resources and resources.growth == "Never":
        return None
    return next_size(size, ladder, ceiling_of(resources))


def why_it_cannot_grow(size: Size, resources: Resources | None, ladder: Ladder) -> str:
    """Return what keeps a task of *size* from growing and what would let it, for a task that cannot grow."""
    resources = resources or Resources()
    if resources.growth == "Never":
        return f"the size {size.display} cannot grow: spec.resources.growth is Never"
    if next_size(size, ladder, Ceiling()) is None:
        return f"the size {size.display} cannot grow: no size of this cluster has more memory"
    ceiling = ceiling_of(resources)
    limits = [f"maxCpu is {format_cpu(ceiling.cpu)}" if ceiling.cpu is not None else ""]
    limits += [f"maxMemory is {format_memory(ceiling.memory)}" if ceiling.memory is not None else ""]
    return f"the size {size.display} cannot grow: spec.resources." + " and ".join(filter(None, limits))
