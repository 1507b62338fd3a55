"""No test is left out of the test command: each folder of tests is among those whose unmarked tests it runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_tests import PARTS

TESTS = Path(__file__).resolve().parents[1]
FOLDERS = sorted({path.relative_to(TESTS).parts[0] for path in TESTS.rglob("test_*.py")})


def folders(marks: str) -> set[str]:
    """Return the folders of which `all` runs the tests that *marks* selects."""
    return {
        argument.removeprefix("tests/")
        for step in PARTS["all"]
        for command in step.values()
        if marks in command
        for argument in command
        if argument.startswith("tests")
    }


@pytest.mark.parametrize("folder", FOLDERS)
def test_unmarked_tests_of_a_folder_are_run(folder: str) -> None:
    assert folder in folders("not integration and not e2e")


@pytest.mark.parametrize("mark", ["integration", "e2e"])
def test_marked_ones_are_run_wherever_they_are(mark: str) -> None:
    assert folders(mark) == {"tests"}
