from __future__ import annotations

from longtask_operator.api.errors import SpecError


def test_a_spec_error_says_where_and_what() -> None:
    error = SpecError("spec.image", "is needed")
    assert (str(error), error.path, error.message) == ("spec.image: is needed", "spec.image", "is needed")
    assert isinstance(error, ValueError)
