from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.api.errors import SpecError
from longtask_operator.api.longtask import Resources
from longtask_operator.core.growth import Ceiling, ceiling_of, grown_size, next_size
from longtask_operator.core.sizing import Ladder, Size
from tests.builders import LADDER, SMALLEST

GI = 1024**3
FREE = Ceiling()


def size(cpu: int, gib: float) -> Size:
    return Size(cpu=cpu, memory=int(gib * GI))


def climb(start: Size, ladder: Ladder, ceiling: Ceiling) -> list[Size]:
    """Return all sizes from *start* to the top."""
    sizes = [start]
    while (larger := next_size(sizes[-1], ladder, ceiling)) is not None:
        sizes.append(larger)
        assert len(sizes) <= len(ladder) + 1
    return sizes


def test_memory_rises_first_and_cpu_only_where_the_pair_demands_it() -> None:
    shown = [rung.display for rung in climb(SMALLEST, LADDER, FREE)]
    assert shown == [
        "250m/512Mi", "250m/1Gi", "250m/2Gi", "500m/3Gi", "500m/4Gi", "1/5Gi", "1/6Gi", "1/7Gi", "1/8Gi"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("start", "ceiling", "expected"),
    [
        (size(250, 2), Ceiling(cpu=250), None),
        (size(250, 2), Ceiling(memory=3 * GI), size(500, 3)),
        (size(250, 2), Ceiling(memory=2 * GI), None),
        (size(2000, 4), FREE, size(2000, 8)),
        (size(2000, 4), Ceiling(memory=7 * GI), None),
        (size(4000, 8), FREE, None),
        (size(300, 0.7), FREE, size(500, 1)),
        (size(250, 20), FREE, None),
        (size(9000, 1), FREE, None),
    ],
)
def test_one_step(start: Size, ceiling: Ceiling, expected: Size | None) -> None:
    assert next_size(start, LADDER, ceiling) == expected


def test_a_task_says_how_far_it_grows() -> None:
    assert ceiling_of(None) == FREE
    assert ceiling_of(Resources(max_cpu="2", max_memory="4Gi")) == Ceiling(cpu=2000, memory=4 * GI)
    with pytest.raises(SpecError, match=r"spec\.resources\.maxMemory: 'lots' is not a quantity"):
        ceiling_of(Resources(max_memory="lots"))
    assert grown_size(SMALLEST, Resources(growth="Never"), LADDER) is None
    for growth in ("Live", "NextAttempt"):
        assert grown_size(SMALLEST, Resources.model_validate({"growth": growth}), LADDER) == size(250, 1)


RUNGS = st.builds(size, st.sampled_from([250, 500, 1000, 2000]), st.integers(1, 8))
CEILINGS = st.builds(
    Ceiling,
    cpu=st.none() | st.sampled_from([250, 500, 1000, 2000]),
    memory=st.none() | st.integers(1, 8).map(lambda gib: gib * GI),
)


@given(st.lists(RUNGS, min_size=1, unique=True), CEILINGS, RUNGS)
def test_growth_is_legal_monotone_within_the_ceiling_and_ends(rungs: list[Size], ceiling: Ceiling, start: Size) -> None:
    ladder = tuple(sorted(rungs))
    steps = climb(start, ladder, ceiling)
    for before, after in pairwise(steps):
        assert after in ladder
        assert ceiling.allows(after)
        assert after.memory > before.memory
        assert after.cpu >= before.cpu
        between = [r for r in ladder if before.memory < r.memory < after.memory and r.cpu >= before.cpu]
        assert not any(map(ceiling.allows, between))
        cheaper = [r for r in ladder if r.memory == after.memory and before.cpu <= r.cpu < after.cpu]
        assert not any(map(ceiling.allows, cheaper))
