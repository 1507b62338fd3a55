from __future__ import annotations

import json
from typing import Any

import pytest

from longtask_operator.api.errors import SpecError
from longtask_operator.api.tenantquota import parse_tenantquota

FULL = {"name": "day", "windowSeconds": 60}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            {"concurrency": {"nominal": "many"}},
            "spec.concurrency.nominal: 'many' is not valid: it should be a valid int",
        ),
        ({"cohort": 7}, "spec.cohort: 7 is not valid: it should be a valid string"),
        ({"cpu": {}}, "spec.cpu.nominal: is needed"),
        ({"memory": {"nominal": []}}, "spec.memory.nominal: [] is not a quantity; write for example 500m or 2Gi"),
        ({"maxSize": {"cpu": 1.5}}, "spec.maxSize.cpu: 1.5 is not a quantity; write for example 500m or 2Gi"),
        ({"stopPolicy": "Perhaps"}, "spec.stopPolicy: 'Perhaps' is not valid: it should be 'None', 'Hold' or"),
        ({"budgets": [{"name": "day"}]}, "spec.budgets.0.windowSeconds: is needed"),
        (
            {"budgets": [FULL] * 5},
            f"spec.budgets: {json.dumps([FULL] * 5)[:60]}… is not valid: it should have at most 4",
        ),
        ({"cpu": 3}, "spec.cpu: 3 is not valid: it should be an object"),
        ({"budgets": ["day"]}, "spec.budgets.0: 'day' is not valid: it should be an object"),
        ({"cohort": "No Name"}, "spec.cohort: 'No Name' is not valid: it should match pattern"),
    ],
)
def test_what_does_not_fit_is_named_with_its_field_and_its_value(spec: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as found:
        parse_tenantquota({"metadata": {"name": "team-a"}, "spec": spec})
    assert str(found.value).startswith(said)


def test_a_long_value_is_not_shown_in_full() -> None:
    with pytest.raises(SpecError) as found:
        parse_tenantquota({"metadata": {"name": "team-a"}, "spec": {"cohort": ["x" * 10_000]}})
    assert len(str(found.value)) < 150
