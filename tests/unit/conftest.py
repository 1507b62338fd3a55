"""Fixtures of the unit tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Iterator[Any]:
    """What the test's module calls its `Bench`, closed at the end."""
    found = request.module.Bench()
    try:
        yield found
    finally:
        found.close()
