from __future__ import annotations

import pytest

from longtask_operator.core.tenancy import tenant_of


@pytest.mark.parametrize(
    ("labels", "unlabelled", "expected"),
    [
        ({}, "Own", "ns"),
        ({}, "Refuse", None),
        ({"longtask.dev/tenant": "team-a"}, "Own", "team-a"),
        ({"longtask.dev/tenant": "team-a"}, "Refuse", "team-a"),
        ({"longtask.dev/tenant": ""}, "Refuse", None),
        ({"tenant": "team-a"}, "Own", "ns"),
    ],
)
def test_the_tenant_of_a_namespace(labels: dict[str, str], unlabelled: str, expected: str | None) -> None:
    assert tenant_of("ns", labels, unlabelled=unlabelled) == expected
