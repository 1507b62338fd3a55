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
    assert tenant_of("ns", labels, unlabelled=unlabelled, taken=False) == expected


@pytest.mark.parametrize(
    ("labels", "expected"),
    [({}, None), ({"longtask.dev/tenant": ""}, None), ({"longtask.dev/tenant": "team-a"}, "team-a")],
)
def test_no_own_name_where_other_namespaces_are_labelled_with_it(labels: dict[str, str], expected: str | None) -> None:
    assert tenant_of("ns", labels, unlabelled="Own", taken=True) == expected
