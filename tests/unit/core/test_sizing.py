from __future__ import annotations

import pytest

from longtask_operator.api.errors import SpecError
from longtask_operator.api.longtask import Resources
from longtask_operator.core.sizing import Size, parse_ladder, pick_size
from longtask_operator.settings import Settings
from tests.builders import LADDER, SMALLEST

GI = 1024**3


class TestLadder:
    def test_rungs_are_sorted_and_unique(self) -> None:
        assert parse_ladder(" 1=2Gi ; 250m=1Gi,512Mi;;1=2048Mi") == (
            SMALLEST,
            Size(cpu=250, memory=GI),
            Size(cpu=1000, memory=2 * GI),
        )

    @pytest.mark.parametrize("text", ["", ";", "1", "1=", "1=2Gi,", "one=2Gi", "0=1Gi", "1=0Mi", "1=2Gi;0m=1Gi"])
    def test_a_malformed_ladder_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"ladder|quantity"):
            parse_ladder(text)

    def test_the_default_holds_the_legal_pairs(self) -> None:
        rungs = parse_ladder(Settings.model_fields["ladder"].default)
        by_cpu = {cpu: [rung.memory / GI for rung in rungs if rung.cpu == cpu] for cpu in (250, 500, 1000, 2000, 4000)}
        assert by_cpu == {
            250: [0.5, 1, 2],
            500: [1, 2, 3, 4],
            1000: [2, 3, 4, 5, 6, 7, 8],
            2000: [4, 5, 6, 7, 8],
            4000: [8],
        }


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (None, SMALLEST),
        (Resources(), SMALLEST),
        (Resources(cpu="500m"), Size(cpu=500, memory=GI)),
        (Resources(cpu="0.5"), Size(cpu=500, memory=GI)),
        (Resources(cpu=1), Size(cpu=1000, memory=2 * GI)),
        (Resources(memory="2Gi"), Size(cpu=250, memory=2 * GI)),
        (Resources(memory="8Gi"), Size(cpu=1000, memory=8 * GI)),
        (Resources(cpu="2", memory="4096Mi"), Size(cpu=2000, memory=4 * GI)),
    ],
)
def test_the_smallest_rung_that_was_asked_for(resources: Resources | None, expected: Size) -> None:
    assert pick_size(resources, LADDER) == expected


@pytest.mark.parametrize(
    ("resources", "error"),
    [
        (Resources(cpu="3"), "spec.resources: cpu must be one of 250m, 500m, 1, 2, 4, or left out"),
        (Resources(memory="9Gi"), "spec.resources: memory must be one of 512Mi, 1Gi, 2Gi, 3Gi"),
        (Resources(cpu="4", memory="1Gi"), "spec.resources: 4 goes with 8Gi; choose one of these or leave memory out"),
        (Resources(cpu="much"), "spec.resources.cpu: 'much' is not a quantity"),
        (Resources(memory="1gb"), "spec.resources.memory: '1gb' is not a quantity"),
        (Resources(memory=0), "spec.resources: memory must be one of"),
    ],
)
def test_what_is_not_on_the_ladder_is_answered_with_advice(resources: Resources, error: str) -> None:
    with pytest.raises(SpecError) as caught:
        pick_size(resources, LADDER)
    assert str(caught.value).startswith(error)


def test_a_size_for_people() -> None:
    assert Size(cpu=500, memory=2 * GI).display == "500m/2Gi"
