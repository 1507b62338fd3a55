from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.core.patching import contains_null, merge_diff
from tests.support.sim_api import merged

ALL = frozenset("abcdef")
VALUES = st.recursive(
    st.booleans() | st.integers(-3, 3) | st.text("xy", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcdef"), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("abcdef"), VALUES, max_size=4)


@pytest.mark.parametrize(
    ("before", "after", "patch"),
    [
        ({}, {}, {}),
        ({"a": 1}, {"a": 1}, {}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": 1}, {}, {"a": None}),
        ({}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, {"a": {"c": None}}),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}, {"a": {"b": {"c": 2}}}),
        ({"a": [1, 2]}, {"a": [1]}, {"a": [1]}),
        ({"a": {"b": 1}}, {"a": [1]}, {"a": [1]}),
    ],
)
def test_a_patch_holds_what_differs(before: dict[str, Any], after: dict[str, Any], patch: dict[str, Any]) -> None:
    assert merge_diff(before, after, ALL) == patch


def test_keys_that_a_newer_operator_wrote_are_left_alone() -> None:
    assert merge_diff({"queue": {"position": 4}, "a": 1}, {}, ALL) == {"a": None}


@given(OBJECTS, OBJECTS)
def test_the_patch_makes_the_one_into_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    patch = merge_diff(before, after, ALL)
    assert merged(before, patch) == after
    assert (patch == {}) == (before == after)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, True),
        ({"a": [1, {"b": None}]}, True),
        ([[None]], True),
        ({"a": {"b": [0, "", False]}}, False),
        ("None", False),
        ({}, False),
    ],
)
def test_nulls_are_found_wherever_they_are(value: Any, expected: bool) -> None:
    assert contains_null(value) == expected
