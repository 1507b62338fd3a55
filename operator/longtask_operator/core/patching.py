"""Merge patches (RFC 7386) from the difference of two objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merge_diff(before: Mapping[str, Any], after: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """Return the merge patch that turns *before* into *after*; empty where nothing differs.

    Lists are replaced whole. Top-level keys outside *known* are left alone: a newer operator may
    have written them.
    """
    patch = _diff(before, after)
    return {key: value for key, value in patch.items() if key in known or key in after}


def _diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    patch: dict[str, Any] = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            if nested := _diff(old, value):
                patch[key] = nested
        elif key not in before or old != value:
            patch[key] = value
    return patch


def contains_null(value: Any) -> bool:
    """Return whether a null stands anywhere in *value*: a merge patch would delete its key."""
    if isinstance(value, Mapping):
        return any(contains_null(member) for member in value.values())
    return value is None or (isinstance(value, list) and any(contains_null(item) for item in value))
