"""What the SDK puts into the temporary directory goes with the tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="package")
def own_temporary_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before, tempfile.tempdir = tempfile.tempdir, str(tmp_path_factory.mktemp("worker"))
    yield
    tempfile.tempdir = before
